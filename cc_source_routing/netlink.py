"""The kernel edge: dumps become model values, operations become messages.

The only module that imports pyroute2 (>= 0.7.2), and only when it is used:
the import costs a quarter of a second.  Always the network namespace that the
process runs in.  Wire formats: rtnetlink(7), linux/rtnetlink.h,
linux/fib_rules.h.
"""

from __future__ import annotations

import errno
import os
import time
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from pyroute2 import IPRoute
from pyroute2.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
)
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import (
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETNEIGH,
    RTM_GETROUTE,
    RTM_GETRULE,
    RTM_NEWNEIGH,
    RTM_NEWROUTE,
    RTM_NEWRULE,
    RTM_SETLINK,
)
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from . import nftables
from .diff import (
    AddRule,
    DeleteRoute,
    DeleteRule,
    LoadNftables,
    Operation,
    ReplaceRoute,
    SetGroup,
    SetSysctl,
)
from .errors import ApplyError, DiscoveryError
from .model import (
    OUR_PROTOCOL,
    Address,
    IPAddress,
    IPNetwork,
    Link,
    Neighbour,
    Route,
    Rule,
)

AF = {4: 2, 6: 10}
FAMILY = {2: 4, 10: 6}
IFF_UP, IFF_LOOPBACK = 0x1, 0x8
IFA_F_TEMPORARY, IFA_F_DADFAILED, IFA_F_DEPRECATED = 0x01, 0x08, 0x20
IFA_F_TENTATIVE, IFA_F_OPTIMISTIC, IFA_F_PERMANENT = 0x40, 0x04, 0x80
IFA_F_NOPREFIXROUTE = 0x200
RTM_F_CLONED, RTM_F_FIB_MATCH = 0x200, 0x2000
RTNH_F_ONLINK = 0x04
NUD_USABLE = 0x02 | 0x04 | 0x08 | 0x10 | 0x80  # reachable stale delay probe permanent
NTF_USE, NTF_ROUTER = 0x01, 0x80
FR_ACT_TO_TBL = 1
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
ANY = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}
NO_SUPPRESSION = 0xFFFFFFFF
SYSCTLS = ("rp_filter", "src_valid_mark")
# Rule attributes that `Rule` has a field for; a rule with any other is foreign.
KNOWN_RULE_ATTRIBUTES = frozenset(
    """FRA_TABLE FRA_PRIORITY FRA_SRC FRA_OIFNAME FRA_FWMARK FRA_FWMASK FRA_PROTOCOL
    FRA_SUPPRESS_PREFIXLEN FRA_SUPPRESS_IFGROUP
    """.split()
)
# A batch larger than the socket's receive buffer can acknowledge loses answers.
BATCH = 200


class Lookup(NamedTuple):
    """The kernel's answer to one route lookup."""

    dev: str
    gateway: Optional[IPAddress]
    table: int
    dst: IPNetwork  # the matched prefix
    type: str


