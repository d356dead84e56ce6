"""Convert rtnetlink messages to model values, and model values to message fields.  Pure.

A message has pyroute2's form: a mapping with the fields of the header
(``message["table"]``) and, under ``attrs``, pairs of an attribute's name and
value.  Pyroute2 decodes an attribute when its value is read.  Since a host may
have many thousand routes, this module reads only what the model has a field for.
Formats: rtnetlink(7), linux/rtnetlink.h, linux/fib_rules.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network
from typing import Any, Callable, NamedTuple, Union

from ..model import ANYWHERE, Address, IPAddress, IPNetwork, Link, Neighbour, Route, Rule

# struct nlmsghdr (type, flags, sequence number and port id follow the length), struct rtmsg
# (linux/rtnetlink.h) and struct rtattr.
NLMSG, RTMSG, RTATTR = struct.Struct("=IHHII"), struct.Struct("=8BI"), struct.Struct("=HH")
ALIGNMENT = 4

# Address families by IP version, and back (linux/socket.h).
AF = {4: 2, 6: 10}
FAMILY = {2: 4, 10: 6}

# linux/rtnetlink.h
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_GETNEIGH = 28, 30
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
GONE = frozenset((RTM_DELLINK, RTM_DELADDR, RTM_DELROUTE, RTM_DELRULE))
RTA_DST, RTA_TABLE = 1, 15
RTNH_F_ONLINK = 0x04
RTM_F_CLONED, RTM_F_LOOKUP_TABLE, RTM_F_FIB_MATCH = 0x200, 0x1000, 0x2000
RT_TABLE_COMPAT = 252  # in the one-byte field when the table number does not fit
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
# Those that can end a lookup, except the types of table local.
LOOKUP_TYPES = ("unicast", "blackhole", "unreachable", "prohibit", "throw")
ROUTE_TYPE_NUMBERS = {name: number for number, name in ROUTE_TYPES.items()}
# RTA_PREF, RFC 4191 2.1: two bits, signed; the reserved value counts as medium.
PREFERENCES = {1: 1, 3: -1}

# linux/fib_rules.h
FR_ACT_TO_TBL = 1
FIB_RULE_INVERT = 0x2
NO_SUPPRESSION = 0xFFFFFFFF
# Rule attributes that `Rule` has a field for; a rule with any other is not ours.
KNOWN_RULE_ATTRIBUTES = frozenset(
    (
        "FRA_DST",
        "FRA_SRC",
        "FRA_PRIORITY",
        "FRA_FWMARK",
        "FRA_TABLE",
        "FRA_FWMASK",
        "FRA_SUPPRESS_IFGROUP",
        "FRA_SUPPRESS_PREFIXLEN",
        "FRA_OIFNAME",
        "FRA_PROTOCOL",
    )
)

# RTNLGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE
# (linux/rtnetlink.h), as the mask that bind takes.
GROUP_NUMBERS = (1, 5, 7, 8, 9, 11, 19)
GROUPS = sum(1 << (number - 1) for number in GROUP_NUMBERS)

# linux/if.h, linux/if_addr.h, linux/neighbour.h
IFF_UP, IFF_LOOPBACK, IFF_RUNNING, IFF_LOWER_UP = 0x1, 0x8, 0x40, 0x10000
IFA_F_TEMPORARY, IFA_F_OPTIMISTIC, IFA_F_DADFAILED = 0x01, 0x04, 0x08
IFA_F_TENTATIVE, IFA_F_PERMANENT, IFA_F_NOPREFIXROUTE = 0x40, 0x80, 0x200
NUD_USABLE = 0x02 | 0x04 | 0x08 | 0x10 | 0x80  # reachable stale delay probe permanent
NUD_INCOMPLETE, NUD_FAILED = 0x01, 0x20
NTF_USE, NTF_ROUTER = 0x01, 0x80
IFLA_PERM_ADDRESS = 54  # pyroute2 0.5.14 has no name for it

Message = Mapping[str, Any]
NameOf = Callable[[int], str]
AttributeKey = Union[str, int]


class Undecoded(NamedTuple):
    """A message as it came, with what its netlink header says."""

    kind: int
    flags: int
    sequence: int
    port: int
    data: bytes  # with the header


class Change(NamedTuple):
    """One object that was added, changed or removed."""

    gone: bool
    thing: Link | Address | Route | Rule
    carrier: bool | None = None  # of a link


# -- in, without decoding ------------------------------------------------------


def split(datagram: bytes) -> Iterator[Undecoded]:
    """The messages of a datagram, up to one that is none."""
    start = 0
    while start + NLMSG.size <= len(datagram):
        length, kind, flags, sequence, port = NLMSG.unpack_from(datagram, start)
        if length < NLMSG.size:
            return
        yield Undecoded(kind, flags, sequence, port, datagram[start : start + length])
        start += _aligned(length)


def attribute(message: bytes, kind: int) -> bytes:
    """The value of an attribute of an undecoded rtmsg; b"" when it is absent."""
    at = NLMSG.size + RTMSG.size
    while at + RTATTR.size <= len(message):
        length, found = RTATTR.unpack_from(message, at)
        if found == kind:
            return message[at + RTATTR.size : at + length]
        at += max(_aligned(length), RTATTR.size)
    return b""


def _aligned(length: int) -> int:
    return (length + ALIGNMENT - 1) & -ALIGNMENT


# -- in ------------------------------------------------------------------------


def changes_of(kind: int, message: Message, name: NameOf) -> list[Change]:
    """What a multicast message announces; [] for other families and cached routes."""
    gone = kind in GONE
    if kind in (RTM_NEWLINK, RTM_DELLINK):
        link = link_of(message, name)
        carrier = bool(message["flags"] & IFF_LOWER_UP)
        return [] if link is None else [Change(gone, link, carrier)]
    if kind in (RTM_NEWADDR, RTM_DELADDR):
        address = address_of(message, name)
        return [] if address is None else [Change(gone, address)]
    if kind in (RTM_NEWROUTE, RTM_DELROUTE):
        return [Change(gone, route) for route in routes_of(message, name)]
    if kind in (RTM_NEWRULE, RTM_DELRULE):
        rule = rule_of(message)
        return [] if rule is None else [Change(gone, rule)]
    return []


def link_name(message: Message) -> str:
    return _text(_Attributes(message).get("IFLA_IFNAME", ""))


def link_of(message: Message, name: NameOf) -> Link | None:
    """The link of an ifinfomsg; None for a bridge's message about its port (AF_BRIDGE)."""
    if message["family"] != 0:
        return None
    found = _Attributes(message)
    info = found.get("IFLA_LINKINFO")
    kind = _Attributes(info).get("IFLA_INFO_KIND", "") if info else ""
    master = found.get("IFLA_MASTER")
    return Link(
        ifindex=message["index"],
        name=_text(found.get("IFLA_IFNAME", "")),
        mac=_mac(found, "IFLA_ADDRESS"),
        permanent_mac=_mac(found, "IFLA_PERM_ADDRESS") or _mac(found, IFLA_PERM_ADDRESS),
        up=bool(message["flags"] & IFF_UP),
        kind=_text(kind),
        master=name(master) if master else "",
        group=found.get("IFLA_GROUP", 0),
        loopback=bool(message["flags"] & IFF_LOOPBACK),
        running=bool(message["flags"] & IFF_RUNNING),
    )


