"""What moves under a running server, and that another apply puts it right."""

from __future__ import annotations

import json

import pytest
from lab import Lab, Monitor, Ping, nics_in_own_subnets, pings, wait_until

pytestmark = pytest.mark.kernel


def _our_rules(lab: Lab) -> str:
    both = lab.ip("S", "-N", "-d", "-4", "rule") + lab.ip("S", "-N", "-d", "-6", "rule")
    return "\n".join(line for line in both.splitlines() if "proto 83" in line)


def _our_routes(lab: Lab) -> list[dict]:
    found = []
    for family in ("-4", "-6"):
        told = lab.ip("S", "-N", "-j", family, "route", "show", "table", "all", "proto", "83")
        found += json.loads(told or "[]")
    return found


def test_a_link_that_went_down_and_up_is_healed(server, lab: Lab):
    """The kernel drops the table and keeps the rules: the wrong NIC answers, silently."""
    cloud, command = server(rp_filter=1)
    command.ok("apply")
    lab.batch(
        "S",
        [
            "link set ens4 down",
            "link set ens4 up",
            "address replace fd00:96::161/64 dev ens4 nodad",
        ],
    )
    cloud.settle()
    assert pings(lab, [Ping("R", "10.13.96.161")])
    assert command.run("check").code == 1
    command.ok("apply")
    command.ok("check")
    assert pings(lab, cloud.matrix()) == []


def test_while_a_link_is_down_the_others_serve_on(server, lab: Lab):
    cloud, command = server(nics_in_own_subnets(3), rp_filter=1)
    command.ok("apply")
    lab.ip("S", "link", "set", "ens4", "down")
    command.ok("apply")
    served = [
        Ping("R", ip) for family in (4, 6) for n, ip in cloud.addresses(family) if n != "ens4"
    ]
    assert pings(lab, served) == []
    assert "10.101.0.10" not in _our_rules(lab)
    command.ok("check")


def test_a_nic_that_is_gone_takes_its_rules_and_routes_along(server, lab: Lab):
    cloud, command = server(nics_in_own_subnets(3), rp_filter=1, container=False)
    command.ok("apply")
    lab.ip("S", "link", "del", "ens4")
    assert "detached" in lab.ip("S", "rule")
    command.ok("apply")
    left = _our_rules(lab)
    assert "ens4" not in left
    assert "10.101.0.10" not in left
    assert "fd00:101::10" not in left
    assert all(route.get("dev") != "ens4" for route in _our_routes(lab))
    served = [
        Ping("R", ip) for family in (4, 6) for n, ip in cloud.addresses(family) if n != "ens4"
    ]
    assert pings(lab, served) == []
    command.ok("check")
    with Monitor(lab, "S") as monitor:
        command.ok("apply")
    assert monitor.events == []


def test_a_nic_that_comes_back_gets_its_table_back(server, lab: Lab):
    cloud, command = server(nics_in_own_subnets(3), rp_filter=0)
    command.ok("apply")
    tables = lab.ip("S", "rule", "list", "from", "10.101.0.10")
    lab.ip("S", "link", "del", "ens4")
    command.ok("apply")
    nic = cloud.nics[1]
    lab.batch(
        "RT",
        [
            f"link add p-ens4 type veth peer name ens4 netns {lab.name('S')}",
            "link set p-ens4 master br2 up",
        ],
    )
    lab.batch(
        "S",
        [
            f"link set ens4 address {cloud.macs['ens4']} up",
            f"address add {nic.addresses[0]} dev ens4",
            f"address add {nic.addresses[1]} dev ens4 nodad",
        ],
    )
    cloud.settle()
    command.ok("apply")
    assert lab.ip("S", "rule", "list", "from", "10.101.0.10") == tables
    assert pings(lab, [Ping("R", ip) for _nic, ip in cloud.addresses(4)]) == []