class Kernel:
    """A netlink socket of the current network namespace, as a context manager."""

    def __init__(self) -> None:
        try:
            self._ipr = IPRoute(strict_check=True)
        except (OSError, NetlinkError) as error:
            raise DiscoveryError(f"cannot talk to the kernel over netlink: {error}") from error
        self._names: Dict[int, str] = {}
        self._indices: Dict[str, int] = {}

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._ipr.close()

    # -- observation ---------------------------------------------------------

    def links(self) -> Tuple[Link, ...]:
        links = []
        messages = list(self._dump(ifinfmsg, RTM_GETLINK))
        names = {message["index"]: message.get_attr("IFLA_IFNAME") for message in messages}
        self._names = names
        self._indices = {name: index for index, name in names.items()}
        for message in messages:
            info = message.get_attr("IFLA_LINKINFO")
            kind = info.get_attr("IFLA_INFO_KIND") if info else None
            flags = message["flags"]
            links.append(
                Link(
                    index=message["index"],
                    name=names[message["index"]],
                    mac=(message.get_attr("IFLA_ADDRESS") or "").lower(),
                    permanent_mac=_mac(message.get_attr("IFLA_PERM_ADDRESS")),
                    up=bool(flags & IFF_UP),
                    kind=kind or "",
                    master=names.get(message.get_attr("IFLA_MASTER"), ""),
                    group=message.get_attr("IFLA_GROUP") or 0,
                    loopback=bool(flags & IFF_LOOPBACK),
                )
            )
        return tuple(links)

    def addresses(self) -> Tuple[Address, ...]:
        addresses = []
        for message in self._dump(ifaddrmsg, RTM_GETADDR):
            if message["family"] not in FAMILY:
                continue
            text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            flags = message.get_attr("IFA_FLAGS") or message["flags"]
            addresses.append(
                Address(
                    dev=self._name(message["index"]),
                    interface=ip_interface(f"{text}/{message['prefixlen']}"),
                    scope=message["scope"],
                    noprefixroute=bool(flags & IFA_F_NOPREFIXROUTE),
                    tentative=bool(flags & IFA_F_TENTATIVE) and not flags & IFA_F_OPTIMISTIC,
                    failed=bool(flags & IFA_F_DADFAILED),
                    deprecated=bool(flags & IFA_F_DEPRECATED),
                    temporary=message["family"] == AF[6] and bool(flags & IFA_F_TEMPORARY),
                    dynamic=not flags & IFA_F_PERMANENT,
                )
            )
        return tuple(addresses)

    def routes(self) -> Tuple[Route, ...]:
        """All routes but those of table local: unicast ones and the types that end a lookup."""
        routes: List[Route] = []
        for family in AF.values():
            for number, name in ROUTE_TYPES.items():
                if name in ("local", "broadcast", "anycast", "multicast"):
                    continue
                request = rtmsg()
                request["family"], request["type"] = family, number
                for message in self._dump(rtmsg, RTM_GETROUTE, request):
                    routes += self._routes_of(message)
        return tuple(routes)

    def our_routes(self) -> Tuple[Route, ...]:
        """The routes of our protocol, filtered by the kernel."""
        routes: List[Route] = []
        for family in AF.values():
            request = rtmsg()
            request["family"], request["proto"] = family, OUR_PROTOCOL
            for message in self._dump(rtmsg, RTM_GETROUTE, request):
                routes += self._routes_of(message)
        return tuple(routes)

    def rules(self) -> Tuple[Rule, ...]:
        rules = []
        for family in AF.values():
            request = fibmsg()
            request["family"] = family
            rules += [_rule(message) for message in self._dump(fibmsg, RTM_GETRULE, request)]
        return tuple(rules)

    def neighbours(self) -> Tuple[Neighbour, ...]:
        neighbours = []
        for message in self._dump(ndmsg, RTM_GETNEIGH):
            text = message.get_attr("NDA_DST")
            if message["family"] not in FAMILY or text is None:
                continue
            if message.get_attr("NDA_LLADDR") is None:
                continue
            neighbours.append(
                Neighbour(
                    dev=self._name(message["ifindex"]),
                    ip=ip_address(text),
                    reachable=bool(message["state"] & NUD_USABLE),
                    router=bool(message["flags"] & NTF_ROUTER),
                )
            )
        return tuple(neighbours)

    def lookup(
        self, destination: IPAddress, source: Optional[IPAddress] = None, oif: str = ""
    ) -> Optional[Lookup]:
        """The kernel's route for a packet from `source`; None when it has none.

        ``RTM_F_FIB_MATCH`` makes it answer with the matched entry, table and
        prefix included (``ip route get fibmatch``).
        """
        request = rtmsg()
        bits = destination.max_prefixlen
        request["family"], request["dst_len"] = AF[destination.version], bits
        request["flags"] = RTM_F_FIB_MATCH
        request["attrs"] = [("RTA_DST", str(destination))]
        if source is not None:
            request["src_len"] = bits
            request["attrs"].append(("RTA_SRC", str(source)))
        if oif:
            request["attrs"].append(("RTA_OIF", self._index(oif)))
        try:
            answers = self._request(request, RTM_GETROUTE, NLM_F_ACK)
        except NetlinkError as error:
            if error.code in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL):
                return None
            raise DiscoveryError(f"route lookup for {destination} failed: {error}") from error
        for answer in answers:
            for route in self._routes_of(answer):
                return Lookup(route.dev, route.gateway, route.table, route.dst, route.type)
        return None

    def probe(
        self, candidates: Iterable[Tuple[str, IPAddress]], wait: float = 1.0
    ) -> Dict[Tuple[str, IPAddress], bool]:
        """Which addresses answer ARP or neighbour discovery on their link within `wait` seconds.

        The kernel itself asks (``NTF_USE``, ``ip neigh replace ... use``); no
        socket, no ping, and nothing stays but an ordinary cache entry.
        """
        pending = dict.fromkeys(candidates, False)
        for dev, ip in pending:
            request = ndmsg()
            request["family"], request["ifindex"] = AF[ip.version], self._index(dev)
            request["flags"], request["state"] = NTF_USE, 0
            request["attrs"] = [("NDA_DST", str(ip))]
            try:
                self._request(request, RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)
            except NetlinkError:
                continue  # link without neighbours: no answer is the right answer
        deadline = time.monotonic() + wait
        while pending and not all(pending.values()):
            known = {(n.dev, n.ip) for n in self.neighbours() if n.reachable}
            for candidate in pending:
                pending[candidate] = candidate in known
            if all(pending.values()) or time.monotonic() >= deadline:
                break
            time.sleep(0.05)
        return pending

    # -- change --------------------------------------------------------------

    def execute(self, operations: Sequence[Operation]) -> None:
        """Run operations in order, each kind a batch of its own.

        Raises `ApplyError` at the first batch in which the kernel refused
        something; the caller reads back what came of it.
        """
        start = 0
        for end in range(1, len(operations) + 1):
            full = end - start == BATCH
            if end == len(operations) or full or _kind(operations[end]) != _kind(operations[start]):
                self._execute_batch(operations[start:end])
                start = end

    def _execute_batch(self, operations: Sequence[Operation]) -> None:
        messages = []
        for operation in operations:
            if isinstance(operation, SetSysctl):
                write_sysctl(operation.dev, operation.key, operation.value)
            elif isinstance(operation, LoadNftables):
                nftables.load(operation.ruleset)
            else:
                messages.append(self._message(operation))
        if not messages:
            return
        try:
            list(self._ipr.nlm_request_batch(messages))
        except NetlinkError as error:
            kind = operations[0].describe() if len(operations) == 1 else _kind(operations[0])
            raise ApplyError(f"{kind}: {os.strerror(error.code)}", error.code) from error
        except OSError as error:
            raise ApplyError(f"netlink: {error}", error.errno or 0) from error

    def _message(self, operation: Operation) -> Any:
        if isinstance(operation, SetGroup):
            message = ifinfmsg()
            message["index"] = self._index(operation.dev)
            message["attrs"] = [("IFLA_GROUP", operation.group)]
            return _with_header(message, RTM_SETLINK, NLM_F_ACK)
        if isinstance(operation, ReplaceRoute):
            message = self._route_message(operation.route)
            return _with_header(message, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)
        if isinstance(operation, DeleteRoute):
            return _with_header(self._route_message(operation.route), RTM_DELROUTE, NLM_F_ACK)
        if isinstance(operation, AddRule):
            message = _rule_message(operation.rule)
            return _with_header(message, RTM_NEWRULE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)
        assert isinstance(operation, DeleteRule)
        return _with_header(_rule_message(operation.rule), RTM_DELRULE, NLM_F_ACK)

    def _route_message(self, route: Route) -> rtmsg:
        message = rtmsg()
        message["family"] = AF[route.family]
        message["dst_len"] = route.dst.prefixlen
        message["table"] = route.table if route.table < 256 else 252  # RT_TABLE_COMPAT
        message["proto"] = route.protocol
        message["scope"] = route.scope
        message["type"] = ROUTE_TYPE_NUMBERS[route.type]
        message["flags"] = RTNH_F_ONLINK if route.onlink else 0
        attrs: List[Tuple[str, Any]] = [("RTA_TABLE", route.table)]
        if route.dst.prefixlen:
            attrs.append(("RTA_DST", str(route.dst.network_address)))
        if route.metric:
            attrs.append(("RTA_PRIORITY", route.metric))
        if route.gateway is not None:
            attrs.append(("RTA_GATEWAY", str(route.gateway)))
        if route.dev:
            attrs.append(("RTA_OIF", self._index(route.dev)))
        message["attrs"] = attrs
        return message

    # -- plumbing ------------------------------------------------------------

    def _dump(
        self, kind: Callable[[], Any], command: int, request: Optional[Any] = None
    ) -> Iterator[Any]:
        message = kind() if request is None else request
        # A dump during which the kernel's lists changed is marked as such; it
        # is read again, since half a picture would look like something gone.
        for attempt in range(5):
            try:
                return iter(self._request(message, command, NLM_F_DUMP))
            except NetlinkError as error:
                if error.code in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):
                    return iter(())
                if error.code != errno.EINTR or attempt == 4:
                    raise DiscoveryError(f"netlink dump failed: {error}") from error
            except OSError as error:
                if error.errno != errno.ENOBUFS or attempt == 4:
                    raise DiscoveryError(f"netlink dump failed: {error}") from error
        raise AssertionError("unreachable")

    def _request(self, message: Any, command: int, flags: int) -> List[Any]:
        # One way to ask for everything: nlm_request() behaves differently
        # between pyroute2 0.7 and 0.9, nlm_request_batch() does not.
        _with_header(message, command, flags)
        return list(self._ipr.nlm_request_batch([message]))

    def _name(self, index: int) -> str:
        return self._names.get(index, f"#{index}")

    def _index(self, name: str) -> int:
        if name not in self._indices:
            self.links()
        try:
            return self._indices[name]
        except KeyError:
            raise ApplyError(f"{name}: no such interface", errno.ENODEV) from None

    def _routes_of(self, message: Any) -> List[Route]:
        if message["flags"] & RTM_F_CLONED or message["family"] not in FAMILY:
            return []
        attrs = dict(message["attrs"])
        family = FAMILY[message["family"]]
        dst = ANY[family]
        if message["dst_len"]:
            dst = ip_network(f"{attrs['RTA_DST']}/{message['dst_len']}", strict=False)
        kind = ROUTE_TYPES.get(message["type"], str(message["type"]))
        base = Route(
            table=attrs.get("RTA_TABLE", message["table"]),
            dst=dst,
            metric=attrs.get("RTA_PRIORITY", 0),
            protocol=message["proto"],
            scope=message["scope"],
            type=kind,
        )
        if kind != "unicast":
            return [base]
        hops = attrs.get("RTA_MULTIPATH")
        if not hops:
            onlink = bool(message["flags"] & RTNH_F_ONLINK)
            return [self._hop(base, attrs, attrs.get("RTA_OIF"), onlink)]
        return [
            self._hop(base, dict(hop["attrs"]), hop["oif"], bool(hop["flags"] & RTNH_F_ONLINK))
            for hop in hops
        ]

    def _hop(self, base: Route, attrs: Dict[str, Any], oif: Optional[int], onlink: bool) -> Route:
        via = attrs.get("RTA_GATEWAY")
        if via is None and isinstance(attrs.get("RTA_VIA"), dict):
            via = attrs["RTA_VIA"].get("addr")
        return base._replace(
            dev=self._name(oif) if oif else "",
            gateway=ip_address(via) if via else None,
            onlink=onlink,
        )