def address_of(message: Message, name: NameOf) -> Address | None:
    """The address of an ifaddrmsg; None for other families."""
    family = FAMILY.get(message["family"])
    found = _Attributes(message)
    far_end = found.get("IFA_ADDRESS")
    text = found.get("IFA_LOCAL", far_end)
    if family is None or text is None:
        return None
    flags = found.get("IFA_FLAGS") or message["flags"]
    length = message["prefixlen"]
    peer: IPNetwork | None = None
    if far_end not in (None, text):
        # Point to point: the prefix is the peer's, not the local one.
        peer = ip_network(f"{far_end}/{length}", strict=False)
        length = peer.max_prefixlen
    return Address(
        dev=name(message["index"]),
        interface=ip_interface(f"{text}/{length}"),
        scope=message["scope"],
        noprefixroute=bool(flags & IFA_F_NOPREFIXROUTE),
        tentative=bool(flags & IFA_F_TENTATIVE) and not flags & IFA_F_OPTIMISTIC,
        failed=bool(flags & IFA_F_DADFAILED),
        # In IPv4 the same bit means a secondary address.
        temporary=family == 6 and bool(flags & IFA_F_TEMPORARY),
        dynamic=not flags & IFA_F_PERMANENT,
        peer=peer,
    )


def routes_of(message: Message, name: NameOf) -> list[Route]:
    """The paths of an rtmsg, one `Route` for each next hop.

    Empty for cached clones, other families, and routes for one type of service,
    by which none of our rules selects.
    """
    family = FAMILY.get(message["family"])
    if family is None or message["tos"] or message["flags"] & RTM_F_CLONED:
        return []
    found = _Attributes(message)
    base = Route(
        table=_table(message, found, "RTA_TABLE"),
        dst=_network(family, found.get("RTA_DST"), message["dst_len"]),
        metric=found.get("RTA_PRIORITY", 0),
        protocol=message["proto"],
        scope=message["scope"],
        type=ROUTE_TYPES.get(message["type"], str(message["type"])),
        preference=PREFERENCES.get(found.get("RTA_PREF", 0), 0),
    )
    if base.type != "unicast":
        return [base]
    hops = found.get("RTA_MULTIPATH")
    if hops:
        return [
            _hop(base, _Attributes(hop), hop["oif"], hop["flags"] & RTNH_F_ONLINK, name)
            for hop in hops
        ]
    onlink = message["flags"] & RTNH_F_ONLINK
    return [_hop(base, found, found.get("RTA_OIF", 0), onlink, name)]


