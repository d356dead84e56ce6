"""Build the RoutingPlan from the decisions.  Pure.

The layout answers one question for each packet: which interface owns its source address?  `rules`
has the rules that select by source, `routes` the tables that they look up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import Fault, StanzaError
from ..model import (
    NO_GATEWAY,
    NO_SIBLING,
    OUR_GROUP,
    PASSING_REASONS,
    TABLE_LOCAL,
    HostState,
    Link,
    PlannedNic,
    Route,
    RoutingPlan,
    Rule,
    Stanza,
)
from ..text.ip_words import describe_rule
from .connection_marks import allocate_marks
from .decide import Decisions, decide
from .host_index import HostIndex
from .nics import natural_order
from .priorities import Placement, place
from .routes import stanza_routes, table_routes
from .rules import MAX_FOREIGN_TABLES, Own, foreign_lookups, own_rules
from .sides import Side, claim_addresses, claim_sources, side_of
from .table_ids import allocate_tables

RP_FILTER_VALUES = {"keep": None, "strict": 1, "loose": 2}


def build_plan(stanza: Stanza, state: HostState) -> RoutingPlan:
    """Decide and build in one step; open questions count as unanswered."""
    return build(decide(stanza, state))


def build(decisions: Decisions) -> RoutingPlan:
    """The complete plan, or an empty one whose `reason` says why there is nothing to do.

    Raises `StanzaError` when the stanza contradicts the host's state (with all faults), and
    `PlanError` when no table is free.
    """
    stanza, index = decisions.stanza, decisions.index
    if not stanza.enabled:
        return RoutingPlan(reason="source routing is off in the stanza")
    wanted = [(link.name, entry) for link, entry in decisions.served]
    ids, table_faults = allocate_tables(wanted, stanza.table_base, index.state)
    placement = place(stanza.rule_priority, sorted(stanza.families), index.state, set(ids))
    sides, faults, warnings = _sides(decisions, ids, placement)
    faults = [*decisions.faults, *table_faults, *faults]
    if faults:
        raise StanzaError(faults)
    return _assemble(decisions, placement, sides, warnings)


def _sides(
    decisions: Decisions, tables: Mapping[str, int], placement: Placement
) -> tuple[dict[str, dict[int, Side]], list[Fault], list[str]]:
    """The sides of each served NIC, by name and family; the faults; and warnings."""
    stanza, index = decisions.stanza, decisions.index
    families = sorted(stanza.families)
    claims, warnings = claim_addresses(index, decisions.served, families)
    sources, source_warnings = claim_sources(index, decisions.served, claims)
    warnings += source_warnings
    warnings += _placement_warnings(stanza, placement)
    sides: dict[str, dict[int, Side]] = {link.name: {} for link, _entry in decisions.served}
    faults: list[Fault] = []
    for family in families:
        obstacle = _obstacle(family, placement.priority, index)
        if obstacle:
            warnings.append(f"IPv{family} is not served: {obstacle}")
            continue
        candidates = []
        for link, entry in decisions.served:
            gateway = decisions.gateways[link.name].get(family)
            addresses = claims[link.name, family]
            prefixes = sources.get((link.name, family), ())
            if gateway is None or not (addresses or prefixes):
                continue
            table = tables[link.name]
            extra, route_faults = stanza_routes(index, link, entry, table, family)
            faults += route_faults
            candidates.append(side_of(index, link.name, table, gateway, addresses, prefixes, extra))
        # A single NIC with a gateway in a family is served by main's own default.
        if len(candidates) > 1 or _stays_served_alone(candidates, decisions):
            for side in candidates:
                sides[side.name][family] = side
    return sides, faults, warnings


def _obstacle(family: int, priority: int, index: HostIndex) -> str:
    """Why a whole family cannot be served; "" when it can."""
    if not _local_comes_first(family, priority, index.state):
        return (
            f"table local is not looked up before rule_priority {priority}, so our rules would "
            "cut the host off"
        )
    error = index.error_default(family)
    if error is not None:
        return (
            f"table main's best default is an error ({error.type} default metric "
            f"{error.metric}), which ends each lookup there"
        )
    return ""


def _stays_served_alone(candidates: Sequence[Side], decisions: Decisions) -> bool:
    """Whether the last NIC of a family stays served because its siblings are only unavailable.

    A sibling has lost its link, its lease or its router.  Main may have no default until it is
    back, and may then have another one before the next run.
    """
    if len(candidates) != 1:
        return False
    (side,) = candidates
    family, name = side.gateway.ip.version, side.name
    selection = decisions.selection
    others = [link.name for link, _entry in selection.managed]
    others += [left for left, why in selection.left_out.items() if why in PASSING_REASONS]
    is_served = any(
        rule.family == family and rule.oif == name and rule.table == side.table
        for rule in decisions.index.state.rules
    )
    return is_served and any(other != name for other in others)


def _local_comes_first(family: int, priority: int, state: HostState) -> bool:
    """Whether packets to the host itself are matched before our rules.

    The kernel's rule for table local is at priority 0.  With VRFs users move it after other rules
    (Documentation/networking/vrf.rst), and rule +20 would take its packets.
    """
    rules = [rule for rule in state.rules if rule.family == family]
    return not rules or any(
        rule.table == TABLE_LOCAL
        and rule.priority < priority
        and not (rule.src or rule.oif or rule.fwmark or rule.other)
        for rule in rules
    )


def _placement_warnings(stanza: Stanza, placement: Placement) -> list[str]:
    if not placement.tunnels:
        return []
    first = min(placement.tunnels, key=lambda rule: rule.priority)
    return [
        f"a full tunnel's rules have come before rule_priority {stanza.rule_priority} "
        f"({describe_rule(first)}); ours begin at {placement.priority} as long as they do"
    ]


def _tables_of_others(
    stanza: Stanza, priority: int, state: HostState, tables: set[int]
) -> tuple[dict[int, tuple[Rule, ...]], list[str]]:
    """Foreign rules whose tables are looked up before our defaults, by family; and warnings."""
    found = {}
    warnings = []
    for family in sorted(stanza.families):
        others = foreign_lookups(state.rules, family, priority, tables)
        if len(others) > MAX_FOREIGN_TABLES:
            warnings.append(
                f"{len(others)} IPv{family} rules of others look up tables of their own; replies "
                f"go by the first {MAX_FOREIGN_TABLES} of them only"
            )
        found[family] = others[:MAX_FOREIGN_TABLES]
    return found, warnings


def _assemble(
    decisions: Decisions,
    placement: Placement,
    sides: Mapping[str, Mapping[int, Side]],
    warnings: Sequence[str],
) -> RoutingPlan:
    stanza, index = decisions.stanza, decisions.index
    tables = {side.table for own in sides.values() for side in own.values()}
    marks: dict[int, int] = {}
    if stanza.published_ports:
        marks = allocate_marks(sorted(tables), stanza.table_base, stanza.published_ports_mark)
    others, other_warnings = _tables_of_others(stanza, placement.priority, index.state, tables)
    nics = [
        _planned_nic(link, sides, marks, placement.priority, others, decisions)
        for link, _entry in decisions.served
        if sides[link.name]
    ]
    unserved = dict(decisions.unserved)
    unserved.update((name, NO_SIBLING) for name, own in sides.items() if not own)
    without_gateway = [
        f"{name} has no known gateway and is not served; set interfaces.{name}.gateway4 or gateway6"
        for name, reason in unserved.items()
        if reason == NO_GATEWAY
    ]
    return RoutingPlan(
        nics=tuple(sorted(nics, key=lambda nic: natural_order(nic.name))),
        group=OUR_GROUP,
        rp_filter=RP_FILTER_VALUES[stanza.rp_filter],
        published_ports=stanza.published_ports,
        mark_mask=stanza.published_ports_mark,
        rule_priority=placement.priority,
        asked_priority=stanza.rule_priority,
        reason="" if nics else "fewer than two NICs with an address and a gateway",
        warnings=(
            *index.state.warnings,
            *decisions.selection.warnings,
            *warnings,
            *other_warnings,
            *without_gateway,
        ),
        unserved=unserved,
        # An interface that is down keeps its number until it returns; one that is gone loses it.
        reserved_tables={
            link.name: index.state.saved_tables[link.name]
            for link in sorted(index.state.links, key=lambda link: link.name)
            if link.name in index.state.saved_tables and not sides.get(link.name)
        },
        taken_names=frozenset(index.state.foreign_tables.values()),
    )


def _planned_nic(
    link: Link,
    sides: Mapping[str, Mapping[int, Side]],
    marks: Mapping[int, int],
    priority: int,
    others: Mapping[int, tuple[Rule, ...]],
    decisions: Decisions,
) -> PlannedNic:
    own = [side for _family, side in sorted(sides[link.name].items())]
    table = own[0].table
    mark = marks.get(table, 0)
    routes: list[Route] = []
    rules: list[Rule] = []
    for side in own:
        family = side.family
        siblings = [s[family] for name, s in sides.items() if name != link.name and family in s]
        routes += table_routes(side, siblings, decisions.index.main_prefixes[family])
        mask = decisions.stanza.published_ports_mark
        whose = Own(family, link.name, table, side.addresses, mark, mask, side.sources)
        rules += own_rules(whose, priority, others[family])
    return PlannedNic(
        name=link.name,
        mac=link.mac,
        table=table,
        addresses=tuple(interface for side in own for interface in side.addresses),
        sources=tuple(prefix for side in own for prefix in side.sources),
        gateways={side.family: side.gateway for side in own},
        routes=tuple(routes),
        rules=tuple(rules),
        mark=mark,
    )
