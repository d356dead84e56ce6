"""From a stanza and a host's state to the one RoutingPlan.  Pure.

The layout answers one question for each packet: which interface owns its
source address?  `rules` has the rules that ask it, and a NIC's table here the
answer: its connected networks, what its siblings reach by their links and
gateways (by the own gateway), and its default.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from ..errors import Fault, StanzaError
from ..model import (
    FAMILIES,
    METRIC,
    NO_GATEWAY,
    NO_SIBLING,
    OUR_GROUP,
    OUR_PROTOCOL,
    PASSING_REASONS,
    SCOPE_LINK,
    SCOPE_UNIVERSE,
    TABLE_LOCAL,
    Gateway,
    HostState,
    InterfaceStanza,
    IPInterface,
    IPNetwork,
    Link,
    PlannedNic,
    Route,
    RoutingPlan,
    Rule,
    Stanza,
)
from ..text.ip_words import describe_rule
from .connection_marks import allocate_marks
from .gateway import Question, choose_gateway, has_no_gateway, stanza_gateway_fault
from .host_index import CONFIGURED_PROTOCOLS, HostIndex, is_routable, is_specific, network_order
from .nics import Selection, natural_order, select_links
from .prefixes import Spans, collapse, span
from .priorities import Placement, place
from .rules import MOST_OTHERS, Own, asked_after_ours, own_rules
from .table_ids import allocate_tables

ANYWHERE: Dict[int, IPNetwork] = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}
RP_FILTER_VALUES = {"keep": None, "strict": 1, "loose": 2}


class Side(NamedTuple):
    """What one family of one NIC brings into the plan."""

    name: str
    table: int
    addresses: Tuple[IPInterface, ...]
    gateway: Gateway
    connected: Tuple[IPNetwork, ...]
    static: Mapping[IPNetwork, Route]  # configured specific routes of main through it
    extra: Tuple[Route, ...]  # the stanza's routes for its table
    sources: Tuple[IPNetwork, ...] = ()  # prefixes that leave by it, beside its addresses

    @property
    def prefixes(self) -> Set[IPNetwork]:
        """What its siblings reach by their own gateways: nothing on a mere guess.

        Whether a gateway that nobody has told really routes is not known, so there
        main's own word stands.
        """
        if not self.gateway.told:
            return set()
        return set(self.connected) | set(self.static)


def build_plan(stanza: Stanza, state: HostState) -> RoutingPlan:
    """Plan everything, or an empty plan whose `reason` says why there is nothing to do.

    Raises `StanzaError` when the stanza contradicts what the host is (all
    faults at once) and `PlanError` when no table is left.
    """
    if not stanza.enabled:
        return RoutingPlan(reason="source routing is off in the stanza")
    index = HostIndex(state)
    selection = select_links(stanza, index)
    gateways, faults = _gateways(stanza, index, selection)
    faults += selection.faults
    served = [(link, entry) for link, entry in selection.managed if gateways[link.name]]
    ids, table_faults = allocate_tables(
        [(link.name, entry) for link, entry in served], stanza.table_base, state
    )
    faults += table_faults
    claims, warnings = _claim_addresses(index, served, stanza)
    sources, source_warnings = _claim_sources(index, served, claims)
    warnings += source_warnings
    sides: Dict[str, Dict[int, Side]] = {link.name: {} for link, _entry in served}
    placement = place(stanza.rule_priority, sorted(stanza.families), state, set(ids))
    warnings += _placement_warnings(stanza, placement)
    for family in sorted(stanza.families):
        if not _local_comes_first(family, placement.priority, state):
            warnings.append(
                f"IPv{family} is not served: table local is not looked up before "
                f"rule_priority {placement.priority}, so our rules would cut the host off"
            )
            continue
        error = index.error_default(family)
        if error is not None:
            warnings.append(
                f"IPv{family} is not served: table main's best default is an error "
                f"({error.type} default metric {error.metric}), which ends each lookup there"
            )
            continue
        candidates = []
        for link, entry in served:
            gateway, addresses = gateways[link.name].get(family), claims[link.name, family]
            prefixes = sources.get((link.name, family), ())
            if gateway is None or not (addresses or prefixes):
                continue
            side, side_faults = _side(index, link, entry, ids[link.name], addresses, gateway)
            faults += side_faults
            candidates.append(side._replace(sources=prefixes))
        # One NIC with a gateway in a family is what main's own default serves.
        if len(candidates) > 1 or _goes_on_alone(candidates, selection, state):
            for side in candidates:
                sides[side.name][family] = side
    if faults:
        raise StanzaError(faults)
    return _assemble(stanza, placement, index, selection, served, sides, gateways, warnings)


def _goes_on_alone(candidates: Sequence[Side], selection: Selection, state: HostState) -> bool:
    """Whether the last NIC of a family is still served, since its siblings only wait.

    One of them has lost its link, its lease or its router: main may have no
    default until that is back, and then has another one before the next run.
    """
    if len(candidates) != 1:
        return False
    (side,) = candidates
    family, name = side.gateway.ip.version, side.name
    others = [link.name for link, _entry in selection.managed]
    others += [left for left, why in selection.left_out.items() if why in PASSING_REASONS]
    is_served = any(
        rule.family == family and rule.oif == name and rule.table == side.table
        for rule in state.rules
    )
    return is_served and any(other != name for other in others)


def _local_comes_first(family: int, priority: int, state: HostState) -> bool:
    """Whether packets to the host itself are found before our rules.

    The kernel's rule for table local stands at 0; who uses VRFs moves it behind
    (Documentation/networking/vrf.rst), where rule +20 would take its packets.
    """
    rules = [rule for rule in state.rules if rule.family == family]
    return not rules or any(
        rule.table == TABLE_LOCAL
        and rule.priority < priority
        and not (rule.src or rule.oif or rule.fwmark or rule.other)
        for rule in rules
    )


def _placement_warnings(stanza: Stanza, placement: Placement) -> List[str]:
    if not placement.tunnels:
        return []
    first = min(placement.tunnels, key=lambda rule: rule.priority)
    return [
        f"a full tunnel's rules have come before rule_priority {stanza.rule_priority} "
        f"({describe_rule(first)}); ours begin at {placement.priority} as long as they do"
    ]


# -- what each NIC brings ------------------------------------------------------


def _gateways(
    stanza: Stanza, index: HostIndex, selection: Selection
) -> Tuple[Dict[str, Dict[int, Gateway]], List[Fault]]:
    gateways: Dict[str, Dict[int, Gateway]] = {}
    faults: List[Fault] = []
    for link, entry in selection.managed:
        gateways[link.name] = {}
        for family in sorted(stanza.families):
            if not index.addresses(link.name, family) and not any(
                prefix.version == family for prefix in _sources(index, link, entry)
            ):
                continue
            question = Question(link, family, index, entry, stanza.gateway_guess)
            fault = stanza_gateway_fault(question)
            if fault is not None:
                faults.append(fault)
            gateway = choose_gateway(question)
            if gateway is not None:
                gateways[link.name][family] = gateway
    return gateways, faults


def _claim_addresses(
    index: HostIndex,
    served: Sequence[Tuple[Link, Optional[InterfaceStanza]]],
    stanza: Stanza,
) -> Tuple[Dict[Tuple[str, int], Tuple[IPInterface, ...]], List[str]]:
    """The addresses of each NIC that get rules; one that two NICs have goes to the first."""
    claims: Dict[Tuple[str, int], Tuple[IPInterface, ...]] = {}
    warnings: List[str] = []
    owner: Dict[object, str] = {}
    for link, _entry in served:
        for family in sorted(stanza.families):
            mine = []
            for address in index.addresses(link.name, family):
                first = owner.setdefault(address.ip, link.name)
                if first == link.name:
                    mine.append(address.interface)
                else:
                    warnings.append(
                        f"{address.ip} is on both {first} and {link.name}; {first} keeps it"
                    )
            claims[link.name, family] = tuple(sorted(mine, key=lambda i: (int(i.ip), str(i))))
    return claims, warnings


def _sources(
    index: HostIndex, link: Link, entry: Optional[InterfaceStanza]
) -> Tuple[IPNetwork, ...]:
    """Prefixes that are routed to a NIC: the stanza's, and those that DHCPv6 has delegated."""
    return (*(entry.sources if entry is not None else ()), *index.delegated(link.name))


