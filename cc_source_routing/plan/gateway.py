"""Choose the gateway of an interface, with the reason: the gateway ladder.

Pure.  Each rung is a function that looks at one source of evidence and returns a `Gateway` or None.
The first result wins and always carries its reason, because a wrong gateway is the hardest thing to
see at 3 a.m.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Callable, NamedTuple

from ..errors import Fault
from ..model import (
    ADVERTISED,
    EARLIER_RUN,
    OUR_PROTOCOL,
    PROTO_BOOT,
    PROTO_RA,
    RESERVED_TABLES,
    Gateway,
    InterfaceStanza,
    IPAddress,
    IPNetwork,
    Lease,
    Link,
    MetadataPort,
    MetadataRoute,
    Route,
)
from .host_index import CONFIGURED_PROTOCOLS, HostIndex, is_routable


@dataclass(frozen=True)
class Question:
    """The interface and family whose gateway is sought, and the context for it."""

    link: Link
    family: int
    index: HostIndex
    entry: InterfaceStanza | None
    guess: str  # never | verify | always


def choose_gateway(question: Question) -> Gateway | None:
    """The gateway of the first rung that has one; None when no rung has."""
    own = {address.ip for address in question.index.addresses(question.link.name, question.family)}
    for rung in LADDER:
        gateway = rung(question)
        # An IPv6 next hop for IPv4 (RFC 5549) is not used as a gateway of our tables.
        if gateway is None or gateway.ip.version != question.family:
            continue
        if gateway.ip not in own:
            return gateway
    return None


def stanza_gateway_fault(question: Question) -> Fault | None:
    """The fault in the stanza's gateway, given the NIC's current addresses."""
    entry, dev, family = question.entry, question.link.name, question.family
    addresses = question.index.addresses(dev, family)
    ip = _stanza_ip(entry, family)
    if entry is None or ip is None or not addresses:
        return None
    path = f"interfaces.{entry.id}.gateway{family}"
    if any(ip == address.ip for address in addresses):
        return Fault(path, f"{ip} is {dev}'s own address")
    if entry.on_link or question.index.is_on_link(dev, ip):
        return None
    subnets = ", ".join(str(net) for net in question.index.connected(dev, family)) or "none"
    return Fault(
        path, f"{ip} is in no subnet of {dev} ({subnets}); set on_link: true if that is meant"
    )


def has_no_gateway(question: Question) -> bool:
    """Whether metadata or a lease says that the NIC's current addresses have no gateway.

    Static metadata or a lease without a gateway says so.  In such a network the first address may
    be another server's.
    """
    port = question.index.port(question.link)
    if port is not None and port.complete and _is_current(question, port):
        return not _defaults(port.routes, question.family)
    lease = question.index.lease(question.link.name, question.family)
    # DHCPv6 has no gateway option.
    return lease is not None and lease.family == 4 and lease_gateway(lease)[0] is None


def was_revoked(question: Question) -> bool:
    """Whether the last gateway was an advertised default, whose absence means revocation."""
    return _earlier_source(question) == ADVERTISED


def is_evident(gateway: Gateway | None) -> bool:
    """Whether a source reports it now: it is neither assumed nor only remembered."""
    return gateway is not None and gateway.source not in (*ASSUMED, EARLIER_RUN)


def unprobed_guesses(question: Question, gateway: Gateway | None) -> list[IPAddress]:
    """Addresses, not probed so far, that would replace `gateway` if they answered."""
    if question.guess != "verify" or (gateway is not None and gateway.reported):
        return []
    index, dev = question.index, question.link.name
    if index.is_virtual(question.link):
        return []
    guesses = _guesses(index, dev, question.family)
    return [ip for ip in guesses if (dev, ip) not in index.state.probes]


def _guesses(index: HostIndex, dev: str, family: int) -> list[IPAddress]:
    """The first address of each subnet of the interface, without its own addresses."""
    own = {address.ip for address in index.addresses(dev, family)}
    candidates = []
    for network in index.connected(dev, family):
        if network.max_prefixlen - network.prefixlen < 2:
            continue
        first = network.network_address + 1
        if first not in own:
            candidates.append(first)
    return candidates


# -- the rungs ---------------------------------------------------------------


def _from_stanza(question: Question) -> Gateway | None:
    ip = _stanza_ip(question.entry, question.family)
    if ip is None or question.entry is None:
        return None
    reason = f"the stanza's interfaces.{question.entry.id}.gateway{question.family}"
    return _gateway(question, ip, "stanza", reason)


def _from_others_policy(question: Question) -> Gateway | None:
    """The default through this NIC in a table that a foreign rule selects for its address."""
    dev, family = question.link.name, question.family
    own = [address.ip for address in question.index.addresses(dev, family)]
    asked = [
        rule.table
        for rule in sorted(question.index.state.rules, key=lambda rule: rule.priority)
        if rule.family == family
        and rule.src is not None
        and rule.table not in RESERVED_TABLES
        and not (rule.dst or rule.oif or rule.fwmark or rule.other)
        and any(ip in rule.src for ip in own)
    ]
    for table in dict.fromkeys(asked):
        for route in question.index.defaults(table, dev, family):
            if route.protocol != OUR_PROTOCOL and route.gateway is not None:
                reason = f"default route via {dev} in table {table}, by a rule for its address"
                return _gateway(question, route.gateway, "policy", reason)
    return None


def _from_metadata(question: Question) -> Gateway | None:
    port = _current_port(question)
    if port is None:
        return None
    known = _is_current(question, port)
    defaults = _defaults(port.routes, question.family)
    # A port on two subnets lists a default for each; prefer the one that is on-link.
    defaults.sort(key=lambda ip: not question.index.is_on_link(question.link.name, ip))
    for ip in defaults:
        # An off-link gateway is accepted only when the port's addresses match the NIC's.
        if known or question.index.is_on_link(question.link.name, ip):
            return _gateway(question, ip, "metadata", f"default route of the port in {port.source}")
    return None


def _current_port(question: Question) -> MetadataPort | None:
    """The NIC's port; None if the metadata gives it other addresses than the NIC has now.

    Metadata from before a change of address is not evidence.
    """
    port = question.index.port(question.link)
    if port is None or _is_current(question, port):
        return port
    known = any(interface.version == question.family for interface in port.addresses)
    return None if known else port


def _is_current(question: Question, port: MetadataPort) -> bool:
    """Whether the NIC has one of the port's addresses in this family."""
    own = {a.ip for a in question.index.addresses(question.link.name, question.family)}
    return any(interface.ip in own for interface in port.addresses)


