"""Compute the operations between two states, in an order that loses no packet.  Pure.

The input is a wanted and a present state.  The output is operations: groups, then routes,
then new rules, and only then the removal of old rules and old routes.  To restore after a
failed apply, the same comparison takes the earlier state as the wanted one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Union

from ..model import (
    OUR_GROUP,
    OUR_PROTOCOL,
    PROTO_STATIC,
    TABLE_MAIN,
    HostState,
    IPNetwork,
    Route,
    RoutingPlan,
    Rule,
    rule_order,
)
from ..plan.connection_marks import NFT_TABLE, NO_RULESET, Ruleset, ruleset
from ..plan.rules import has_our_form
from ..text.ip_words import describe_route, describe_rule

RouteKey = tuple[int, IPNetwork, int]


class SetGroup(NamedTuple):
    """Put an interface into an interface group (ip-link(8))."""

    dev: str
    group: int

    def describe(self) -> str:
        return f"link set dev {self.dev} group {self.group}"


class SetSysctl(NamedTuple):
    """Set ``net.ipv4.conf.DEV.KEY`` (Documentation/networking/ip-sysctl.rst)."""

    dev: str
    key: str
    value: int

    def describe(self) -> str:
        return f"sysctl net.ipv4.conf.{self.dev}.{self.key}={self.value}"


class LoadNftables(NamedTuple):
    """Replace our nftables table, or remove it when `ruleset` is empty (nft(8))."""

    ruleset: Ruleset

    def describe(self) -> str:
        return f"nft {'load' if self.ruleset.text else 'delete'} table {NFT_TABLE}"


class ReplaceRoute(NamedTuple):
    """Add a route or replace the one with its table, prefix and metric."""

    route: Route

    def describe(self) -> str:
        return f"route replace {describe_route(self.route)}"


class AddRule(NamedTuple):
    rule: Rule

    def describe(self) -> str:
        return f"rule add {describe_rule(self.rule)}"


class DeleteRule(NamedTuple):
    rule: Rule

    def describe(self) -> str:
        return f"rule del {describe_rule(self.rule)}"


class DeleteRoute(NamedTuple):
    route: Route

    def describe(self) -> str:
        return f"route del {describe_route(self.route)}"


Operation = Union[SetGroup, SetSysctl, LoadNftables, ReplaceRoute, AddRule, DeleteRule, DeleteRoute]


@dataclass(frozen=True)
class Footprint:
    """Everything that we own, or will own, in a kernel: the operands of the diff."""

    routes: frozenset[Route] = frozenset()
    rules: frozenset[Rule] = frozenset()
    groups: Mapping[str, int] = field(default_factory=dict)
    sysctls: Mapping[tuple[str, str], int] = field(default_factory=dict)
    ruleset: Ruleset = NO_RULESET


def wanted(plan: RoutingPlan, state: HostState) -> Footprint:
    """The plan's footprint; links that are no longer managed get their previous values."""
    names = {nic.name for nic in plan.nics}
    groups = {name: plan.group for name in names}
    for link in state.links:
        if link.group == OUR_GROUP and link.name not in names:
            groups[link.name] = state.previous.groups.get(link.name, 0)
    sysctls: dict[tuple[str, str], int] = dict(state.previous.sysctls)
    for name in names:
        sysctls.update(sysctl_overrides(plan, name))
    return Footprint(frozenset(plan.routes), frozenset(plan.rules), groups, sysctls, ruleset(plan))


def kept(want: Footprint, have: Footprint) -> Footprint:
    """`want` with everything that is there already: what is missing comes, nothing goes."""
    planned = {route_key(route) for route in want.routes}
    return Footprint(
        want.routes | {route for route in have.routes if route_key(route) not in planned},
        want.rules | have.rules,
        {dev: group for dev, group in want.groups.items() if group == OUR_GROUP},
        {key: value for key, value in want.sysctls.items() if want.groups.get(key[0]) == OUR_GROUP},
        have.ruleset if have.ruleset.checksum else want.ruleset,
    )


def sysctl_overrides(plan: RoutingPlan, name: str) -> dict[tuple[str, str], int]:
    """The sysctls to set on a managed NIC."""
    overrides: dict[tuple[str, str], int] = {}
    if plan.rp_filter is not None:
        overrides[name, "rp_filter"] = plan.rp_filter
    if plan.published_ports:
        # Reverse path filtering then uses the packet's mark in its lookup.
        overrides[name, "src_valid_mark"] = 1
    return overrides