def _claim_sources(
    index: HostIndex,
    served: Sequence[Tuple[Link, Optional[InterfaceStanza]]],
    claims: Mapping[Tuple[str, int], Tuple[IPInterface, ...]],
) -> Tuple[Dict[Tuple[str, int], Tuple[IPNetwork, ...]], List[str]]:
    """The prefixes of each NIC that get rules; none that has an address or prefix of a sibling.

    Rules of an address and of a prefix around it stand at the same priorities, where
    nobody says which of them is the first.
    """
    taken: List[Tuple[IPNetwork, str]] = [
        (ip_network(interface.ip), name) for (name, _f), own in claims.items() for interface in own
    ]
    found: Dict[Tuple[str, int], Tuple[IPNetwork, ...]] = {}
    warnings: List[str] = []
    for link, entry in served:
        for prefix in dict.fromkeys(_sources(index, link, entry)):
            clash = next(
                (
                    (other, name)
                    for other, name in taken
                    if name != link.name and prefix.version == other.version
                    if prefix.overlaps(other)
                ),
                None,
            )
            if clash is not None:
                warnings.append(
                    f"what comes from {prefix} is not routed by {link.name}: {clash[0]} is "
                    f"{clash[1]}'s"
                )
                continue
            taken.append((prefix, link.name))
            key = link.name, prefix.version
            found[key] = tuple(sorted((*found.get(key, ()), prefix), key=network_order))
    return found, warnings


