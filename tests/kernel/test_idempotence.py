"""A second run changes nothing, a remove leaves what was, and what is not ours is left alone."""

from __future__ import annotations

import json
import sys

import pytest
from lab import Lab, Monitor, SourceRouting, nics_in_own_subnets, pings, snapshot
from lab.command import REPOSITORY

pytestmark = pytest.mark.kernel

FOREIGN = (
    "rule add pref 100 from 192.0.2.0/24 lookup 900",
    "rule add pref 5010 from 198.51.100.7 lookup 901",
    "rule add pref 5020 fwmark 0x7 lookup 902",
    "rule add pref 30000 to 203.0.113.0/24 lookup main",
    "-6 rule add pref 5030 from 2001:db8:7::/48 lookup 903",
    "route add 198.51.100.0/24 via 162.253.43.1 table 900",
    "route add default via 10.13.96.1 dev ens4 table 901",
    "route add blackhole 192.0.2.128/25 proto static",
    "-6 route add 2001:db8:7::/48 via 2001:db8:43::1 dev ens3 table 903",
    "link set docker0 group 77",
)


def test_a_second_apply_says_so_and_tells_the_kernel_nothing(server, lab: Lab):
    _cloud, command = server(container=False)
    assert "Nothing to change" not in command.ok("apply")
    files = command.files()
    with Monitor(lab, "S") as monitor:
        told = command.ok("apply")
    assert monitor.events == []
    assert "Nothing to change" in told
    assert command.files() == files


def test_the_second_apply_is_silent_with_many_nics_too(server, lab: Lab):
    _cloud, command = server(nics_in_own_subnets(8), hosts=False, container=False)
    command.ok("apply")
    with Monitor(lab, "S") as monitor:
        command.ok("apply")
    assert monitor.events == []


@pytest.mark.parametrize("command_line", [["plan"], ["status"], ["check"], ["plan", "--json"]])
def test_what_only_looks_changes_neither_kernel_nor_files(
    server, lab: Lab, command_line: list[str]
):
    _cloud, command = server(container=False)
    before, files = snapshot(lab, "S"), command.files()
    with Monitor(lab, "S") as monitor:
        command.run(*command_line)
    assert monitor.events == []
    assert before.difference(snapshot(lab, "S")) == ""
    assert command.files() == files


def test_a_plan_tells_exactly_what_the_apply_then_does(server):
    _cloud, command = server()
    planned = command.run("plan", "--json").json
    applied = command.run("apply", "--json").json
    assert planned["pending"]
    assert planned["pending"] == applied["operations"]


@pytest.mark.parametrize("rp_filter", ["keep", "strict", "loose"])
def test_a_remove_leaves_the_namespace_and_the_root_exactly_as_they_were(
    server, lab: Lab, rp_filter: str
):
    _cloud, command = server(stanza={"rp_filter": rp_filter})
    lab.batch("S", FOREIGN)
    lab.ip("S", "link", "set", "ens4", "group", "42")
    lab.sysctl("S", {"net/ipv4/conf/ens4/rp_filter": 0, "net/ipv4/conf/ens3/rp_filter": 1})
    before, files = snapshot(lab, "S"), command.files()
    command.ok("apply")
    assert before.difference(snapshot(lab, "S")) != ""
    command.ok("remove")
    assert before.difference(snapshot(lab, "S")) == ""
    assert command.files() == files
    with Monitor(lab, "S") as monitor:
        command.ok("remove")
    assert monitor.events == []


def test_what_is_not_ours_is_there_untouched_through_apply_change_and_remove(server, lab: Lab):
    cloud, command = server()
    lab.batch("S", FOREIGN)
    foreign_rules = _foreign_rules(lab)
    foreign_routes = _foreign_routes(lab)
    assert len(foreign_rules) >= 5
    variants = [
        cloud.stanza(),
        cloud.stanza(rule_priority=7000, table_base=700),
        cloud.stanza(families=["ipv4"]),
        cloud.stanza(),
    ]
    for document in variants:
        command.configure(document)
        command.ok("apply")
        assert _foreign_rules(lab) == foreign_rules
        assert _foreign_routes(lab) == foreign_routes
        assert '"group":"77"' in lab.ip("S", "-N", "-j", "link", "show", "docker0").replace(" ", "")
    command.ok("remove")
    assert _foreign_rules(lab) == foreign_rules
    assert _foreign_routes(lab) == foreign_routes


def test_a_table_that_somebody_else_uses_is_not_taken(server, lab: Lab):
    cloud, command = server()
    lab.batch("S", ["route add 203.0.113.0/24 via 162.253.43.1 table 500"])
    command.ok("apply")
    assert lab.ip("S", "route", "show", "table", "500").strip().startswith("203.0.113.0/24")
    assert len(lab.ip("S", "route", "show", "table", "500").splitlines()) == 1
    assert pings(lab, cloud.matrix()) == []