def present(state: HostState, plan: RoutingPlan | None = None) -> Footprint:
    """Our footprint in the kernel now."""
    priorities = {plan.rule_priority} if plan is not None else set()
    if state.saved_rule_priority is not None:
        priorities.add(state.saved_rule_priority)
    planned = {rule.key for rule in plan.rules} if plan is not None else set()
    tables = {nic.table for nic in plan.nics} if plan is not None else set()
    tables |= set(state.saved_tables.values())
    # An apply may have been killed before it saved either.  Then the rule that only we
    # create shows the priority, and our routes show the tables.
    priorities |= {rule.priority for rule in state.rules if rule.suppress_ifgroup == OUR_GROUP}
    tables |= {route.table for route in state.routes if is_our_route(route)}
    return Footprint(
        frozenset(route for route in state.routes if is_our_route(route)),
        frozenset(
            rule
            for rule in state.rules
            if rule.key in planned or is_our_rule(rule, tables, priorities)
        ),
        {link.name: link.group for link in state.links},
        state.sysctls,
        Ruleset("", state.nftables or ""),
    )


def is_our_route(route: Route) -> bool:
    return route.protocol == OUR_PROTOCOL and route.table != TABLE_MAIN


def is_our_rule(rule: Rule, tables: set[int], priorities: Iterable[int]) -> bool:
    """Identified by protocol, or by exact form where networkd set it (``proto static``)."""
    if rule.protocol == OUR_PROTOCOL:
        return True
    if rule.protocol != PROTO_STATIC or rule.other:
        return False
    stages = {rule.priority - priority for priority in priorities}
    return any(has_our_form(rule, stage, tables) for stage in stages)


def diff(want: Footprint, have: Footprint) -> tuple[Operation, ...]:
    """Operations that turn `have` into `want`, in the order to run them."""
    operations: list[Operation] = []
    for dev, group in sorted(want.groups.items()):
        # An interface leaves the group only when no rule depends on it any more.
        if have.groups.get(dev) != group == OUR_GROUP:
            operations.append(SetGroup(dev, group))
    for (dev, key), value in sorted(want.sysctls.items()):
        if have.sysctls.get((dev, key)) not in (value, None):
            operations.append(SetSysctl(dev, key, value))
    operations += _route_additions(want, have)
    have_keys = {rule.key for rule in have.rules}
    want_keys = {rule.key for rule in want.rules}
    new = [rule for rule in want.rules if rule.key not in have_keys]
    # Add new rules in the kernel's order and delete old ones in reverse: at no moment does an
    # address look up main (stage +20) without looking up its own table (+10) first.
    operations += [AddRule(rule) for rule in sorted(new, key=rule_order)]
    old = _surplus_rules(want_keys, have.rules)
    operations += [DeleteRule(rule) for rule in sorted(old, key=rule_order, reverse=True)]
    operations += _route_deletions(want, have)
    if want.ruleset.checksum != have.ruleset.checksum:
        operations.append(LoadNftables(want.ruleset))
    for dev, group in sorted(want.groups.items()):
        if group != OUR_GROUP and have.groups.get(dev, group) != group:
            operations.append(SetGroup(dev, group))
    return tuple(operations)


def route_key(route: Route) -> RouteKey:
    """The key by which the kernel replaces a route."""
    return (route.table, route.dst, route.metric)


def _route_additions(want: Footprint, have: Footprint) -> list[Operation]:
    # A present route with onlink satisfies one without: networkd's file sets onlink for a
    # gateway, since a route that networkd cannot set would fail the whole link.
    missing = {
        route
        for route in want.routes - have.routes
        if route._replace(onlink=True) not in have.routes
    }
    # On-link routes first: a gateway must be reachable when its route is added.
    order = sorted(missing, key=lambda r: (r.gateway is not None, _route_order(r)))
    return [ReplaceRoute(route) for route in order]


def _route_deletions(want: Footprint, have: Footprint) -> list[Operation]:
    replaced = {route_key(route) for route in want.routes}
    old = [route for route in have.routes - want.routes if route_key(route) not in replaced]
    order = sorted(old, key=lambda r: (r.gateway is None, _route_order(r)))
    return [DeleteRoute(route) for route in order]


def _surplus_rules(want_keys: set[Rule], have: frozenset[Rule]) -> list[Rule]:
    """Rules that are not wanted, and duplicates of those that are."""
    surplus = []
    kept = set()
    for rule in sorted(have, key=lambda rule: (rule_order(rule), rule.protocol != OUR_PROTOCOL)):
        if rule.key in want_keys and rule.key not in kept:
            kept.add(rule.key)
        else:
            surplus.append(rule)
    return surplus


def _route_order(route: Route) -> tuple[int, int, int, int]:
    return (
        route.table,
        route.family,
        int(route.dst.network_address),
        -route.dst.prefixlen,
    )