def _side(
    index: HostIndex,
    link: Link,
    entry: Optional[InterfaceStanza],
    table: int,
    addresses: Tuple[IPInterface, ...],
    gateway: Gateway,
) -> Tuple[Side, List[Fault]]:
    family = gateway.ip.version
    connected = tuple(index.connected(link.name, family))
    static = {
        route.dst: route
        for route in index.main_routes(link.name, family)
        if route.dst not in connected and _is_static(route, gateway)
    }
    extra, faults = _stanza_routes(index, link, entry, table, family)
    return Side(link.name, table, addresses, gateway, connected, static, extra), faults


def _is_static(route: Route, gateway: Gateway) -> bool:
    """Whether a route of main tells what lies behind its NIC's gateway or link.

    Not one through another next hop: the sibling's own gateway knows nothing of
    the networks behind a neighbouring host (flannel's and Calico's pods).
    """
    return (
        is_specific(route.dst)
        and (is_routable(route.dst) or route.gateway is not None)
        and route.protocol in CONFIGURED_PROTOCOLS
        and (route.gateway is None or route.gateway == gateway.ip)
    )


def _stanza_routes(
    index: HostIndex, link: Link, entry: Optional[InterfaceStanza], table: int, family: int
) -> Tuple[Tuple[Route, ...], List[Fault]]:
    routes: List[Route] = []
    faults: List[Fault] = []
    for number, wanted in enumerate(entry.routes if entry else ()):
        if wanted.to.version != family:
            continue
        path = f"interfaces.{entry.id if entry else ''}.routes.{number}"
        if wanted.to.prefixlen == 0:
            faults.append(Fault(f"{path}.to", f"a default is told by gateway{family}"))
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
        routes.append(_route(table, wanted.to, link.name, wanted.via, onlink))
    return tuple(routes), faults


# -- tables --------------------------------------------------------------------


def _table_routes(
    side: Side, siblings: Sequence[Side], main_prefixes: Iterable[IPNetwork]
) -> Tuple[Route, ...]:
    """All routes of one NIC's table in one family, in a fixed order."""
    entries: Dict[IPNetwork, Route] = {}
    for network in side.connected:
        entries[network] = _route(side.table, network, side.name)
    for route in side.extra:
        entries.setdefault(route.dst, route)
    foreign = set().union(*(sibling.prefixes for sibling in siblings))
    onlink = side.gateway.onlink
    barriers = set(entries) | set(side.static) | (set(main_prefixes) - foreign)
    for network in _collapse(foreign, barriers):
        own = side.static.get(network)
        via = own.gateway if own else side.gateway.ip
        entries.setdefault(network, _route(side.table, network, side.name, via, onlink))
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
    default = _route(side.table, anywhere, side.name, side.gateway.ip, onlink)
    return (*ordered, default)


def _collapse(foreign: Set[IPNetwork], barriers: Set[IPNetwork]) -> List[IPNetwork]:
    """Fewer prefixes for the same addresses, where no other prefix lies among them.

    Without it N NICs need N(N-1) routes a family.  Near a barrier (a prefix of
    the table that goes elsewhere, or one that main decides) a union could
    change the longest match, so there the prefixes stay as they are.
    """
    near = Spans(barriers)
    apart = {network for network in foreign if near.overlaps(network)}
    collapsed = set(apart)
    for union in collapse(foreign - apart):
        # One that is no longer specific would be suppressed as a default is.
        if near.overlaps(union) or not is_specific(union):
            first, last = span(union)
            collapsed.update(n for n in foreign if first <= int(n.network_address) <= last)
        else:
            collapsed.add(union)
    return sorted(collapsed, key=network_order)


def _throws(
    entries: Mapping[IPNetwork, Route],
    main_prefixes: Iterable[IPNetwork],
    foreign: Set[IPNetwork],
) -> List[IPNetwork]:
    """Prefixes of main inside one of the table's, of which main knows better (stage +20)."""
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


def _route(
    table: int,
    dst: IPNetwork,
    dev: str,
    via: Optional[object] = None,
    onlink: bool = False,
) -> Route:
    # Scope as the kernel gives it: IPv4 on-link routes have scope link, IPv6
    # routes have no scope.
    scope = SCOPE_LINK if via is None and dst.version == 4 else SCOPE_UNIVERSE
    return Route(
        table,
        dst,
        dev,
        via,  # type: ignore[arg-type]
        METRIC,
        OUR_PROTOCOL,
        scope,
        onlink=onlink and via is not None,
    )


