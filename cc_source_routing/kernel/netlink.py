"""Read the kernel's state as model values, and run operations as requests.

Everything is rtnetlink over one socket of `rtnl`, in the process's network
namespace, except sysctls (files) and nftables (the nft command).
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import (
    Callable,
    NamedTuple,
    TypeVar,
)

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
from . import messages, nftables
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
from .messages import AF, Message
from .needed_routes import NeededRoutes, networks_of_addresses, networks_of_routes
from .rtnl import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Chooser,
    Fields,
    RefusedError,
    RtnlSocket,
)

# The four that end a lookup: unreachable, its host form, prohibit, blackhole.
NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL)

T = TypeVar("T")

# The kernel's error when an operation's result already exists, which is not a refusal.
DONE_ALREADY: dict[type, int] = {
    AddRule: errno.EEXIST,
    DeleteRule: errno.ENOENT,
    DeleteRoute: errno.ESRCH,
}


class Lookup(NamedTuple):
    """The kernel's answer to one route lookup."""

    dev: str
    gateway: IPAddress | None
    table: int
    dst: IPNetwork  # the matched prefix
    type: str


class Kernel:
    """A netlink socket of the current network namespace, as a context manager."""

    def __init__(self) -> None:
        try:
            self._socket = RtnlSocket()
        except OSError as error:
            raise DiscoveryError(f"cannot talk to the kernel over netlink: {error}") from error
        self._names: dict[int, str] = {}
        self._indices: dict[str, int] = {}
        # Of the last call of `needed_routes`.
        self._networks: frozenset[IPNetwork] = frozenset()
        self._needed: NeededRoutes | None = None

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    @property
    def port(self) -> int:
        """The port id by which announcements name the changes that are made here."""
        return self._socket.port

    # -- observation ---------------------------------------------------------

    def links(self) -> tuple[Link, ...]:
        found = self._dump(messages.RTM_GETLINK, {}, lambda message: message)
        # A link's master may come after it in the dump.
        self._names = {message["index"]: messages.link_name(message) for message in found}
        self._indices = {name: index for index, name in self._names.items()}
        links = (messages.link_of(message, self._master_name) for message in found)
        return tuple(link for link in links if link is not None)

    def addresses(self) -> tuple[Address, ...]:
        def read(message: Message) -> Address | None:
            return messages.address_of(message, self._name)

        return tuple(self._dump(messages.RTM_GETADDR, {}, read))

    def routes(self) -> tuple[Route, ...]:
        """All routes except table local's: unicast and the types that end a lookup."""
        return tuple(
            route
            for family in AF
            for kind in messages.LOOKUP_TYPES
            for route in self._routes(messages.route_filter(family, kind=kind))
        )

    def needed_routes(
        self, addresses: Iterable[Address], more: Iterable[IPNetwork]
    ) -> tuple[Route, ...]:
        """Those of `routes` that a plan can depend on; the thousands of a daemon are not decoded.

        What else is near a NIC depends on `addresses`, on `more` networks, and on those of some
        routes.  The latter are remembered, so that only the first call may take a second dump.
        """
        given = networks_of_addresses(addresses).union(more)
        known = given | self._networks
        needed = NeededRoutes(known)
        found = self._chosen_routes(needed)
        self._networks = networks_of_routes(found)
        self._needed = NeededRoutes(given | self._networks)
        if needed.left_out and not self._networks <= known:
            found = self._chosen_routes(self._needed)
        return found

    def is_far(self, message: bytes) -> bool:
        """Whether an undecoded route is one of those that `needed_routes` leaves out of main."""
        return self._needed is not None and self._needed.is_far(message)

    def our_routes(self) -> tuple[Route, ...]:
        """The routes of our protocol, filtered by the kernel."""
        return tuple(
            route
            for family in AF
            for route in self._routes(messages.route_filter(family, protocol=OUR_PROTOCOL))
        )

    def rules(self) -> tuple[Rule, ...]:
        return tuple(
            rule
            for number in AF.values()
            for rule in self._dump(messages.RTM_GETRULE, {"family": number}, messages.rule_of)
        )

    def neighbours(self) -> tuple[Neighbour, ...]:
        def read(message: Message) -> Neighbour | None:
            return messages.neighbour_of(message, self._name)

        return tuple(self._dump(messages.RTM_GETNEIGH, {}, read))

    def lookup(
        self, destination: IPAddress, source: IPAddress | None = None, oif: str = ""
    ) -> Lookup | None:
        """The kernel's route for a packet from `source`; None if there is none.

        With ``RTM_F_FIB_MATCH`` the kernel returns the matched entry with table and
        prefix (``ip route get fibmatch``).
        """
        request = messages.lookup_request(destination, source, self._index(oif) if oif else 0)
        try:
            answer = self._socket.ask(messages.RTM_GETROUTE, request)
        except OSError as error:
            if isinstance(error, RefusedError) and error.errno in NO_ROUTE:
                return None
            raise DiscoveryError(f"route lookup for {destination} failed: {error}") from error
        for route in messages.routes_of(answer, self._name):
            return Lookup(route.dev, route.gateway, route.table, route.dst, route.type)
        return None

    def probe(
        self,
        candidates: Iterable[tuple[str, IPAddress]],
        wait: float = 1.0,
        hosts: bool = False,
    ) -> dict[tuple[str, IPAddress], bool]:
        """Which addresses answer ARP or neighbour discovery on their link within `wait` seconds.

        For IPv6 only routers count, unless `hosts` is set.

        The kernel itself sends the requests (``NTF_USE``, ``ip neigh replace ... use``):
        this needs no socket and no ping, and leaves only an ordinary cache entry.
        """
        pending = dict.fromkeys(candidates, False)
        for dev, ip in pending:
            request = messages.use_request(ip, self._index(dev))
            try:
                self._socket.change(messages.RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, request)
            except RefusedError:
                continue  # a link without neighbours: correct to report no answer
            except OSError as error:
                raise DiscoveryError(f"cannot ask for {ip} on {dev}: {error}") from error
        deadline = time.monotonic() + wait
        while pending and not all(pending.values()):
            # Any IPv6 host answers; a router sets the router flag in its answer.
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
        """Run operations in order.

        Raises `ApplyError` with the first operation that the kernel refused; the later
        ones have not been run.
        """
        for operation in operations:
            if isinstance(operation, SetSysctl):
                write_sysctl(operation.dev, operation.key, operation.value)
            elif isinstance(operation, LoadNftables):
                nftables.load(operation.ruleset)
            else:
                self._send(operation)

    def _send(self, operation: Operation) -> None:
        kind, flags, request = self._request_for(operation)
        try:
            self._socket.change(kind, flags, request)
        except RefusedError as error:
            code = error.errno or 0
            # Another program (a hook's replay) was first: the result already exists.
            if code != DONE_ALREADY.get(type(operation)):
                what = operation.describe()
                raise ApplyError(
                    f"the kernel refused `{what}`: {os.strerror(code)}", code
                ) from None
        except OSError as error:
            raise ApplyError(f"netlink: {error}", error.errno or 0) from error

    def _request_for(self, operation: Operation) -> tuple[int, int, Fields]:
        """Message type, flags and contents of an operation."""
        if isinstance(operation, SetGroup):
            request = messages.group_request(self._index(operation.dev), operation.group)
            return messages.RTM_SETLINK, 0, request
        if isinstance(operation, (ReplaceRoute, DeleteRoute)):
            route = operation.route
            request = messages.route_request(route, self._index(route.dev) if route.dev else 0)
            if isinstance(operation, ReplaceRoute):
                return messages.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, request
            return messages.RTM_DELROUTE, 0, request
        assert isinstance(operation, (AddRule, DeleteRule))
        request = messages.rule_request(operation.rule)
        if isinstance(operation, AddRule):
            # Without EXCL the kernel adds a second copy.
            return messages.RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, request
        return messages.RTM_DELRULE, 0, request

    # -- plumbing ------------------------------------------------------------

    def _chosen_routes(self, needed: NeededRoutes) -> tuple[Route, ...]:
        return tuple(
            route
            for family in AF
            for route in self._routes(messages.route_filter(family), needed.for_dump)
        )

    def _routes(self, request: Fields, chooser: Chooser | None = None) -> Iterator[Route]:
        def read(message: Message) -> list[Route]:
            return messages.routes_of(message, self._name)

        return chain.from_iterable(self._dump(messages.RTM_GETROUTE, request, read, chooser))

    def _dump(
        self,
        kind: int,
        request: Fields,
        read: Callable[[Message], T | None],
        chooser: Chooser | None = None,
    ) -> list[T]:
        """The results of `read` for each answer, without the Nones."""
        try:
            return self._socket.dump(kind, request, read, chooser)
        except OSError as error:
            raise DiscoveryError(f"netlink dump failed: {error}") from error

    def _master_name(self, index: int) -> str:
        return self._names.get(index, "")

    def _name(self, index: int) -> str:
        return self._names.get(index, f"#{index}")

    def _index(self, name: str) -> int:
        if name not in self._indices:
            self.links()
        try:
            return self._indices[name]
        except KeyError:
            raise ApplyError(f"{name}: no such interface", errno.ENODEV) from None


def write_sysctl(dev: str, key: str, value: int) -> None:
    """Set ``net.ipv4.conf.DEV.KEY``; `dev` comes from the kernel, `key` from our list."""
    try:
        _sysctl_path(dev, key).write_text(f"{value}\n")
    except OSError as error:
        raise ApplyError(
            f"sysctl net.ipv4.conf.{dev}.{key}: {error.strerror}", error.errno or 0
        ) from error


def read_sysctls(devs: Iterable[str]) -> dict[tuple[str, str], int]:
    """The `SYSCTLS` of ``net.ipv4.conf``, of the interfaces and of ``all``."""
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