def _from_main_default(question: Question) -> Gateway | None:
    outlived = _outlived(question)
    defaults = [r for r in _main_defaults(question) if r.gateway not in outlived]
    if not defaults:
        return None
    # The kernel's order (RFC 4191 3.2); among equals keep the one in use.
    kept = {route.gateway for route in _own_defaults(question)}
    neighbours = question.index.neighbours(question.link.name, question.family)
    # While the kernel probes a router that has failed, its entry is incomplete.  That is no reason
    # to return to it from another one.
    dead = {n.ip for n in neighbours if n.failed or not (n.reachable or n.ip in kept or not kept)}
    best = min(
        defaults,
        key=lambda route: (
            route.metric,
            route.gateway in dead,
            -route.preference,
            route.gateway not in kept,
        ),
    )
    assert best.gateway is not None
    if best.protocol == PROTO_RA:
        reason = f"default route via {question.link.name} in table main, by router advertisement"
        return _gateway(question, best.gateway, ADVERTISED, reason)
    reason = f"default route via {question.link.name} in table main"
    return _gateway(question, best.gateway, "default route", reason)


def _from_lease(question: Question) -> Gateway | None:
    lease = question.index.lease(question.link.name, question.family)
    if lease is None:
        return None
    ip, option = lease_gateway(lease)
    if ip is None:
        return None
    reason = f"{option} of the {lease.client} lease {lease.path}"
    outlived = _outlived(question)
    if outlived:
        reason += f"; main's default via {outlived[0]} is of one before it"
    return _gateway(question, ip, "lease", reason)


