"""A NIC that is served stays so while its siblings only wait for what they have lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cc_source_routing.model import (
    TABLE_LOCAL,
    HostState,
    InterfaceStanza,
    RoutingPlan,
    Rule,
    Stanza,
)
from cc_source_routing.plan.build import build_plan

from .hosts import SEED


def served(state: HostState = SEED) -> HostState:
    """`state` once its plan has been applied."""
    plan = build_plan(Stanza(), state)
    return replace(
        state,
        routes=(*state.routes, *plan.routes),
        rules=(Rule(4, 0, TABLE_LOCAL), *plan.rules),
        saved_tables={nic.name: nic.table for nic in plan.nics},
    )


def without(state: HostState, nic: str, **link: object) -> HostState:
    """`state` without the addresses and routes of a NIC; `link` is what becomes of that."""
    return replace(
        state,
        links=tuple(own._replace(**link) if own.name == nic else own for own in state.links),
        addresses=tuple(own for own in state.addresses if own.dev != nic),
        routes=tuple(own for own in state.routes if own.dev != nic),
        rules=tuple(own for own in state.rules if own.oif != nic),
    )


def names(plan: RoutingPlan) -> list[str]:
    return [nic.name for nic in plan.nics]


@pytest.mark.parametrize("lost", ["ens3", "ens4"])
@pytest.mark.parametrize("link", [{}, {"up": False}], ids=["address", "link"])
def test_it_goes_on_alone_without_routes_to_what_is_gone(lost, link):
    (left,) = {"ens3", "ens4"} - {lost}
    plan = build_plan(Stanza(), without(served(), lost, **link))
    assert names(plan) == [left]
    by_gateway = [str(route.dst) for route in plan.routes if route.gateway]
    assert by_gateway == ["0.0.0.0/0"] and lost in plan.unserved


def test_one_that_was_never_served_has_nothing_to_go_on_with():
    assert names(build_plan(Stanza(), without(SEED, "ens4"))) == []


def test_without_a_sibling_that_may_come_back_there_is_nothing_to_do():
    state = without(served(), "ens4")
    gone = replace(state, links=tuple(own for own in state.links if own.name != "ens4"))
    assert names(build_plan(Stanza(), gone)) == []
    left_out = Stanza(interfaces=(InterfaceStanza("ens4", enabled=False),))
    assert names(build_plan(left_out, served())) == []
