"""What a change in the kernel means for the plan, in words for the person at 3 a.m.  Pure."""

from __future__ import annotations

from typing import Dict, Hashable, Iterator, List, NamedTuple, Optional, Set, Tuple, Union

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


class Told(NamedTuple):
    """One event: what it was about, what happened, and what that means ("" for nothing)."""

    about: str  # link, address, route, rule
    what: str
    meaning: str = ""


class Known:
    """What is there as far as has been heard, so that only what is new is told.

    The kernel repeats itself: each router advertisement renews its routes, and a
    replaced route is announced also when it is the same.
    """

    def __init__(self, state: HostState, plan: RoutingPlan):
        self.learn(state, plan)

    def learn(self, state: HostState, plan: RoutingPlan) -> None:
        """Begin anew from a whole look at the host."""
        self.plan(plan)
        things: List[Thing] = [*state.links, *state.addresses, *state.routes, *state.rules]
        # Whether a link has a carrier is not in the state: its first event tells.
        self._things: Dict[Hashable, Hashable] = {
            _key(thing): _content(Change(False, thing)) for thing in things
        }

    def plan(self, plan: RoutingPlan) -> None:
        """What is wanted by now; what is there is only heard of."""
        self._plan = plan
        tables = {nic.table for nic in plan.nics}
        self._tables: Set[int] = tables | set(plan.reserved_tables.values())

    def hear(self, change: Change) -> Optional[Told]:
        """What to say of it; None for what is known already or of no interest."""
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
        """Those of IPv4 go without a word when their link goes (net/ipv4/fib_frontend.c)."""
        for key, thing in list(self._routes()):
            if thing.dev == dev and thing.family == 4:
                del self._things[key]

    def _routes(self) -> Iterator[Tuple[Hashable, Route]]:
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
    """What it stays the same thing by."""
    if isinstance(thing, Link):
        return "link", thing.ifindex
    if isinstance(thing, Address):
        return "address", thing.dev, thing.ip
    if isinstance(thing, Route):
        return "route", thing._replace(protocol=0, preference=0)
    return "rule", thing._replace(protocol=0)


class LinkContent(NamedTuple):
    """What of a link is reported when it changes."""

    name: str
    up: bool
    carrier: Optional[bool]
    master: str
    group: int


def _content(change: Change) -> Hashable:
    """What of a thing is reported when it changes; not its lifetimes and counters."""
    thing = change.thing
    if isinstance(thing, Link):
        return LinkContent(thing.name, thing.up, change.carrier, thing.master, thing.group)
    if isinstance(thing, Address):
        return thing.interface, thing.tentative, thing.failed
    return True


def _link(change: Change, before: Optional[Hashable]) -> Optional[Told]:
    link = change.thing
    assert isinstance(link, Link)
    name = link.name
    if change.gone:
        return Told("link", f"{name} is gone", "its addresses, routes and table go with it")
    if not isinstance(before, LinkContent):
        return Told("link", f"{name} is new")
    told = []
    meaning = ""
    if before.name != name:
        told.append(f"{before.name} is called {name} now")
        meaning = "rules and files bear the old name until the next apply"
    if before.up != link.up:
        told.append(f"{name} is {'up' if link.up else 'down'}")
        meaning = meaning or ("" if link.up else "the kernel takes its routes along")
    elif before.carrier not in (None, change.carrier):
        told.append(f"{name} has {'a' if change.carrier else 'no'} carrier")
    if before.master != link.master:
        port = f"is a port of {link.master}" if link.master else f"has left {before.master}"
        told.append(f"{name} {port}")
    if before.group != link.group:
        told.append(f"{name} is in group {link.group}, was in {before.group}")
    # Statistics and flags of no interest are announced, too.
    return Told("link", ", ".join(told), meaning) if told else None


def _address(gone: bool, address: Address, plan: RoutingPlan, known: bool) -> Told:
    nic = plan.nic(address.dev)
    planned = nic is not None and address.interface in nic.addresses
    if gone:
        what = f"{address.interface} has left {address.dev}"
        return Told("address", what, "its rules are to go" if planned else "")
    what = f"{address.interface} is on {address.dev}"
    if address.failed:
        return Told("address", f"{what}, a duplicate", "somebody else on the link has it")
    if address.tentative:
        return Told("address", f"{what}, tentative", "to be served when it may be used")
    if planned:
        return Told("address", f"{what}{', and may be used' if known else ''}")
    return Told("address", what, "not in the plan yet" if nic else "")


def _route(gone: bool, route: Route, plan: RoutingPlan) -> Told:
    what = f"{describe_route(route)} {'is gone' if gone else 'is there'}"
    owner = next((nic for nic in plan.nics if nic.table == route.table), None)
    is_default = route.dst.prefixlen == 0
    if route.table == TABLE_MAIN:
        meaning = "addresses that are served do not go by it" if is_default else ""
        return Told("route", what, meaning)
    planned = any(_key(route) == _key(one) for one in plan.routes)
    if gone and planned:
        assert owner is not None
        if is_default and route.type == "unicast":
            return Told("route", what, f"{_addresses(owner, route.family)} cannot go by it")
        return Told("route", what, "it is planned")
    return Told("route", what, "" if gone or planned else "not planned")


def _rule(gone: bool, rule: Rule, plan: RoutingPlan) -> Told:
    what = f"{describe_rule(rule)} {'is gone' if gone else 'is there'}"
    planned = any(_key(rule) == _key(one) for one in plan.rules)
    if gone and planned:
        owner = next((nic.name for nic in plan.nics if rule in nic.rules), rule.oif)
        if rule.src is not None and rule.priority - plan.rule_priority == STAGE_OWN_DEFAULT:
            source = rule.src.network_address
            return Told("rule", what, f"replies of {source} may leave by another NIC than {owner}")
        return Told("rule", what, f"{owner} needs it")
    if gone or planned:
        return Told("rule", what)
    offset = rule.priority - plan.rule_priority
    if offset in STAGES:
        return Told("rule", what, "among ours, and not planned")
    before_ours = plan.nics and 0 < rule.priority < plan.rule_priority
    return Told("rule", what, "it is asked before ours" if before_ours else "")


def _addresses(nic: PlannedNic, family: int) -> str:
    served = [str(interface.ip) for interface in nic.addresses if interface.version == family]
    return ", ".join(served) or nic.name