def rule_of(message: Message) -> Rule | None:
    """The rule of a fib_rule_hdr message; None for other families."""
    family = FAMILY.get(message["family"])
    if family is None:
        return None
    found = _Attributes(message)
    source_length, destination_length = message["src_len"], message["dst_len"]
    return Rule(
        family=family,
        priority=found.get("FRA_PRIORITY", 0),
        table=_table(message, found, "FRA_TABLE"),
        src=_network(family, found.get("FRA_SRC"), source_length) if source_length else None,
        dst=(
            _network(family, found.get("FRA_DST"), destination_length)
            if destination_length
            else None
        ),
        oif=_text(found.get("FRA_OIFNAME", "")),
        fwmark=found.get("FRA_FWMARK", 0),
        fwmask=found.get("FRA_FWMASK", 0),
        suppress_prefixlength=_suppression(found.get("FRA_SUPPRESS_PREFIXLEN")),
        suppress_ifgroup=_suppression(found.get("FRA_SUPPRESS_IFGROUP")),
        protocol=found.get("FRA_PROTOCOL", 0),
        other=_other(message, found),
    )


def neighbour_of(message: Message, name: NameOf) -> Neighbour | None:
    """The neighbour of an ndmsg; None without a link-layer address, unless it may be a router.

    The flag that says so is lost with the entry, so any IPv6 link-local address counts.
    """
    found = _Attributes(message)
    text = found.get("NDA_DST")
    if message["family"] not in FAMILY or text is None:
        return None
    router = bool(message["flags"] & NTF_ROUTER)
    failed = bool(message["state"] & NUD_FAILED)
    ip = _address(text)
    may_be_router = router or (ip.version == 6 and ip.is_link_local)
    unresolved = message["state"] & (NUD_INCOMPLETE | NUD_FAILED)
    if "NDA_LLADDR" not in found and not (may_be_router and unresolved):
        return None
    return Neighbour(
        dev=name(message["ifindex"]),
        ip=ip,
        reachable=bool(message["state"] & NUD_USABLE),
        router=router,
        failed=failed,
    )