# -- rules and the whole ---------------------------------------------------------


def _tables_of_others(
    stanza: Stanza, priority: int, state: HostState, tables: Set[int]
) -> Tuple[Dict[int, Tuple[Rule, ...]], List[str]]:
    """Rules of others whose tables are asked before our defaults, by family; and warnings."""
    found = {}
    warnings = []
    for family in sorted(stanza.families):
        others = asked_after_ours(state.rules, family, priority, tables)
        if len(others) > MOST_OTHERS:
            warnings.append(
                f"{len(others)} IPv{family} rules of others look up tables of their own; replies "
                f"go by the first {MOST_OTHERS} of them only"
            )
        found[family] = others[:MOST_OTHERS]
    return found, warnings


def _is_isolated(link: Link, index: HostIndex) -> bool:
    """Whether the cloud says, for each family that the NIC has, that there is no gateway."""
    questions = [
        Question(link, family, index, None, "never")
        for family in FAMILIES
        if index.addresses(link.name, family)
    ]
    return all(has_no_gateway(question) for question in questions)


def _assemble(
    stanza: Stanza,
    placement: Placement,
    index: HostIndex,
    selection: Selection,
    served: Sequence[Tuple[Link, Optional[InterfaceStanza]]],
    sides: Mapping[str, Mapping[int, Side]],
    gateways: Mapping[str, Mapping[int, Gateway]],
    warnings: Sequence[str],
) -> RoutingPlan:
    nics = []
    marks: Dict[int, int] = {}
    tables = {side.table for own in sides.values() for side in own.values()}
    if stanza.published_ports:
        marks = allocate_marks(sorted(tables), stanza.table_base, stanza.published_ports_mark)
    others, other_warnings = _tables_of_others(stanza, placement.priority, index.state, tables)
    for link, _entry in served:
        own = sides[link.name]
        if not own:
            continue
        routes: Tuple[Route, ...] = ()
        rules: Tuple[Rule, ...] = ()
        for family, side in sorted(own.items()):
            siblings = [s[family] for n, s in sides.items() if n != link.name and family in s]
            routes += _table_routes(side, siblings, index.main_prefixes[family])
            mark = marks.get(side.table, 0)
            own_side = Own(
                family,
                side.name,
                side.table,
                side.addresses,
                mark,
                stanza.published_ports_mark,
                side.sources,
            )
            rules += own_rules(own_side, placement.priority, others[family])
        nics.append(
            PlannedNic(
                name=link.name,
                mac=link.mac,
                table=next(iter(own.values())).table,
                addresses=tuple(i for _f, side in sorted(own.items()) for i in side.addresses),
                sources=tuple(n for _f, side in sorted(own.items()) for n in side.sources),
                gateways={family: side.gateway for family, side in own.items()},
                routes=routes,
                rules=rules,
                mark=marks.get(next(iter(own.values())).table, 0),
            )
        )
    unserved = dict(selection.left_out)
    lonely = []
    for link, _entry in selection.managed:
        if not gateways[link.name] and _is_isolated(link, index):
            unserved[link.name] = "the cloud gives it no gateway"
        elif not gateways[link.name]:
            unserved[link.name] = NO_GATEWAY
            lonely.append(
                f"{link.name} has no known gateway and is not served; "
                f"set interfaces.{link.name}.gateway4 or gateway6"
            )
        elif not sides.get(link.name):
            unserved[link.name] = NO_SIBLING
    plan = RoutingPlan(
        nics=tuple(sorted(nics, key=lambda nic: natural_order(nic.name))),
        group=OUR_GROUP,
        rp_filter=RP_FILTER_VALUES[stanza.rp_filter],
        published_ports=stanza.published_ports,
        mark_mask=stanza.published_ports_mark,
        rule_priority=placement.priority,
        asked_priority=stanza.rule_priority,
        warnings=(*index.state.warnings, *selection.warnings, *warnings, *other_warnings, *lonely),
        unserved=unserved,
        # One that is down keeps its number for when it returns; one that has been
        # pulled out leaves nothing behind.
        reserved_tables={
            link.name: index.state.saved_tables[link.name]
            for link in sorted(index.state.links, key=lambda link: link.name)
            if link.name in index.state.saved_tables and not sides.get(link.name)
        },
        taken_names=frozenset(index.state.foreign_tables.values()),
    )
    if not nics:
        return replace(plan, reason="fewer than two NICs with an address and a gateway")
    return plan