def write_sysctl(dev: str, key: str, value: int) -> None:
    """Set ``net.ipv4.conf.DEV.KEY``; both names come from the kernel's and our own lists."""
    try:
        _sysctl_path(dev, key).write_text(f"{value}\n")
    except OSError as error:
        raise ApplyError(
            f"sysctl net.ipv4.conf.{dev}.{key}: {error.strerror}", error.errno or 0
        ) from error


def read_sysctls(devs: Iterable[str]) -> Dict[Tuple[str, str], int]:
    """``net.ipv4.conf.*`` of the interfaces and of ``all``, those of `SYSCTLS`."""
    values = {}
    for dev in (*devs, "all"):
        for key in SYSCTLS:
            try:
                values[dev, key] = int(_sysctl_path(dev, key).read_text())
            except (OSError, ValueError):
                continue
    return values


def _sysctl_path(dev: str, key: str) -> Path:
    return Path("/proc/sys/net/ipv4/conf") / dev / key


def _kind(operation: Operation) -> str:
    return type(operation).__name__


def _with_header(message: Any, command: int, flags: int) -> Any:
    message["header"]["type"] = command
    message["header"]["flags"] = NLM_F_REQUEST | flags
    return message


def _mac(value: Any) -> str:
    """A MAC as text; older pyroute2 hands unknown attributes over as hex bytes."""
    text = str(value or "").lower()
    return text if len(text) == 17 else ""


