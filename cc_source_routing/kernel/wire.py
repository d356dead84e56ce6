"""Routes, rules and link groups as netlink messages: bytes out, bytes in.  Pure.

Routes and rules come by the hundred (N NICs have N tables), and a general
library takes a tenth of a millisecond for each; this codec knows just these
messages and takes a hundredth.  Formats: rtnetlink(7), netlink(7),
linux/rtnetlink.h, linux/fib_rules.h.  All integers are in host byte order.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from ..model import IPAddress, IPNetwork, Route, Rule

AF = {4: 2, 6: 10}
FAMILY = {2: 4, 10: 6}

NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
RTM_SETLINK, IFLA_GROUP = 19, 27
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x1, 0x4, 0x10, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400

RTA_DST, RTA_SRC, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY = 1, 2, 4, 5, 6
RTA_MULTIPATH, RTA_TABLE, RTA_VIA, RTA_PREF = 9, 15, 18, 20
RTNH_F_ONLINK = 0x04
RTM_F_CLONED, RTM_F_LOOKUP_TABLE, RTM_F_FIB_MATCH = 0x200, 0x1000, 0x2000
ROUTE_TYPES = {
    1: "unicast",
    2: "local",
    3: "broadcast",
    4: "anycast",
    5: "multicast",
    6: "blackhole",
    7: "unreachable",
    8: "prohibit",
    9: "throw",
}
ROUTE_TYPE_NUMBERS = {name: number for number, name in ROUTE_TYPES.items()}
RT_TABLE_COMPAT = 252  # in the one-byte field when the table needs more

FRA_DST, FRA_SRC, FRA_PRIORITY, FRA_FWMARK, FRA_TABLE, FRA_FWMASK = 1, 2, 6, 10, 15, 16
FRA_SUPPRESS_IFGROUP, FRA_SUPPRESS_PREFIXLEN = 13, 14
FRA_OIFNAME, FRA_PROTOCOL = 17, 21
# Rule attributes that `Rule` has a field for; a rule with any other is foreign.
KNOWN_RULE_ATTRIBUTES = frozenset(
    (
        FRA_DST,
        FRA_SRC,
        FRA_PRIORITY,
        FRA_FWMARK,
        FRA_TABLE,
        FRA_FWMASK,
        FRA_SUPPRESS_IFGROUP,
        FRA_SUPPRESS_PREFIXLEN,
        FRA_OIFNAME,
        FRA_PROTOCOL,
    )
)
FR_ACT_TO_TBL = 1
FIB_RULE_INVERT = 0x2
NO_SUPPRESSION = 0xFFFFFFFF

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg
_RULE = struct.Struct("=BBBBBBBBI")  # struct fib_rule_hdr
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_NEXT_HOP = struct.Struct("=HBBi")  # struct rtnexthop
_U32 = struct.Struct("=I")
ANYWHERE: Dict[int, IPNetwork] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}

Attributes = Dict[int, bytes]


class Message(NamedTuple):
    kind: int
    flags: int
    sequence: int
    body: bytes


# -- out -----------------------------------------------------------------------


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """A netlink message with its header; the kernel fills in our port id."""
    length = _HEADER.size + len(body)
    padding = b"\0" * (-length % 4)
    return _HEADER.pack(length, kind, NLM_F_REQUEST | flags, sequence, 0) + body + padding


def route_body(route: Route, oif: int) -> bytes:
    """The rtmsg of a route; `oif` is the index of its interface, 0 for none."""
    parts = [
        _ROUTE.pack(
            AF[route.dst.version],
            route.dst.prefixlen,
            0,
            0,
            route.table if route.table < 256 else RT_TABLE_COMPAT,
            route.protocol,
            route.scope,
            ROUTE_TYPE_NUMBERS[route.type],
            RTNH_F_ONLINK if route.onlink else 0,
        ),
        _number(RTA_TABLE, route.table),
    ]
    if route.dst.prefixlen:
        parts.append(_attribute(RTA_DST, route.dst.network_address.packed))
    if route.metric:
        parts.append(_number(RTA_PRIORITY, route.metric))
    if route.gateway is not None:
        parts.append(_attribute(RTA_GATEWAY, route.gateway.packed))
    if oif:
        parts.append(_number(RTA_OIF, oif))
    return b"".join(parts)


def rule_body(rule: Rule) -> bytes:
    """The fib_rule_hdr and attributes of a rule."""
    source_length = rule.src.prefixlen if rule.src is not None else 0
    destination_length = rule.dst.prefixlen if rule.dst is not None else 0
    table = rule.table if rule.table < 256 else RT_TABLE_COMPAT
    parts = [
        _RULE.pack(
            AF[rule.family], destination_length, source_length, 0, table, 0, 0, FR_ACT_TO_TBL, 0
        ),
        _number(FRA_TABLE, rule.table),
        _number(FRA_PRIORITY, rule.priority),
    ]
    if rule.src is not None:
        parts.append(_attribute(FRA_SRC, rule.src.network_address.packed))
    if rule.dst is not None:
        parts.append(_attribute(FRA_DST, rule.dst.network_address.packed))
    if rule.oif:
        parts.append(_attribute(FRA_OIFNAME, rule.oif.encode() + b"\0"))
    if rule.fwmark:
        parts += [_number(FRA_FWMARK, rule.fwmark), _number(FRA_FWMASK, rule.fwmask)]
    if rule.suppress_prefixlength is not None:
        parts.append(_number(FRA_SUPPRESS_PREFIXLEN, rule.suppress_prefixlength))
    if rule.suppress_ifgroup is not None:
        parts.append(_number(FRA_SUPPRESS_IFGROUP, rule.suppress_ifgroup))
    if rule.protocol:
        parts.append(_attribute(FRA_PROTOCOL, bytes((rule.protocol,))))
    return b"".join(parts)


def group_body(index: int, group: int) -> bytes:
    """The ifinfomsg that puts a link into an interface group."""
    return _LINK.pack(0, 0, index, 0, 0) + _number(IFLA_GROUP, group)


def lookup_body(destination: IPAddress, source: Optional[IPAddress], oif: int) -> bytes:
    """A question for one route, to be answered with the matched entry (fibmatch)."""
    bits = destination.max_prefixlen
    source_bits = bits if source is not None else 0
    family = AF[destination.version]
    # IPv4 tells the table only when asked, IPv6 always and refuses the question.
    flags = RTM_F_FIB_MATCH | (RTM_F_LOOKUP_TABLE if destination.version == 4 else 0)
    parts = [
        _ROUTE.pack(family, bits, source_bits, 0, 0, 0, 0, 0, flags),
        _attribute(RTA_DST, destination.packed),
    ]
    if source is not None:
        parts.append(_attribute(RTA_SRC, source.packed))
    if oif:
        parts.append(_number(RTA_OIF, oif))
    return b"".join(parts)


def route_filter(family: int, kind: str = "", protocol: int = 0) -> bytes:
    """The header of a route dump that the kernel filters (NETLINK_GET_STRICT_CHK)."""
    number = ROUTE_TYPE_NUMBERS[kind] if kind else 0
    return _ROUTE.pack(AF[family], 0, 0, 0, 0, protocol, 0, number, 0)


def rule_filter(family: int) -> bytes:
    return _RULE.pack(AF[family], 0, 0, 0, 0, 0, 0, 0, 0)


# -- in ------------------------------------------------------------------------


def messages(data: bytes) -> Iterator[Message]:
    """The messages in one datagram; a cut-off one ends it."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, flags, sequence, _port = _HEADER.unpack_from(data, at)
        if length < _HEADER.size or at + length > len(data):
            return
        yield Message(kind, flags, sequence, data[at + _HEADER.size : at + length])
        at += length + (-length % 4)