# -- out -----------------------------------------------------------------------


def route_request(route: Route, oif: int) -> dict[str, Any]:
    """The rtmsg of a route; `oif` is the index of its interface, 0 for none."""
    attrs: list[tuple[str, Any]] = [("RTA_TABLE", route.table)]
    if route.dst.prefixlen:
        attrs.append(("RTA_DST", str(route.dst.network_address)))
    if route.metric:
        attrs.append(("RTA_PRIORITY", route.metric))
    if route.gateway is not None and route.gateway.version == route.family:
        attrs.append(("RTA_GATEWAY", str(route.gateway)))
    elif route.gateway is not None:  # RFC 5549
        via = {"family": AF[route.gateway.version], "addr": str(route.gateway)}
        attrs.append(("RTA_VIA", via))
    if oif:
        attrs.append(("RTA_OIF", oif))
    return {
        "family": AF[route.family],
        "dst_len": route.dst.prefixlen,
        "table": _short(route.table),
        "proto": route.protocol,
        "scope": route.scope,
        "type": ROUTE_TYPE_NUMBERS[route.type],
        "flags": RTNH_F_ONLINK if route.onlink else 0,
        "attrs": attrs,
    }


def rule_request(rule: Rule) -> dict[str, Any]:
    """The fib_rule_hdr message of a rule."""
    attrs: list[tuple[str, Any]] = [("FRA_TABLE", rule.table), ("FRA_PRIORITY", rule.priority)]
    if rule.src is not None:
        attrs.append(("FRA_SRC", str(rule.src.network_address)))
    if rule.dst is not None:
        attrs.append(("FRA_DST", str(rule.dst.network_address)))
    if rule.oif:
        attrs.append(("FRA_OIFNAME", rule.oif))
    if rule.fwmark:
        attrs += [("FRA_FWMARK", rule.fwmark), ("FRA_FWMASK", rule.fwmask)]
    if rule.suppress_prefixlength is not None:
        attrs.append(("FRA_SUPPRESS_PREFIXLEN", rule.suppress_prefixlength))
    if rule.suppress_ifgroup is not None:
        attrs.append(("FRA_SUPPRESS_IFGROUP", rule.suppress_ifgroup))
    if rule.protocol:
        attrs.append(("FRA_PROTOCOL", rule.protocol))
    return {
        "family": AF[rule.family],
        "src_len": rule.src.prefixlen if rule.src is not None else 0,
        "dst_len": rule.dst.prefixlen if rule.dst is not None else 0,
        "table": _short(rule.table),
        "action": FR_ACT_TO_TBL,
        "attrs": attrs,
    }


def group_request(index: int, group: int) -> dict[str, Any]:
    """The ifinfomsg that puts a link into an interface group."""
    return {"index": index, "attrs": [("IFLA_GROUP", group)]}


def use_request(ip: IPAddress, index: int) -> dict[str, Any]:
    """The ndmsg that makes the kernel resolve a neighbour (``ip neigh replace ... use``)."""
    return {
        "family": AF[ip.version],
        "ifindex": index,
        "flags": NTF_USE,
        "attrs": [("NDA_DST", str(ip))],
    }


def lookup_request(destination: IPAddress, source: IPAddress | None, oif: int) -> dict[str, Any]:
    """The rtmsg of a route lookup that returns the matched entry (fibmatch)."""
    bits = destination.max_prefixlen
    attrs: list[tuple[str, Any]] = [("RTA_DST", str(destination))]
    if source is not None:
        attrs.append(("RTA_SRC", str(source)))
    if oif:
        attrs.append(("RTA_OIF", oif))
    return {
        "family": AF[destination.version],
        "dst_len": bits,
        "src_len": bits if source is not None else 0,
        # IPv4 reports the table only on request; IPv6 always does, and refuses the flag.
        "flags": RTM_F_FIB_MATCH | (RTM_F_LOOKUP_TABLE if destination.version == 4 else 0),
        "attrs": attrs,
    }


