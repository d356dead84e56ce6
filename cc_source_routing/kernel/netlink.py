"""The kernel edge: dumps become model values, operations become messages.

The only module that imports pyroute2 (>= 0.7.2), and only when it is used:
the import costs a quarter of a second.  pyroute2 reads links, addresses and
neighbours; what comes by the hundred, routes and rules, goes over a plain
netlink socket with the codec of `wire`.  Always the network namespace that
the process runs in.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTM_GETADDR, RTM_GETLINK, RTM_GETNEIGH, RTM_NEWNEIGH
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg

from ..errors import ApplyError, DiscoveryError
from ..model import (
    OUR_PROTOCOL,
    SYSCTLS,
    Address,
    IPAddress,
    IPNetwork,
    Link,
    Neighbour,
    Route,
    Rule,
)
from . import nftables, wire
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
from .wire import AF, FAMILY, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST

IFF_UP, IFF_LOOPBACK = 0x1, 0x8
IFA_F_TEMPORARY, IFA_F_OPTIMISTIC, IFA_F_DADFAILED = 0x01, 0x04, 0x08
IFA_F_TENTATIVE, IFA_F_PERMANENT, IFA_F_NOPREFIXROUTE = 0x40, 0x80, 0x200
NUD_USABLE = 0x02 | 0x04 | 0x08 | 0x10 | 0x80  # reachable stale delay probe permanent
NUD_FAILED = 0x20
NTF_USE, NTF_ROUTER = 0x01, 0x80
# All route types that can end a lookup, those of table local left out.
LOOKUP_TYPES = ("unicast", "blackhole", "unreachable", "prohibit", "throw")
SOL_NETLINK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK = 270, 10, 12
ACKNOWLEDGEMENT = 1024  # bytes of the receive buffer, with the kernel's own overhead
ANSWER_SECONDS = 10.0
DUMP_ATTEMPTS = 5


# What the kernel says of an operation whose outcome is there: that is no refusal.
DONE_ALREADY: Dict[type, int] = {
    AddRule: errno.EEXIST,
    DeleteRule: errno.ENOENT,
    DeleteRoute: errno.ESRCH,
}


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
            self._socket = RouteSocket()
            self._ipr = IPRoute()
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
        self._socket.close()

    # -- observation ---------------------------------------------------------

    def links(self) -> Tuple[Link, ...]:
        links = []
        messages = self._dump(ifinfmsg, RTM_GETLINK)
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
            length, peer = message["prefixlen"], None
            far_end = message.get_attr("IFA_ADDRESS")
            if far_end not in (None, text):
                # Point to point: the prefix is the far end's, not ours.
                peer = ip_network(f"{far_end}/{length}", strict=False)
                length = peer.max_prefixlen
            addresses.append(
                Address(
                    dev=self._name(message["index"]),
                    interface=ip_interface(f"{text}/{length}"),
                    scope=message["scope"],
                    noprefixroute=bool(flags & IFA_F_NOPREFIXROUTE),
                    tentative=bool(flags & IFA_F_TENTATIVE) and not flags & IFA_F_OPTIMISTIC,
                    failed=bool(flags & IFA_F_DADFAILED),
                    temporary=message["family"] == AF[6] and bool(flags & IFA_F_TEMPORARY),
                    dynamic=not flags & IFA_F_PERMANENT,
                    peer=peer,
                )
            )
        return tuple(addresses)

    def routes(self) -> Tuple[Route, ...]:
        """All routes but those of table local: unicast ones and the types that end a lookup."""
        return tuple(
            route
            for family in AF
            for kind in LOOKUP_TYPES
            for route in self._route_dump(wire.route_filter(family, kind=kind))
        )

    def our_routes(self) -> Tuple[Route, ...]:
        """The routes of our protocol, filtered by the kernel."""
        return tuple(
            route
            for family in AF
            for route in self._route_dump(wire.route_filter(family, protocol=OUR_PROTOCOL))
        )

    def rules(self) -> Tuple[Rule, ...]:
        bodies = [
            body
            for family in AF
            for body in self._socket.dump(wire.RTM_GETRULE, wire.rule_filter(family))
        ]
        return tuple(rule for rule in map(wire.rule_of, bodies) if rule is not None)

    def neighbours(self) -> Tuple[Neighbour, ...]:
        neighbours = []
        for message in self._dump(ndmsg, RTM_GETNEIGH):
            text = message.get_attr("NDA_DST")
            if message["family"] not in FAMILY or text is None:
                continue
            router = bool(message["flags"] & NTF_ROUTER)
            failed = bool(message["state"] & NUD_FAILED)
            if message.get_attr("NDA_LLADDR") is None and not (router and failed):
                continue
            neighbours.append(
                Neighbour(
                    dev=self._name(message["ifindex"]),
                    ip=ip_address(text),
                    reachable=bool(message["state"] & NUD_USABLE),
                    router=router,
                    failed=failed,
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
        body = wire.lookup_body(destination, source, self._index(oif) if oif else 0)
        try:
            answer = self._socket.ask(wire.RTM_GETROUTE, body)
        except OSError as error:
            # The four that end a lookup: unreachable, its host form, prohibit, blackhole.
            if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL):
                return None
            raise DiscoveryError(f"route lookup for {destination} failed: {error}") from error
        for route in wire.routes_of(answer, self._name):
            return Lookup(route.dev, route.gateway, route.table, route.dst, route.type)
        return None

    def probe(
        self,
        candidates: Iterable[Tuple[str, IPAddress]],
        wait: float = 1.0,
        hosts: bool = False,
    ) -> Dict[Tuple[str, IPAddress], bool]:
        """Which addresses answer ARP or neighbour discovery on their link within `wait` seconds.

        Of IPv6 only routers count, unless `hosts` are as good.

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
                self._ask(request, RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)
            except NetlinkError:
                continue  # link without neighbours: no answer is the right answer
        deadline = time.monotonic() + wait
        while pending and not all(pending.values()):
            # Any IPv6 host answers; a router says in its answer that it is one.
            known = {
                (n.dev, n.ip)
                for n in self.neighbours()
                if n.reachable and (n.ip.version == 4 or n.router or hosts)
            }
            for candidate in pending:
                pending[candidate] = candidate in known
            if all(pending.values()) or time.monotonic() >= deadline:
                break
            time.sleep(0.05)
        return pending

    # -- change --------------------------------------------------------------

    def execute(self, operations: Sequence[Operation]) -> None:
        """Run operations in order, each kind a batch of its own.

        Raises `ApplyError` with the first operation that the kernel refused;
        those of the same batch that came after it may have been done.
        """
        start = 0
        for end in range(1, len(operations) + 1):
            if end == len(operations) or type(operations[end]) is not type(operations[start]):
                self._execute_kind(operations[start:end])
                start = end

    def _execute_kind(self, operations: Sequence[Operation]) -> None:
        requests: List[Tuple[int, int, bytes]] = []
        for operation in operations:
            if isinstance(operation, SetSysctl):
                write_sysctl(operation.dev, operation.key, operation.value)
            elif isinstance(operation, LoadNftables):
                nftables.load(operation.ruleset)
            else:
                requests.append(self._request_for(operation))
        try:
            failures = self._socket.change(requests)
        except OSError as error:
            raise ApplyError(f"netlink: {error}", error.errno or 0) from error
        for number, code in failures:
            # A hook's replay beside us did it first: as good, and it is looked at again.
            if code == DONE_ALREADY.get(type(operations[number])):
                continue
            told = operations[number].describe()
            raise ApplyError(f"the kernel refused `{told}`: {os.strerror(code)}", code)

    def _request_for(self, operation: Operation) -> Tuple[int, int, bytes]:
        """Message type, flags and body of an operation."""
        if isinstance(operation, SetGroup):
            body = wire.group_body(self._index(operation.dev), operation.group)
            return wire.RTM_SETLINK, 0, body
        if isinstance(operation, (ReplaceRoute, DeleteRoute)):
            route = operation.route
            body = wire.route_body(route, self._index(route.dev) if route.dev else 0)
            if isinstance(operation, ReplaceRoute):
                return wire.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body
            return wire.RTM_DELROUTE, 0, body
        assert isinstance(operation, (AddRule, DeleteRule))
        body = wire.rule_body(operation.rule)
        if isinstance(operation, AddRule):
            # Without EXCL the kernel adds a second copy.
            return wire.RTM_NEWRULE, NLM_F_CREATE | wire.NLM_F_EXCL, body
        return wire.RTM_DELRULE, 0, body

    # -- plumbing ------------------------------------------------------------

    def _route_dump(self, request: bytes) -> List[Route]:
        bodies = self._socket.dump(wire.RTM_GETROUTE, request)
        return [route for body in bodies for route in wire.routes_of(body, self._name)]

    def _dump(self, kind: Callable[[], Any], command: int) -> List[Any]:
        for attempt in range(DUMP_ATTEMPTS):
            try:
                return self._ask(kind(), command, NLM_F_DUMP)
            except (NetlinkError, OSError) as error:
                code = getattr(error, "code", None) or getattr(error, "errno", None)
                if code not in (errno.EINTR, errno.ENOBUFS) or attempt == DUMP_ATTEMPTS - 1:
                    raise DiscoveryError(f"netlink dump failed: {error}") from error
        raise AssertionError("unreachable")

    def _ask(self, message: Any, command: int, flags: int) -> List[Any]:
        # One way to ask for everything: nlm_request() behaves differently
        # between pyroute2 0.7 and 0.9, nlm_request_batch() does not.
        message["header"]["type"] = command
        message["header"]["flags"] = NLM_F_REQUEST | flags
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