def test_a_nic_that_is_renamed_is_served_under_its_new_name(server, lab: Lab):
    cloud, command = server(nics_in_own_subnets(3), rp_filter=1)
    command.ok("apply")
    lab.batch("S", ["link set ens4 down", "link set ens4 name lan0", "link set lan0 up"])
    lab.batch("S", ["address replace fd00:101::10/64 dev lan0 nodad"])
    cloud.settle()
    command.ok("apply")
    assert "ens4" not in _our_rules(lab)
    assert "oif lan0" in _our_rules(lab)
    everywhere = [Ping("R", ip) for family in (4, 6) for _nic, ip in cloud.addresses(family)]
    assert pings(lab, everywhere) == []

    def is_well() -> bool:
        command.ok("apply")
        return command.run("check").code == 0

    # The stanza knows no lan0, and its gateway says in its own time that it is a router.
    wait_until(is_well, story=lambda: str(command.run("check")))


def test_with_one_nic_left_nothing_of_ours_is_left(server, lab: Lab):
    _cloud, command = server()
    command.ok("apply")
    lab.ip("S", "link", "del", "ens4")
    command.ok("apply")
    assert _our_rules(lab) == ""
    assert _our_routes(lab) == []
    assert pings(lab, [Ping("R", "162.253.43.134"), Ping("R", "2001:db8:43::134")]) == []


def test_an_address_that_is_gone_loses_its_rule_and_a_new_one_gets_it(server, lab: Lab):
    _cloud, command = server(rp_filter=1, anti_spoofing=False)
    command.ok("apply")
    lab.batch(
        "S",
        [
            "address add 10.13.96.170/19 dev ens4",
            "address add fd00:96::170/64 dev ens4 nodad",
        ],
    )
    assert pings(lab, [Ping("R", "10.13.96.170")])
    command.ok("apply")
    assert pings(lab, [Ping("R", "10.13.96.170"), Ping("R", "fd00:96::170")]) == []
    lab.batch("S", ["address del 10.13.96.170/19 dev ens4", "address del fd00:96::170/64 dev ens4"])
    command.ok("apply")
    assert "::170" not in _our_rules(lab)
    assert ".170" not in _our_rules(lab)
    command.ok("check")


def test_an_address_that_moves_to_another_nic_is_answered_there(server, lab: Lab):
    _cloud, command = server(anti_spoofing=False, rp_filter=1)
    command.ok("apply")
    lab.batch(
        "S",
        ["address add 10.13.96.180/19 dev ens4"],
    )
    command.ok("apply")
    before = [line for line in _our_rules(lab).splitlines() if "10.13.96.180" in line]
    lab.batch("S", ["address del 10.13.96.180/19 dev ens4", "address add 10.13.96.180/32 dev ens3"])
    command.ok("apply")
    after = [line for line in _our_rules(lab).splitlines() if "10.13.96.180" in line]
    assert len(before) == len(after) == 4
    assert before != after
    command.ok("check")


def test_another_gateway_replaces_the_first_without_a_trace(server, lab: Lab):
    cloud, command = server(rp_filter=1)
    command.ok("apply")
    lab.batch(
        "RT",
        ["address add 10.13.96.2/19 dev br2"],
    )
    document = cloud.stanza()
    document["source_routing"]["interfaces"]["ens4"]["gateway4"] = "10.13.96.2"
    command.configure(document)
    command.ok("apply")
    assert all(
        route.get("gateway") != "10.13.96.1"
        for route in _our_routes(lab)
        if route["table"] == "501"
    )
    assert pings(lab, cloud.matrix([4])) == []


def test_the_last_address_deleted_and_added_back_is_healed(server, lab: Lab):
    cloud, command = server(rp_filter=1)
    command.ok("apply")
    lab.batch("S", ["address del 10.13.96.161/19 dev ens4", "address add 10.13.96.161/19 dev ens4"])
    assert command.run("check").code == 1
    command.ok("apply")
    assert pings(lab, cloud.matrix()) == []


def test_two_applies_at_once_do_one_after_the_other(server, lab: Lab):
    cloud, command = server(rp_filter=1)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _n: command.run("apply"), range(4)))
    assert [result.code for result in results] == [0, 0, 0, 0], results
    assert sum("Nothing to change" not in result.out for result in results) == 1
    assert pings(lab, cloud.matrix()) == []
    rules = _our_rules(lab).splitlines()
    assert len([r for r in rules if "from 10.13.96.161" in r]) == 4
