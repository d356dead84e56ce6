"""Build the routes of one NIC's table.  Pure.

These are its connected networks, the stanza's routes, the prefixes that its siblings reach by their
links and gateways (through its own gateway), and its default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..errors import Fault
from ..model import (
    ANYWHERE,
    METRIC,
    OUR_PROTOCOL,
    SCOPE_LINK,
    SCOPE_UNIVERSE,
    InterfaceStanza,
    IPAddress,
    IPNetwork,
    Link,
    Route,
)
from .host_index import HostIndex, is_specific, network_order
from .prefixes import Spans, collapse, span
from .sides import Side


def stanza_routes(
    index: HostIndex, link: Link, entry: InterfaceStanza | None, table: int, family: int
) -> tuple[tuple[Route, ...], list[Fault]]:
    """The routes that a NIC's stanza entry adds to its table, and the faults in them."""
    routes: list[Route] = []
    faults: list[Fault] = []
    for number, wanted in enumerate(entry.routes if entry else ()):
        if wanted.to.version != family:
            continue
        path = f"interfaces.{entry.id if entry else ''}.routes.{number}"
        if wanted.to.prefixlen == 0:
            faults.append(Fault(f"{path}.to", f"a default route is set by gateway{family}"))
            continue
        on_link = wanted.via is not None and index.is_on_link(link.name, wanted.via)
        if wanted.via is not None and not on_link and not wanted.on_link:
            faults.append(
                Fault(
                    f"{path}.via",
                    f"{wanted.via} is in no subnet of {link.name}; "
                    "set on_link: true if that is meant",
                )
            )
        onlink = wanted.via is not None and not on_link
        routes.append(route_of(table, wanted.to, link.name, wanted.via, onlink))
    return tuple(routes), faults


def table_routes(
    side: Side, siblings: Sequence[Side], main_prefixes: Iterable[IPNetwork]
) -> tuple[Route, ...]:
    """All routes of one NIC's table in one family, in a fixed order."""
    entries: dict[IPNetwork, Route] = {}
    for network in side.connected:
        entries[network] = route_of(side.table, network, side.name)
    for route in side.extra:
        entries.setdefault(route.dst, route)
    foreign = set().union(*(sibling.prefixes for sibling in siblings))
    onlink = side.gateway.onlink
    barriers = set(entries) | set(side.static) | (set(main_prefixes) - foreign)
    for network in _collapse(foreign, barriers):
        own = side.static.get(network)
        via = own.gateway if own else side.gateway.ip
        entries.setdefault(network, route_of(side.table, network, side.name, via, onlink))
    for network in _throws(entries, main_prefixes, foreign):
        entries[network] = Route(
            side.table,
            network,
            metric=METRIC,
            protocol=OUR_PROTOCOL,
            type="throw",
        )
    ordered = [entries[network] for network in sorted(entries, key=network_order)]
    anywhere = ANYWHERE[side.gateway.ip.version]
    default = route_of(side.table, anywhere, side.name, side.gateway.ip, onlink)
    return (*ordered, default)


def _collapse(foreign: set[IPNetwork], barriers: set[IPNetwork]) -> list[IPNetwork]:
    """Merge prefixes to fewer ones for the same addresses, where no other prefix is among them.

    Without this N NICs need N(N-1) routes in each family.  Near a barrier (a prefix of the table
    that goes elsewhere, or one that main decides) a merged prefix could change the longest match,
    so there the prefixes stay as they are.
    """
    near = Spans(barriers)
    apart = {network for network in foreign if near.overlaps(network)}
    collapsed = set(apart)
    for union in collapse(foreign - apart):
        # One that is no longer specific would be suppressed like a default.
        if near.overlaps(union) or not is_specific(union):
            first, last = span(union)
            collapsed.update(n for n in foreign if first <= int(n.network_address) <= last)
        else:
            collapsed.add(union)
    return sorted(collapsed, key=network_order)


def _throws(
    entries: Mapping[IPNetwork, Route],
    main_prefixes: Iterable[IPNetwork],
    foreign: set[IPNetwork],
) -> list[IPNetwork]:
    """Prefixes of main that are more specific than one of the table's: main decides (stage +20)."""
    candidates = [n for n in main_prefixes if n not in entries and n not in foreign]
    if not candidates:
        return []
    spans = [(*span(network), network.prefixlen) for network in entries]
    throws = []
    for network in candidates:
        first = int(network.network_address)
        if any(lo <= first <= hi and length < network.prefixlen for lo, hi, length in spans):
            throws.append(network)
    return throws


def route_of(
    table: int,
    dst: IPNetwork,
    dev: str,
    via: IPAddress | None = None,
    onlink: bool = False,
) -> Route:
    # The scope that the kernel sets: IPv4 on-link routes have scope link, IPv6 routes have none.
    scope = SCOPE_LINK if via is None and dst.version == 4 else SCOPE_UNIVERSE
    return Route(
        table,
        dst,
        dev,
        via,
        METRIC,
        OUR_PROTOCOL,
        scope,
        onlink=onlink and via is not None,
    )
