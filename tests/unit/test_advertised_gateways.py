"""Gateways that routers have told of themselves, and that they can take back (RFC 4861, 4191)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface

import pytest

from cc_source_routing.model import (
    ADVERTISED,
    OUR_PROTOCOL,
    PROTO_RA,
    Address,
    HostState,
    Metadata,
    MetadataPort,
    Neighbour,
    Previous,
    PreviousGateway,
    Rule,
    Stanza,
)
from cc_source_routing.plan.build import build_plan
from cc_source_routing.plan.decide import decide

from .hosts import host, route

ENS3 = route("default6 via fe80::1", "ens3", PROTO_RA, 1024)
FIRST = route("default6 via fe80::a", "ens4", PROTO_RA, 1024)
SECOND = route("default6 via fe80::b", "ens4", PROTO_RA, 1024)
NICS = {"ens3": ["2001:db8:3::1/64"], "ens4": ["2001:db8:4::1/64"]}
SIBLING = {"ens5": ["2001:db8:5::1/64"]}


def state_of(*routes, **fields) -> HostState:
    return host(
        {**NICS, **SIBLING}, [ENS3, route("default6 via fe80::5", "ens5"), *routes], **fields
    )


def gateway_of(state: HostState, nic: str = "ens4", stanza: Stanza = Stanza()):
    planned = build_plan(stanza, state).nic(nic)
    return planned and planned.gateway(6)


def told(state: HostState):
    gateway = gateway_of(state)
    return gateway and (str(gateway.ip), gateway.source)


def after_a_run(*routes, source: str = ADVERTISED, **fields) -> HostState:
    """An earlier run took fe80::a for ens4."""
    own = FIRST._replace(table=501, protocol=OUR_PROTOCOL)
    earlier = {("ens4", 6): PreviousGateway(source)}
    return state_of(*routes, own, previous=Previous(gateways=earlier), **fields)


def test_an_advertised_default_is_told_apart():
    gateway = gateway_of(state_of(FIRST))
    assert gateway.source == ADVERTISED
    assert gateway.reason == "default route via ens4 in table main, by router advertisement"


@pytest.mark.parametrize(
    ("first", "second", "taken"),
    [(0, 0, "fe80::a"), (0, 1, "fe80::b"), (-1, 0, "fe80::b"), (1, 0, "fe80::a")],
)
def test_of_two_routers_the_preferred_one_is_taken(first, second, taken):
    routes = FIRST._replace(preference=first), SECOND._replace(preference=second)
    assert told(state_of(*routes)) == (taken, ADVERTISED)


def test_a_better_metric_counts_before_the_preference():
    assert told(state_of(FIRST._replace(preference=1), SECOND._replace(metric=512)))[0] == "fe80::b"


def test_of_equals_the_one_in_use_stays_whatever_the_kernels_order():
    assert told(after_a_run(SECOND, FIRST))[0] == "fe80::a"


def test_a_router_that_does_not_answer_is_left_for_one_that_does():
    dead = Neighbour("ens4", ip_address("fe80::a"), reachable=False, router=True, failed=True)
    best = FIRST._replace(preference=1)
    assert told(after_a_run(best, SECOND, neighbours=(dead,)))[0] == "fe80::b"
    assert told(after_a_run(best, neighbours=(dead,)))[0] == "fe80::a", "there is no other"


def test_a_router_that_failed_is_not_returned_to_while_the_kernel_probes_it():
    """Its entry is incomplete for three seconds then, and no longer marked as a router's."""
    probed = Neighbour("ens4", ip_address("fe80::b"), reachable=False, router=False)
    best = SECOND._replace(preference=1)
    assert told(after_a_run(FIRST, best, neighbours=(probed,)))[0] == "fe80::a"
    alive = probed._replace(reachable=True)
    assert told(after_a_run(FIRST, best, neighbours=(alive,)))[0] == "fe80::b"
    # Nobody was chosen before: it may just be about to answer.
    assert told(state_of(FIRST, best, neighbours=(probed,)))[0] == "fe80::b"


def test_a_router_that_took_itself_back_is_a_gateway_no_more():
    """It still is a neighbour that routes, and answers as the first address would."""
    neighbour = Neighbour("ens4", ip_address("fe80::a"), reachable=True, router=True)
    state = after_a_run(neighbours=(neighbour,))
    assert told(state) is None
    assert decide(Stanza(), state).probes == ()
    probes = {("ens4", ip_address("2001:db8:4::")): True}
    assert told(replace(state, probes=probes)) is None