def test_the_kernels_own_rules_are_never_touched(server, lab: Lab):
    """Priorities 0, 32766 and 32767: networkd has been seen deleting re-created ones."""
    cloud, command = server()
    events = []
    for document in (cloud.stanza(), cloud.stanza(rule_priority=9000)):
        command.configure(document)
        with Monitor(lab, "S") as monitor:
            command.ok("apply")
        events += monitor.events
    with Monitor(lab, "S") as monitor:
        command.ok("remove")
    events += monitor.events
    assert any("5030:" in event for event in events)
    touched = [e for e in events if e.removeprefix("Deleted ").startswith(("0:", "3276"))]
    assert touched == []


@pytest.mark.parametrize("lost", ["32766", "32767"])
def test_a_missing_rule_of_the_kernel_is_told_and_not_made_up(server, lab: Lab, lost: str):
    """Re-created without `proto kernel` it would be networkd's to delete (systemd#41350)."""
    _cloud, command = server()
    command.ok("apply")
    lab.ip("S", "-4", "rule", "del", "pref", lost)
    result = command.run("check")
    assert result.code == 1
    assert lost in result.out + result.err
    command.run("apply")
    assert f"{lost}:" not in lab.ip("S", "-4", "rule")


def test_a_check_finds_each_thing_that_somebody_took_away(server, lab: Lab):
    _cloud, command = server()
    command.ok("apply")
    command.ok("check")
    damage = {
        "rule del pref 5030 from 10.13.96.161": "10.13.96.161",
        "-6 rule del pref 5000": "5000",
        "route del default table 501": "501",
        "-6 route flush table 500": "500",
        "link set ens4 group 0": "ens4",
    }
    for line, named in damage.items():
        lab.ip("S", *line.split())
        result = command.run("check")
        assert result.code == 1, line
        assert named in result.out, line
        command.ok("apply")
        command.ok("check")


def test_a_check_sees_a_rule_that_goes_before_ours(server, lab: Lab):
    """All of ours is there, and the invariant is broken all the same."""
    _cloud, command = server()
    command.ok("apply")
    lab.ip("S", "rule", "add", "pref", "50", "from", "10.13.96.161", "lookup", "main")
    result = command.run("check")
    assert result.code == 1
    assert "10.13.96.161" in result.out


def test_stanza_and_kernel_may_be_read_without_the_user_data(server, root, lab: Lab):
    """After the first apply the saved stanza serves: hooks and people need not know the file."""
    _cloud, command = server(stanza={"rule_priority": 6000}, container=False)
    command.ok("apply")
    again = SourceRouting(lab, "S", root)
    again.ok("check")
    with Monitor(lab, "S") as monitor:
        again.ok("apply")
    assert monitor.events == []


def _foreign_rules(lab: Lab) -> list[str]:
    both = lab.ip("S", "-N", "-d", "-4", "rule") + lab.ip("S", "-N", "-d", "-6", "rule")
    return [line for line in both.splitlines() if "proto 83" not in line]


def _foreign_routes(lab: Lab) -> list[str]:
    found = []
    for family in ("-4", "-6"):
        told = lab.ip("S", "-N", "-j", family, "route", "show", "table", "all")
        found += [json.dumps(route) for route in json.loads(told) if route.get("protocol") != "83"]
    return found


TWICE = """
from ipaddress import ip_network
from cc_source_routing.kernel.diff import AddRule, DeleteRoute, DeleteRule, ReplaceRoute
from cc_source_routing.model import OUR_PROTOCOL, Route, Rule
from cc_source_routing.kernel.netlink import Kernel

rule = Rule(4, 5030, 501, src=ip_network("10.13.96.161/32"), protocol=OUR_PROTOCOL)
route = Route(501, ip_network("203.0.113.0/24"), "lo", protocol=OUR_PROTOCOL)
with Kernel() as kernel:
    for operation in (AddRule(rule), ReplaceRoute(route), DeleteRule(rule), DeleteRoute(route)):
        kernel.execute([operation])
        kernel.execute([operation])
        print(sum(one.key == rule.key for one in kernel.rules()))
"""


def test_what_a_hook_beside_us_has_done_already_is_no_refusal(lab: Lab):
    lab.add("S")
    lab.ip("S", "link", "set", "lo", "up")
    done = lab.run("S", sys.executable, "-c", TWICE, env={"PYTHONPATH": str(REPOSITORY)})
    assert done.stdout.split() == ["1", "1", "0", "0"]