def _from_router_advertisement(question: Question) -> Gateway | None:
    """A router in the neighbour cache, for NICs on which advertisements set no default route.

    A router that is no longer a default router (lifetime 0, RFC 4861 6.3.4) is still a neighbour
    with the router flag.  So is every host that forwards (the R flag of its neighbour
    advertisements).  Therefore this rung comes after all reported gateways, and only link-local
    addresses count, since router advertisements have a link-local source (6.1.2).
    """
    if was_revoked(question) or has_no_gateway(question):
        return None
    routers = [
        neighbour
        for neighbour in question.index.neighbours(question.link.name, question.family)
        if neighbour.router and neighbour.ip.is_link_local
    ]
    if not routers:
        return None
    best = min(routers, key=lambda n: (n.failed, not n.reachable, int(n.ip)))
    reason = f"router advertisement on {question.link.name}"
    return _gateway(question, best.ip, ROUTER_ADVERTISEMENT, reason)


def _from_only_gateway(question: Question) -> Gateway | None:
    """The only next hop of a route that covers the NIC's own network, so that it leads beyond it.

    A link-local next hop also counts, since routers have such addresses (RFC 4861 6.1.2).
    """
    only = _only_gateway(question)
    if only is None:
        return None
    own = question.index.connected(question.link.name, question.family)
    covers = any(network.subnet_of(only.to) for network in own)  # type: ignore[arg-type]
    return only.gateway if covers or only.gateway.ip.is_link_local else None


def _from_only_neighbour(question: Question) -> Gateway | None:
    """The only next hop of routes elsewhere, which may be just a neighbour (a flannel node)."""
    only = _only_gateway(question)
    return None if only is None else only.gateway._replace(source=NEXT_HOP, reported=False)


class _Only(NamedTuple):
    gateway: Gateway
    to: IPNetwork  # the widest prefix that it leads to


def _only_gateway(question: Question) -> _Only | None:
    """The only gateway of any route through the NIC, in table main or else in the metadata.

    The kernel removes main's routes when a link goes down, and ifupdown does not restore them.
    """
    if question.index.is_virtual(question.link):
        return None
    dev, family = question.link.name, question.family
    routes = [
        (route.dst, route.gateway)
        for route in question.index.main_routes(dev, family)
        if route.gateway is not None and route.protocol in CONFIGURED_PROTOCOLS
    ]
    where = f"via {dev}"
    port = _current_port(question)
    if not routes and port is not None:
        routes = [
            (route.to, route.via)
            for route in port.routes
            if route.to.version == family and question.index.is_on_link(dev, route.via)
        ]
        where = f"of the port in {port.source}"
    # In a network without a router the DHCP server itself provides a route to the metadata service
    # (Neutron's isolated metadata).  It routes nothing else.
    routes = [(to, via) for to, via in routes if is_routable(to)]
    gateways = {via for _to, via in routes}
    if len(gateways) != 1:
        return None
    (ip,) = gateways
    shortest = min((to for to, _via in routes), key=lambda to: (to.prefixlen, int(to[0])))
    reason = f"only gateway of any route {where} ({shortest})"
    return _Only(_gateway(question, ip, "only gateway", reason), shortest)


def _from_earlier_run(question: Question) -> Gateway | None:
    """The gateway of an earlier run: a current error or silence never deletes it.

    The kernel removes a table's routes with their link, and they may not be restored yet.  So the
    gateway that was recorded then counts as well.
    """
    if _earlier_source(question) in REVOCABLE:
        return None
    dev = question.link.name
    kept = [
        (route.gateway, f"kept from an earlier run (table {route.table})")
        for route in _own_defaults(question)
    ]
    earlier = question.index.state.previous.gateways.get((dev, question.family))
    if earlier is not None and earlier.mac != question.link.mac:
        earlier = None
    if earlier is not None:
        kept.append((earlier.ip, f"kept from an earlier run ({earlier.source})"))
    for ip, reason in kept:
        if ip is not None and question.index.is_on_link(dev, ip):
            # Trust it as before: siblings' routes must not change because a source is silent.
            reported = earlier is not None and earlier.ip == ip and earlier.source not in ASSUMED
            if not reported and has_no_gateway(question):
                continue
            return _gateway(question, ip, EARLIER_RUN, reason)._replace(reported=reported)
    return None