def error_number(body: bytes) -> int:
    """The errno of an NLMSG_ERROR, 0 for an acknowledgement."""
    return -int(struct.unpack_from("=i", body)[0])


def routes_of(body: bytes, name: Callable[[int], str]) -> List[Route]:
    """The paths of an rtmsg, one `Route` a hop.

    None for cached clones, other families, and routes for one type of service:
    no rule of ours selects by that.
    """
    family_number, dst_length, _src, tos, table, protocol, scope, kind, flags = _ROUTE.unpack_from(
        body
    )
    family = FAMILY.get(family_number)
    if family is None or tos or flags & RTM_F_CLONED:
        return []
    attributes = read_attributes(body, _ROUTE.size)
    table_bytes = attributes.get(RTA_TABLE)
    metric = attributes.get(RTA_PRIORITY)
    base = Route(
        table=_U32.unpack(table_bytes)[0] if table_bytes else table,
        dst=_network(family, attributes.get(RTA_DST), dst_length),
        metric=_U32.unpack(metric)[0] if metric else 0,
        protocol=protocol,
        scope=scope,
        type=ROUTE_TYPES.get(kind, str(kind)),
        preference=_preference(attributes),
    )
    if base.type != "unicast":
        return [base]
    if RTA_MULTIPATH in attributes:
        return [
            _hop(base, hop, index, hop_flags, name)
            for index, hop_flags, hop in _next_hops(attributes[RTA_MULTIPATH])
        ]
    oif = attributes.get(RTA_OIF)
    return [_hop(base, attributes, _U32.unpack(oif)[0] if oif else 0, flags, name)]


