"""Each row of docs/coexistence.md, with real packets: without us, and with us both ways."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest
from lab import Driver, Lab, Ping

from .catalogue import ALL
from .policies import SHOREWALL
from .proxies import KEEPALIVED, MOVING
from .software import ALONE, ENS4, WAYS, WE_FIRST, Probe, Software, lost
from .vpns import INTO_THE_TUNNEL, NETBIRD, NETBIRD_EXIT_NODE, WG_QUICK_FULL

pytestmark = pytest.mark.kernel

# A static route by the second NIC that covers what many of them route otherwise.
COARSE = ("10.0.0.0/8 via 10.13.96.1",)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("software", ALL, ids=str)
def test_what_it_reached_without_us_it_reaches_with_us(
    server, lab: Lab, software: Software, way: str
):
    cloud, command = server(
        container=software.container,
        stanza=dict(software.stanza),
        main_routes=COARSE,
    )
    run = None if way == ALONE else Driver(lab, "S")  # the lab ends it

    def apply() -> None:
        result = run(*command.argv("apply"))
        assert result.code == 0, result

    if way == WE_FIRST:
        apply()
    software.set_up(lab, cloud)
    cloud.settle()
    if way == WE_FIRST:
        # Nobody has told us yet, and what worked without us works, but for what waits for it.
        at_once = [one for one in software.works if one not in software.next_run]
        assert surprises(lab, at_once, set(software.next_run)) == set()
    if way != ALONE:
        # What a service that listens to the kernel runs on an event.
        apply()
    dead = software.dead(way)
    assert surprises(lab, software.living(way), dead) == set()


def surprises(lab: Lab, living: Collection[Probe], dead: set[Probe]) -> set[Probe]:
    """What is lost of the living, and what arrives of the dead."""
    gone = lost(lab, [*living, *dead], tries=1)
    # A busy machine loses a packet now and then; nobody waits twice for what is lost anyway.
    late = gone - dead
    return (dead - gone) | (lost(lab, late) if late else set())


@pytest.mark.thorough("what runs beside us, with each rp_filter")
@pytest.mark.parametrize("rp_filter", [1, 2])
@pytest.mark.parametrize("software", ALL, ids=str)
def test_whatever_the_rp_filter_nothing_is_lost_with_us_that_arrived_without(
    server, lab: Lab, software: Software, rp_filter: int
):
    cloud, command = server(
        rp_filter=rp_filter,
        container=software.container,
        stanza=dict(software.stanza),
        main_routes=COARSE,
    )
    software.set_up(lab, cloud)
    cloud.settle()
    asked = [*software.works, *software.mended, *software.lost]
    before = lost(lab, asked)
    command.ok("apply")
    assert lost(lab, asked) - before == set()


def test_an_address_that_moves_takes_its_rules_along(server, lab: Lab):
    cloud, command = server(container=False)
    KEEPALIVED.set_up(lab, cloud)
    command.ok("apply")
    assert f"from {MOVING} " in lab.ip("S", "rule")
    lab.batch("S", [f"address del {MOVING}/32 dev ens4"])
    command.ok("apply")
    assert f"from {MOVING} " not in lab.ip("S", "rule")
    assert lost(lab, KEEPALIVED.works[:-1]) == set()


def test_a_full_tunnel_that_comes_after_us_is_preceded_as_long_as_it_is_there(server, lab: Lab):
    """The kernel puts its rules before ours: replies would go into it, as without us."""
    cloud, command = server(container=False)
    command.ok("apply")
    WG_QUICK_FULL.set_up(lab, cloud)
    told = command.run("check")
    assert told.code == 1
    assert "leaves by wg0, not by ens4, since a rule that is not ours decides" in told.out
    applied = command.run("apply")
    assert "a full tunnel's rules have come before rule_priority 5000" in applied.err
    assert f"4930:\tfrom {ENS4} lookup" in lab.ip("S", "rule")
    command.ok("check")
    assert command.ok("apply").startswith("Nothing to change")
    # Started again, it comes before us again.
    lab.batch("S", _without(WG_QUICK_FULL))
    lab.batch("S", WG_QUICK_FULL.sets[:2])
    command.ok("apply")
    assert f"4830:\tfrom {ENS4} lookup" in lab.ip("S", "rule")
    assert lost(lab, [*WG_QUICK_FULL.works, *WG_QUICK_FULL.mended]) == set()
    lab.batch("S", _without(WG_QUICK_FULL))
    assert command.run("apply").err.count("full tunnel") == 0
    assert f"5030:\tfrom {ENS4} lookup" in lab.ip("S", "rule")
    command.ok("check")


def _without(software: Software) -> list[str]:
    return [line.replace("add", "del", 1) for line in software.sets if line.startswith("rule")]


def test_it_is_not_preceded_where_somebody_elses_rule_would_be_too(server, lab: Lab):
    """That may stand before ours on purpose."""
    cloud, command = server(container=False)
    command.ok("apply")
    lab.batch("S", ["rule add pref 4950 fwmark 7 lookup 100"])
    WG_QUICK_FULL.set_up(lab, cloud)
    lab.batch("S", _without(WG_QUICK_FULL))
    lab.batch("S", ["rule add pref 4999 not fwmark 51820 table 51820"])
    command.ok("apply")
    assert f"5030:\tfrom {ENS4} lookup" in lab.ip("S", "rule")
    assert "a rule that is not ours decides" in command.run("check").out


def test_a_full_tunnel_that_is_given_priorities_after_ours_takes_no_replies(server, lab: Lab):
    """PostUp may give them: `Table = off`, and the two rules with numbers from 5041 on."""
    cloud, command = server(container=False)
    command.ok("apply")
    numbered = replace(
        WG_QUICK_FULL,
        sets=(
            "rule add pref 10000 table main suppress_prefixlength 0",
            "rule add pref 10001 not fwmark 51820 table 51820",
            "route add 0.0.0.0/0 dev wg0 table 51820",
        ),
    )
    numbered.set_up(lab, cloud)
    command.ok("apply")
    assert lost(lab, [*numbered.works, *numbered.mended]) == set()
    command.ok("check")


@pytest.mark.parametrize(
    ("software", "priority"), [(NETBIRD_EXIT_NODE, 50), (SHOREWALL, 900)], ids=str
)
def test_a_rule_priority_before_theirs_serves_all_addresses(
    server, lab: Lab, software: Software, priority: int
):
    cloud, command = server(
        container=software.container, stanza={"rule_priority": priority}, main_routes=COARSE
    )
    software.set_up(lab, cloud)
    command.ok("apply")
    mended = [one for one in (*software.mended, *software.lost) if one != INTO_THE_TUNNEL]
    assert lost(lab, [*software.works, *mended]) == set()
    command.ok("check")


def test_before_netbirds_rules_our_addresses_do_not_reach_its_networks(server, lab: Lab):
    """Its table is for packets without a mark: a rule that selects by more is never copied."""
    cloud, command = server(container=False, stanza={"rule_priority": 50}, main_routes=COARSE)
    NETBIRD.set_up(lab, cloud)
    assert lost(lab, NETBIRD.works) == set()
    command.ok("apply")
    behind = Ping("S", "192.168.77.7", ENS4)
    living = [one for one in NETBIRD.works if one != behind]
    assert surprises(lab, living, {behind}) == set()