def _rule(message: Any) -> Rule:
    family = FAMILY[message["family"]]
    attrs = dict(message["attrs"])
    src = None
    if message["src_len"]:
        src = ip_network(f"{attrs['FRA_SRC']}/{message['src_len']}", strict=False)
    other = [
        (name, str(value)) for name, value in attrs.items() if name not in KNOWN_RULE_ATTRIBUTES
    ]
    for field in ("dst_len", "tos"):
        if message[field]:
            other.append((field, str(message[field])))
    if message["action"] != FR_ACT_TO_TBL:
        other.append(("action", str(message["action"])))
    if message["flags"] & 0x2:  # FIB_RULE_INVERT
        other.append(("invert", "1"))
    return Rule(
        family=family,
        priority=attrs.get("FRA_PRIORITY", 0),
        table=attrs.get("FRA_TABLE", message["table"]),
        src=src,
        oif=attrs.get("FRA_OIFNAME", ""),
        fwmark=attrs.get("FRA_FWMARK", 0),
        fwmask=attrs.get("FRA_FWMASK", 0),
        suppress_prefixlength=_suppression(attrs.get("FRA_SUPPRESS_PREFIXLEN")),
        suppress_ifgroup=_suppression(attrs.get("FRA_SUPPRESS_IFGROUP")),
        protocol=_octet(attrs.get("FRA_PROTOCOL", 0)),
        other=tuple(sorted(other)),
    )


def _rule_message(rule: Rule) -> fibmsg:
    message = fibmsg()
    message["family"] = AF[rule.family]
    message["action"] = FR_ACT_TO_TBL
    message["table"] = rule.table if rule.table < 256 else 252
    attrs: List[Tuple[str, Any]] = [("FRA_TABLE", rule.table), ("FRA_PRIORITY", rule.priority)]
    if rule.src is not None:
        message["src_len"] = rule.src.prefixlen
        attrs.append(("FRA_SRC", str(rule.src.network_address)))
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
    message["attrs"] = attrs
    return message


def _suppression(value: Optional[int]) -> Optional[int]:
    """The kernel says "none" as -1, which arrives unsigned."""
    return None if value is None or value & 0xFFFFFFFF == NO_SUPPRESSION else value


def _octet(value: Any) -> int:
    """FRA_PROTOCOL is one byte; pyroute2 before 0.7.3 has no name for it and hands over hex."""
    if isinstance(value, int):
        return value
    return int(str(value).split(":")[0], 16)