def rule_of(body: bytes) -> Optional[Rule]:
    """The rule in a fib_rule_hdr message; None for other families."""
    family_number, dst_length, src_length, tos, table, _r1, _r2, action, flags = _RULE.unpack_from(
        body
    )
    family = FAMILY.get(family_number)
    if family is None:
        return None
    attributes = read_attributes(body, _RULE.size)
    other = [
        (f"FRA_{number}", value.hex())
        for number, value in attributes.items()
        if number not in KNOWN_RULE_ATTRIBUTES
    ]
    if tos:
        other.append(("tos", str(tos)))
    if action != FR_ACT_TO_TBL:
        other.append(("action", str(action)))
    if flags & FIB_RULE_INVERT:
        other.append(("invert", "1"))
    protocol = attributes.get(FRA_PROTOCOL, b"\0")
    return Rule(
        family=family,
        priority=_value(attributes, FRA_PRIORITY),
        table=_value(attributes, FRA_TABLE, table),
        src=_network(family, attributes.get(FRA_SRC), src_length) if src_length else None,
        dst=_network(family, attributes.get(FRA_DST), dst_length) if dst_length else None,
        oif=attributes.get(FRA_OIFNAME, b"").rstrip(b"\0").decode("ascii", "replace"),
        fwmark=_value(attributes, FRA_FWMARK),
        fwmask=_value(attributes, FRA_FWMASK),
        suppress_prefixlength=_suppression(attributes, FRA_SUPPRESS_PREFIXLEN),
        suppress_ifgroup=_suppression(attributes, FRA_SUPPRESS_IFGROUP),
        protocol=protocol[0],
        other=tuple(sorted(other)),
    )


# -- pieces --------------------------------------------------------------------


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + b"\0" * (-length % 4)


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, _U32.pack(value))


def read_attributes(data: bytes, at: int) -> Attributes:
    """The attributes of a message from `at` on, or of a nested attribute, by number."""
    found: Attributes = {}
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            break
        # The two high bits are flags (nested, network byte order).
        found[kind & 0x3FFF] = data[at + _ATTRIBUTE.size : at + length]
        at += length + (-length % 4)
    return found


def _next_hops(data: bytes) -> Iterator[Tuple[int, int, Attributes]]:
    at = 0
    while at + _NEXT_HOP.size <= len(data):
        length, flags, _weight, index = _NEXT_HOP.unpack_from(data, at)
        if length < _NEXT_HOP.size:
            return
        yield index, flags, read_attributes(data[at : at + length], _NEXT_HOP.size)
        at += length + (-length % 4)


def _hop(
    base: Route, attributes: Attributes, index: int, flags: int, name: Callable[[int], str]
) -> Route:
    gateway = attributes.get(RTA_GATEWAY)
    if gateway is None and RTA_VIA in attributes:
        gateway = attributes[RTA_VIA][2:]  # struct rtvia: the family goes before
    return base._replace(
        dev=name(index) if index else "",
        gateway=ip_of(gateway) if gateway else None,
        onlink=bool(flags & RTNH_F_ONLINK),
    )


def _preference(attributes: Attributes) -> int:
    """RFC 4191 2.1: two bits, signed; what is reserved counts as medium."""
    return {b"\1": 1, b"\3": -1}.get(attributes.get(RTA_PREF, b""), 0)


def ip_of(packed: bytes) -> IPAddress:
    """An address from its bytes in network order."""
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


def _network(family: int, packed: Optional[bytes], length: int) -> IPNetwork:
    if packed is None:
        return ANYWHERE[family] if length == 0 else _network(family, b"\0" * 16, length)
    number = int.from_bytes(packed[: 4 if family == 4 else 16], "big")
    return IPv4Network((number, length)) if family == 4 else IPv6Network((number, length))


def _value(attributes: Attributes, kind: int, default: int = 0) -> int:
    value = attributes.get(kind)
    return default if value is None else int(_U32.unpack(value)[0])


def _suppression(attributes: Attributes, kind: int) -> Optional[int]:
    value = _value(attributes, kind, NO_SUPPRESSION)
    return None if value == NO_SUPPRESSION else value
