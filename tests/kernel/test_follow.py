"""`source-routing follow`: what others take away comes back, by one process, without a reboot."""

from __future__ import annotations

import signal

import pytest
from lab import (
    Lab,
    Monitor,
    SourceRouting,
    flush_rules,
    following,
    nics_in_own_subnets,
    pings,
    snapshot,
    wait_until,
)

pytestmark = pytest.mark.kernel


TAKEN_AWAY = {
    "the rules": flush_rules,
    "a table": lambda lab: lab.ip("S", "route", "flush", "table", "501"),
    "a table of IPv6": lambda lab: lab.ip("S", "-6", "route", "flush", "table", "501"),
    "a group": lambda lab: lab.ip("S", "link", "set", "ens4", "group", "default"),
}


@pytest.mark.parametrize("what", TAKEN_AWAY)
def test_what_somebody_takes_away_is_back(served: SourceRouting, lab: Lab, what: str):
    before = snapshot(lab, "S")
    with following(served) as follower:
        for _time in range(3):
            TAKEN_AWAY[what](lab)
            assert "change" in follower.line()
            wait_until(lambda: before.difference(snapshot(lab, "S")) == "")


def rules_of(lab: Lab, ip: str) -> bool:
    return f"from {ip} " in lab.ip("S", "-4", "rule")


def test_a_flap_takes_no_rule_away(served: SourceRouting, lab: Lab):
    """But those of IPv6 addresses, which the kernel takes away with the link."""
    with following(served) as follower:
        with Monitor(lab, "S") as monitor:
            lab.batch("S", ["link set ens4 down"])
            lab.batch("S", ["link set ens4 up"])
            assert "change" in follower.line()
            wait_until(lambda: served.run("check").code == 0)
        gone = [line for line in monitor.events if line.startswith("Deleted")]
        assert gone and not [line for line in gone if "from 10.13.96.161" in line]


def test_a_link_that_stays_down_loses_its_rules_and_has_them_back_when_it_returns(server, lab: Lab):
    cloud, command = server(nics_in_own_subnets(3), rp_filter=1)
    command.ok("apply")
    with following(command):
        lab.ip("S", "link", "set", "ens4", "down")
        wait_until(lambda: not rules_of(lab, "10.101.0.10"))
        lab.ip("S", "link", "set", "ens4", "up")
        lab.ip("S", "address", "replace", "fd00:101::10/64", "dev", "ens4", "nodad")
        wait_until(lambda: rules_of(lab, "10.101.0.10"))
        cloud.settle()
        wait_until(lambda: pings(lab, cloud.matrix()) == [])
    command.ok("check")


def test_a_nic_that_is_gone_takes_its_rules_along_at_once(server, lab: Lab):
    _cloud, command = server(nics_in_own_subnets(3), rp_filter=1, container=False)
    command.ok("apply")
    with following(command) as follower:
        lab.ip("S", "link", "del", "ens4")
        assert "ens4" in follower.line()
        assert not rules_of(lab, "10.101.0.10")
    command.ok("check")


def test_an_address_that_comes_later_is_served(served: SourceRouting, lab: Lab):
    with following(served):
        lab.ip("S", "address", "add", "10.13.96.77/19", "dev", "ens4")
        wait_until(lambda: rules_of(lab, "10.13.96.77"))
        lab.ip("S", "address", "del", "10.13.96.77/19", "dev", "ens4")
        wait_until(lambda: not rules_of(lab, "10.13.96.77"))


def test_a_daemons_route_in_a_nics_network_is_left_to_main_as_long_as_it_is_there(
    served: SourceRouting, lab: Lab
):
    """ens3's table has that network by its own gateway."""

    def left_to_main() -> bool:
        return "throw 10.13.100.0/24" in lab.ip("S", "route", "show", "table", "500")

    with following(served):
        lab.ip("S", "route", "add", "10.13.100.0/24", "via", "10.13.96.1", "proto", "bird")
        wait_until(left_to_main)
        lab.ip("S", "route", "del", "10.13.100.0/24")
        wait_until(lambda: not left_to_main())


def test_without_events_it_ends(served: SourceRouting):
    with following(served, idle=0.5, begun=False) as follower:
        assert follower.ends() == (0, "")


def test_where_nothing_was_applied_it_ends_and_does_nothing(server, lab: Lab):
    _cloud, command = server()
    before = snapshot(lab, "S")
    with following(command, begun=False) as follower:
        assert follower.ends() == (0, "")
    assert before.difference(snapshot(lab, "S")) == ""


def test_what_is_removed_is_not_brought_back(served: SourceRouting, lab: Lab):
    with following(served) as follower:
        served.ok("remove")
        assert follower.ends()[0] == 0
    assert "5000" not in lab.ip("S", "rule")


def test_another_stanza_that_is_applied_meanwhile_holds(served: SourceRouting, lab: Lab):
    with following(served):
        served.configure({"source_routing": {"rule_priority": 7000}})
        served.ok("apply")
        flush_rules(lab)
        wait_until(lambda: "7000" in lab.ip("S", "-4", "rule"))
        assert "5000" not in lab.ip("S", "-4", "rule")


def test_a_failure_is_said_once_and_tried_again_until_it_is_well(served: SourceRouting, lab: Lab):
    names = served.root / "etc/iproute2/rt_tables.d"
    with following(served) as follower:
        aside = names.rename(names.with_name("aside"))
        names.write_text("")
        lab.ip("S", "address", "add", "10.13.96.77/19", "dev", "ens4")
        assert "etc/iproute2/rt_tables.d" in follower.line()
        names.unlink()
        aside.rename(names)
        while "well again" not in (line := follower.line()):
            assert line, "it has ended"
        wait_until(lambda: rules_of(lab, "10.13.96.77"))
    served.ok("check")


def test_a_signal_ends_it(served: SourceRouting, lab: Lab):
    with following(served) as follower:
        follower.process.send_signal(signal.SIGTERM)
        assert follower.ends() == (0, "")
    served.ok("check")