class RouteSocket:
    """A plain NETLINK_ROUTE socket for the messages of `wire`."""

    def __init__(self) -> None:
        self._sequence = 0
        self._open()

    def _open(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._socket.settimeout(ANSWER_SECONDS)
        self._socket.bind((0, 0))
        # Strict: the kernel honours a dump's filter (Linux 4.20); older ones
        # ignore it and answer with everything, which costs time and no more.
        for option in (NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK):
            try:
                self._socket.setsockopt(SOL_NETLINK, option, 1)
            except OSError:
                continue

    def close(self) -> None:
        self._socket.close()

    def change(self, requests: Sequence[Tuple[int, int, bytes]]) -> List[Tuple[int, int]]:
        """Send (type, flags, body) requests; returns (number, errno) of those refused."""
        failures = []
        # As many in flight as acknowledgements fit: one that does not is lost.
        buffer = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        at_once = max(1, buffer // ACKNOWLEDGEMENT)
        for start in range(0, len(requests), at_once):
            batch = requests[start : start + at_once]
            first = self._sequence + 1
            self._sequence += len(batch)
            self._socket.sendall(
                b"".join(
                    wire.message(kind, flags | NLM_F_ACK, first + number, body)
                    for number, (kind, flags, body) in enumerate(batch)
                )
            )
            waiting = len(batch)
            while waiting:
                for answer in wire.messages(self._socket.recv(1 << 16)):
                    if answer.kind != wire.NLMSG_ERROR or answer.sequence < first:
                        continue
                    waiting -= 1
                    code = wire.error_number(answer.body)
                    if code:
                        failures.append((start + answer.sequence - first, code))
            if failures:
                break
        return failures

    def ask(self, kind: int, body: bytes) -> bytes:
        """Send one request and return the body of its answer; OSError when refused."""
        self._sequence += 1
        self._socket.sendall(wire.message(kind, 0, self._sequence, body))
        while True:
            for answer in wire.messages(self._socket.recv(1 << 16)):
                if answer.sequence != self._sequence:
                    continue
                if answer.kind == wire.NLMSG_ERROR:
                    code = wire.error_number(answer.body)
                    raise OSError(code, os.strerror(code))
                return answer.body

    def dump(self, kind: int, body: bytes) -> List[bytes]:
        """All answers to a dump request.

        A dump during which the kernel's lists changed is marked as such; it is
        read again, since half a picture would look like something gone.
        """
        for attempt in range(DUMP_ATTEMPTS):
            try:
                bodies, whole = self._dump_once(kind, body)
            except OSError as error:
                if error.errno in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):
                    return []  # a kernel without this family
                if error.errno == errno.ENOBUFS and attempt < DUMP_ATTEMPTS - 1:
                    # The kernel goes on with a dump that it has begun on this socket.
                    self.close()
                    self._open()
                    continue
                raise DiscoveryError(f"netlink dump failed: {error}") from error
            if whole:
                return bodies
        raise DiscoveryError("netlink dump failed: the kernel's lists change too fast")

    def _dump_once(self, kind: int, body: bytes) -> Tuple[List[bytes], bool]:
        self._sequence += 1
        self._socket.sendall(wire.message(kind, NLM_F_DUMP, self._sequence, body))
        bodies: List[bytes] = []
        whole = True
        while True:
            for answer in wire.messages(self._socket.recv(1 << 16)):
                if answer.sequence != self._sequence:
                    continue
                whole = whole and not answer.flags & wire.NLM_F_DUMP_INTR
                if answer.kind in (wire.NLMSG_DONE, wire.NLMSG_ERROR):
                    # Also where the dump ends: what made the kernel stop before its time.
                    code = wire.error_number(answer.body)
                    if code or answer.kind == wire.NLMSG_ERROR:
                        raise OSError(code, os.strerror(code))
                    return bodies, whole
                bodies.append(answer.body)


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


def _mac(value: Any) -> str:
    """A MAC as text; older pyroute2 hands unknown attributes over as hex bytes."""
    text = str(value or "").lower()
    return text if len(text) == 17 else ""
