"""Describe what a change in the kernel means for the plan, for an operator on call.  Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import NamedTuple, Union

from ..kernel.messages import Change
from ..model import (
    OUR_PROTOCOL,
    TABLE_MAIN,
    Address,
    HostState,
    Link,
    PlannedNic,
    Route,
    RoutingPlan,
    Rule,
)
from ..plan.host_index import is_routable
from ..plan.rules import STAGE_OWN_DEFAULT, STAGES
from ..text.ip_words import describe_route, describe_rule

Thing = Union[Link, Address, Route, Rule]


class Event(NamedTuple):
    """One event: its subject, what happened, and what that means ("" for nothing)."""

    about: str  # link, address, route, rule
    what: str
    meaning: str = ""


class Narrator:
    """Tracks the kernel's state, so that only actual changes are reported.

    The kernel repeats itself: each router advertisement renews its routes, and a
    replaced route is announced even if it is the same.
    """

    def __init__(self, state: HostState, plan: RoutingPlan):
        self.reset(state, plan)

    def reset(self, state: HostState, plan: RoutingPlan) -> None:
        """Start again from a complete snapshot of the host."""
        self.set_plan(plan)
        things: list[Thing] = [*state.links, *state.addresses, *state.routes, *state.rules]
        # The snapshot lacks a link's carrier; its first event supplies it.
        self._things: dict[Hashable, Hashable] = {
            _key(thing): _content(Change(False, thing)) for thing in things
        }

    def set_plan(self, plan: RoutingPlan) -> None:
        """Take a new plan; the tracked kernel state changes only by events."""
        self._plan = plan
        tables = {nic.table for nic in plan.nics}
        self._tables: set[int] = tables | set(plan.reserved_tables.values())

    def describe(self, change: Change) -> Event | None:
        """The event to report; None if the change is already known or irrelevant."""
        thing = change.thing
        if not self._concerns(thing):
            return None
        key, content = _key(thing), _content(change)
        before = self._things.get(key)
        if change.gone:
            if before is None:
                return None
            del self._things[key]
        else:
            self._things[key] = content
            if before == content:
                return None
        if isinstance(thing, Link):
            if change.gone or not thing.up:
                self._forget_routes(thing.name)
            return _link(change, before)
        if isinstance(thing, Address):
            return _address(change.gone, thing, self._plan, before is not None)
        if isinstance(thing, Route):
            return _route(change.gone, thing, self._plan)
        return _rule(change.gone, thing, self._plan)

    def _forget_routes(self, dev: str) -> None:
        """Drop the IPv4 routes of a link that is gone or down.

        The kernel removes them without a notification (net/ipv4/fib_frontend.c).
        """
        for key, thing in list(self._routes()):
            if thing.dev == dev and thing.family == 4:
                del self._things[key]

    def _routes(self) -> Iterator[tuple[Hashable, Route]]:
        for key in self._things:
            if isinstance(key, tuple) and isinstance(key[1], Route):
                yield key, key[1]

    def _concerns(self, thing: Thing) -> bool:
        if isinstance(thing, Route):
            if thing.protocol == OUR_PROTOCOL or thing.table in self._tables:
                return True
            return thing.table == TABLE_MAIN and is_routable(thing.dst)
        if isinstance(thing, Address):
            return not thing.ip.is_link_local and not thing.ip.is_loopback
        return True


def _key(thing: Thing) -> Hashable:
    """The identity of an object across changes."""
    if isinstance(thing, Link):
        return "link", thing.ifindex
    if isinstance(thing, Address):
        return "address", thing.dev, thing.ip
    if isinstance(thing, Route):
        return "route", thing._replace(protocol=0, preference=0)
    return "rule", thing._replace(protocol=0)


class LinkContent(NamedTuple):
    """The parts of a link whose changes are reported."""

    name: str
    up: bool
    carrier: bool | None
    master: str
    group: int


def _content(change: Change) -> Hashable:
    """The parts of an object whose changes are reported: not lifetimes and counters."""
    thing = change.thing
    if isinstance(thing, Link):
        return LinkContent(thing.name, thing.up, change.carrier, thing.master, thing.group)
    if isinstance(thing, Address):
        return thing.interface, thing.tentative, thing.failed
    return True


def _link(change: Change, before: Hashable | None) -> Event | None:
    link = change.thing
    assert isinstance(link, Link)
    name = link.name
    if change.gone:
        return Event("link", f"{name} is gone", "its addresses, routes and table go with it")
    if not isinstance(before, LinkContent):
        return Event("link", f"{name} is new")
    changes = []
    meaning = ""
    if before.name != name:
        changes.append(f"{before.name} is called {name} now")
        meaning = "rules and files bear the old name until the next apply"
    if before.up != link.up:
        changes.append(f"{name} is {'up' if link.up else 'down'}")
        meaning = meaning or ("" if link.up else "the kernel takes its routes along")
    elif before.carrier not in (None, change.carrier):
        changes.append(f"{name} has {'a' if change.carrier else 'no'} carrier")
    if before.master != link.master:
        port = f"is a port of {link.master}" if link.master else f"has left {before.master}"
        changes.append(f"{name} {port}")
    if before.group != link.group:
        changes.append(f"{name} is in group {link.group}, was in {before.group}")
    # The kernel also announces changes of statistics and of irrelevant flags.
    return Event("link", ", ".join(changes), meaning) if changes else None


def _address(gone: bool, address: Address, plan: RoutingPlan, known: bool) -> Event:
    nic = plan.nic(address.dev)
    planned = nic is not None and address.interface in nic.addresses
    if gone:
        what = f"{address.interface} has left {address.dev}"
        return Event("address", what, "its rules are to go" if planned else "")
    what = f"{address.interface} is on {address.dev}"
    if address.failed:
        return Event("address", f"{what}, a duplicate", "somebody else on the link has it")
    if address.tentative:
        return Event("address", f"{what}, tentative", "to be served when it may be used")
    if planned:
        return Event("address", f"{what}{', and may be used' if known else ''}")
    return Event("address", what, "not in the plan yet" if nic else "")


def _route(gone: bool, route: Route, plan: RoutingPlan) -> Event:
    what = f"{describe_route(route)} {'is gone' if gone else 'is there'}"
    owner = next((nic for nic in plan.nics if nic.table == route.table), None)
    is_default = route.dst.prefixlen == 0
    if route.table == TABLE_MAIN:
        meaning = "addresses that are served do not go by it" if is_default else ""
        return Event("route", what, meaning)
    planned = any(_key(route) == _key(one) for one in plan.routes)
    if gone and planned:
        assert owner is not None
        if is_default and route.type == "unicast":
            return Event("route", what, f"{_addresses(owner, route.family)} cannot go by it")
        return Event("route", what, "it is planned")
    return Event("route", what, "" if gone or planned else "not planned")


def _rule(gone: bool, rule: Rule, plan: RoutingPlan) -> Event:
    what = f"{describe_rule(rule)} {'is gone' if gone else 'is there'}"
    planned = any(_key(rule) == _key(one) for one in plan.rules)
    if gone and planned:
        owner = next((nic.name for nic in plan.nics if rule in nic.rules), rule.oif)
        if rule.src is not None and rule.priority - plan.rule_priority == STAGE_OWN_DEFAULT:
            source = rule.src.network_address
            return Event("rule", what, f"replies of {source} may leave by another NIC than {owner}")
        return Event("rule", what, f"{owner} needs it")
    if gone or planned:
        return Event("rule", what)
    offset = rule.priority - plan.rule_priority
    if offset in STAGES:
        return Event("rule", what, "among ours, and not planned")
    before_ours = plan.nics and 0 < rule.priority < plan.rule_priority
    return Event("rule", what, "it is asked before ours" if before_ours else "")


def _addresses(nic: PlannedNic, family: int) -> str:
    served = [str(interface.ip) for interface in nic.addresses if interface.version == family]
    return ", ".join(served) or nic.name