def test_where_advertisements_make_no_default_a_router_among_the_neighbours_will_do():
    neighbour = Neighbour("ens4", ip_address("fe80::a"), reachable=True, router=True)
    assert told(state_of(neighbours=(neighbour,))) == ("fe80::a", "router advertisement")


FORWARDING = Neighbour("ens4", ip_address("fe80::d0c"), reachable=True, router=True)


def test_a_host_that_forwards_is_no_gateway_where_a_route_tells_of_one():
    """The R flag of its neighbour advertisements makes it a router to the kernel, too."""
    behind = route("fd00:1::/64 via fe80::a", "ens4")
    found = gateway_of(state_of(behind, neighbours=(FORWARDING,)))
    assert str(found.ip) == "fe80::a"


def test_a_global_address_is_nobodys_advertisement():
    other = FORWARDING._replace(ip=ip_address("2001:db8:4::d0c"))
    assert told(state_of(neighbours=(other,))) is None


def test_a_port_that_has_no_gateway_by_the_clouds_word_gets_none_from_its_neighbours():
    state = state_of(neighbours=(FORWARDING,))
    mac = next(link.mac for link in state.links if link.name == "ens4")
    port = MetadataPort(mac, addresses=(ip_interface("2001:db8:4::1/64"),), complete=True)
    listed = replace(state, metadata=Metadata((port,)))
    assert told(listed) is None


@pytest.mark.parametrize("source", ["stanza", ADVERTISED])
def test_what_is_known_to_be_gone_is_not_kept_from_an_earlier_run(source):
    assert told(after_a_run(source=source)) is None


@pytest.mark.parametrize("source", ["lease", "metadata", "default route", "only gateway"])
def test_what_may_only_be_silent_is_kept_from_an_earlier_run(source):
    assert told(after_a_run(source=source)) == ("fe80::a", "earlier run")


def reported_earlier(source: str, ip: str = "2001:db8:4::ffff") -> HostState:
    """An earlier run took `ip` from `source`; now a host that forwards is a neighbour."""
    state = state_of(neighbours=(FORWARDING,))
    mac = next(link.mac for link in state.links if link.name == "ens4")
    earlier = {("ens4", 6): PreviousGateway(source, ip_address(ip), mac)}
    return replace(state, previous=Previous(gateways=earlier))


@pytest.mark.parametrize("source", ["lease", "metadata", "default route", "only gateway"])
def test_a_host_that_forwards_takes_no_place_of_a_gateway_that_was_reported_earlier(source):
    """It shows up as a router once the kernel has probed it, at any time after an apply."""
    assert told(reported_earlier(source)) == ("2001:db8:4::ffff", "earlier run")


def test_a_router_that_was_only_known_as_a_neighbour_gives_way_to_the_one_that_is_there_now():
    found = told(reported_earlier("router advertisement", "fe80::a"))
    assert found == (str(FORWARDING.ip), "router advertisement")


class TestDuplicateAddressDetection:
    fresh = Address("ens4", ip_interface("2001:db8:4::2/64"), tentative=True, dynamic=True)

    def rules_for_it(self, address: Address, *rules: Rule) -> list[Rule]:
        state = state_of(FIRST, rules=(Rule(6, 0, 255), *rules))
        state = replace(state, addresses=(*state.addresses, address))
        plan = build_plan(Stanza(), state)
        return [rule for rule in plan.rules if rule.src and rule.src.network_address == address.ip]

    def test_one_of_the_kernels_own_waits_for_its_end(self):
        assert self.rules_for_it(self.fresh) == []
        assert len(self.rules_for_it(self.fresh._replace(tentative=False))) == 4

    def test_one_that_is_configured_does_not_wait(self):
        assert len(self.rules_for_it(self.fresh._replace(dynamic=False))) == 4

    def test_a_rule_that_is_there_stays_meanwhile(self):
        rules = self.rules_for_it(self.fresh._replace(tentative=False))
        assert self.rules_for_it(self.fresh, *rules) == rules

    def test_a_duplicate_never_has_one(self):
        assert self.rules_for_it(self.fresh._replace(failed=True, tentative=False)) == []
