"""NICs whose link has gone down a moment ago keep what is there for them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cc_source_routing.follow.flaps import GRACE_SECONDS, Flaps
from cc_source_routing.model import OUR_GROUP, HostState, Stanza
from cc_source_routing.plan.build import build_plan

from .hosts import SEED


def planned(state: HostState):
    return build_plan(Stanza(), state), state


def with_link(name: str, state: HostState = SEED, **fields: object) -> HostState:
    links = tuple(link._replace(**fields) if link.name == name else link for link in state.links)
    return replace(state, links=links)


def without_addresses(name: str, state: HostState = SEED) -> HostState:
    return replace(state, addresses=tuple(a for a in state.addresses if a.dev != name))


DOWN = with_link("ens4", up=False, running=False)


@pytest.fixture
def flaps() -> Flaps:
    served = Flaps()
    assert served.grace(0.0, *planned(SEED)) is None
    served.applied(*planned(SEED))
    return served


def test_a_link_that_goes_down_has_some_seconds_to_come_back(flaps: Flaps):
    assert flaps.grace(10.0, *planned(DOWN)) == 10.0 + GRACE_SECONDS
    assert flaps.grace(12.0, *planned(DOWN)) == 10.0 + GRACE_SECONDS
    assert flaps.grace(10.0 + GRACE_SECONDS, *planned(DOWN)) is None
    flaps.applied(*planned(DOWN))
    assert flaps.grace(20.0, *planned(DOWN)) is None


def test_the_next_flap_has_its_own(flaps: Flaps):
    flaps.grace(10.0, *planned(DOWN))
    assert flaps.grace(11.0, *planned(SEED)) is None
    flaps.applied(*planned(SEED))
    assert flaps.grace(20.0, *planned(DOWN)) == 20.0 + GRACE_SECONDS


def test_addresses_that_go_with_the_carrier_are_a_flap(flaps: Flaps):
    gone = with_link("ens4", without_addresses("ens4"), running=False)
    assert flaps.grace(10.0, *planned(gone)) is not None


def test_a_lease_that_is_over_is_no_flap(flaps: Flaps):
    assert flaps.grace(10.0, *planned(without_addresses("ens4"))) is None


def test_a_nic_that_is_gone_or_another_one_is_no_flap(flaps: Flaps):
    pulled = replace(
        without_addresses("ens4"), links=tuple(x for x in SEED.links if x.name != "ens4")
    )
    assert flaps.grace(10.0, *planned(pulled)) is None
    assert flaps.grace(10.0, *planned(with_link("ens4", DOWN, ifindex=99))) is None


def test_a_link_that_was_never_served_has_nothing_to_keep():
    assert Flaps().grace(0.0, *planned(DOWN)) is None


def test_what_an_earlier_process_served_is_known_by_its_group():
    down = with_link("ens4", DOWN, group=OUR_GROUP)
    assert Flaps().grace(5.0, *planned(down)) == 5.0 + GRACE_SECONDS