def route_filter(family: int, kind: str = "", protocol: int = 0) -> dict[str, Any]:
    """The header of a route dump that the kernel filters (NETLINK_GET_STRICT_CHK)."""
    return {
        "family": AF[family],
        "type": ROUTE_TYPE_NUMBERS[kind] if kind else 0,
        "proto": protocol,
    }


# -- pieces --------------------------------------------------------------------


class _Attributes:
    """A message's attributes by name, each decoded when it is read.

    An attribute that pyroute2 has no name for has its number as key.
    """

    def __init__(self, message: Message):
        self._slots: dict[AttributeKey, Any] = {}
        for slot in message["attrs"]:
            key = slot[0]
            self._slots[slot.nla["header"]["type"] & 0x3FFF if key == "UNKNOWN" else key] = slot

    def __contains__(self, key: AttributeKey) -> bool:
        return key in self._slots

    def __iter__(self) -> Any:
        return iter(self._slots)

    def get(self, key: AttributeKey, default: Any = None) -> Any:
        slot = self._slots.get(key)
        return default if slot is None else slot[1]

    def raw(self, key: AttributeKey) -> bytes:
        """The undecoded bytes of an attribute; b"" when it is absent."""
        slot = self._slots.get(key)
        if slot is None:
            return b""
        nla = slot.nla
        return bytes(nla.data[nla.offset + 4 : nla.offset + nla.length])


def _hop(base: Route, found: _Attributes, index: int, onlink: int, name: NameOf) -> Route:
    gateway = found.get("RTA_GATEWAY")
    if gateway is None and "RTA_VIA" in found:
        gateway = found.get("RTA_VIA")["addr"]  # RFC 5549: of the other family
    return base._replace(
        dev=name(index) if index else "",
        gateway=_address(gateway) if gateway else None,
        onlink=bool(onlink),
    )


def _other(message: Message, found: _Attributes) -> tuple[tuple[str, str], ...]:
    """A rule's selectors and actions that `Rule` has no field for."""
    other = [
        (name, str(found.get(name)))
        if isinstance(name, str)
        else (f"FRA_{name}", found.raw(name).hex())
        for name in found
        if name not in KNOWN_RULE_ATTRIBUTES
    ]
    if message["tos"]:
        other.append(("tos", str(message["tos"])))
    if message["action"] != FR_ACT_TO_TBL:
        other.append(("action", str(message["action"])))
    if message["flags"] & FIB_RULE_INVERT:
        other.append(("invert", "1"))
    return tuple(sorted(other))


def _short(table: int) -> int:
    return table if table < 256 else RT_TABLE_COMPAT


def _table(message: Message, found: _Attributes, attribute: str) -> int:
    """The table, read from its attribute only where the header's byte may be too small."""
    short = int(message["table"])
    return found.get(attribute, short) if short in (0, RT_TABLE_COMPAT) else short


def _network(family: int, text: str | None, length: int) -> IPNetwork:
    if length == 0:
        return ANYWHERE[family]
    # Use the class directly: ip_network() tries IPv4 first, which dominates the run time.
    kind = IPv4Network if family == 4 else IPv6Network
    return kind((text or ANYWHERE[family].network_address, length), strict=False)


@lru_cache(maxsize=1024)
def _address(text: str) -> IPAddress:
    """Parse an address; cached, since many routes share a few gateways."""
    return ip_address(text)


def _suppression(value: int | None) -> int | None:
    return None if value == NO_SUPPRESSION else value


def _text(value: str | bytes) -> str:
    """A name; the kernel allows any bytes, and pyroute2 returns non-UTF-8 names as bytes."""
    return value if isinstance(value, str) else value.decode("ascii", "backslashreplace")


def _mac(found: _Attributes, key: AttributeKey) -> str:
    """An Ethernet address; "" for the other lengths of tunnels and InfiniBand."""
    raw = found.raw(key)
    return ":".join(f"{byte:02x}" for byte in raw) if len(raw) == 6 else ""