def _from_earlier_report(question: Question) -> Gateway | None:
    """A gateway that a source reported at an earlier run; an assumed one is guessed again.

    It comes before a router that only the neighbour cache knows, since any host that forwards
    looks like one there, unless it was itself such a router: then the cache knows better.
    """
    if _earlier_source(question) == ROUTER_ADVERTISEMENT:
        return None
    found = _from_earlier_run(question)
    return found if found is not None and found.reported else None


def _from_guess(question: Question) -> Gateway | None:
    if question.guess == "never" or has_no_gateway(question) or was_revoked(question):
        return None
    if question.index.is_virtual(question.link):
        return None
    dev = question.link.name
    for ip in _guesses(question.index, dev, question.family):
        answered = question.index.state.probes.get((dev, ip), False)
        if answered:
            asked = "ARP" if question.family == 4 else "neighbour discovery"
            reason = f"first address of the subnet, answers {asked}"
            return _gateway(question, ip, GUESS, reason)._replace(reported=False)
        if question.guess == "always":
            reason = "first address of the subnet, not verified"
            return _gateway(question, ip, GUESS, reason)._replace(reported=False)
    return None


# Live state precedes written state: metadata and leases describe an earlier situation.
LADDER: tuple[Callable[[Question], Gateway | None], ...] = (
    _from_stanza,
    _from_others_policy,
    _from_main_default,
    _from_lease,
    _from_metadata,
    _from_only_gateway,
    _from_earlier_report,
    _from_router_advertisement,
    _from_guess,
    _from_earlier_run,
    _from_only_neighbour,
)
ROUTER_ADVERTISEMENT = "router advertisement"
GUESS = "guess"
NEXT_HOP = "next hop"  # of routes to destinations elsewhere
ASSUMED = frozenset((GUESS, NEXT_HOP))

# The absence of these is an answer, not silence: a stanza is always complete.
REVOCABLE = frozenset((ADVERTISED, "stanza"))


# -- helpers -----------------------------------------------------------------


def lease_gateway(lease: Lease) -> tuple[IPAddress | None, str]:
    """A lease's gateway and the option that it comes from.

    A client that receives classless routes must ignore the router option (RFC 3442).  Then only a
    default among those routes counts.
    """
    if lease.classless_routes:
        defaults = _defaults(lease.classless_routes, lease.family)
        return (defaults[0] if defaults else None), "option 121"
    routers = [ip for ip in lease.routers if ip.version == lease.family]
    return (routers[0] if routers else None), "router option"


def _gateway(question: Question, ip: IPAddress, source: str, reason: str) -> Gateway:
    on_link = question.index.is_on_link(question.link.name, ip)
    return Gateway(ip, source, reason, onlink=not on_link)


def _main_defaults(question: Question) -> list[Route]:
    routes = question.index.main_routes(question.link.name, question.family)
    return [route for route in routes if route.dst.prefixlen == 0 and route.gateway is not None]


def _outlived(question: Question) -> tuple[IPAddress, ...]:
    """Gateways of main's defaults that come from a lease before the current one.

    The client's script sets them (as routes of protocol boot) and leaves them in place when the
    lease is renewed with another gateway.
    """
    lease = question.index.lease(question.link.name, question.family)
    if lease is None or not lease.former or lease_gateway(lease)[0] is None:
        return ()
    left = [r.gateway for r in _main_defaults(question) if r.protocol == PROTO_BOOT]
    return tuple(ip for ip in lease.former if ip in left)


def _own_defaults(question: Question) -> list[Route]:
    """The default routes of the NIC's own table, as an earlier run set them."""
    return [
        route
        for route in question.index.state.routes
        if route.protocol == OUR_PROTOCOL
        and route.dev == question.link.name
        and route.family == question.family
        and route.dst.prefixlen == 0
    ]


def _earlier_source(question: Question) -> str | None:
    key = question.link.name, question.family
    earlier = question.index.state.previous.gateways.get(key)
    return earlier and earlier.source


def _stanza_ip(entry: InterfaceStanza | None, family: int) -> IPAddress | None:
    if entry is None:
        return None
    return entry.gateway4 if family == 4 else entry.gateway6


def _defaults(routes: Iterable[MetadataRoute], family: int) -> list[IPAddress]:
    return [r.via for r in routes if r.to.prefixlen == 0 and r.to.version == family]
