"""What `source-routing follow` makes of events that others bring about, one by one."""

from __future__ import annotations

import signal
from typing import NamedTuple

import pytest
from lab import (
    Lab,
    Monitor,
    Ping,
    SourceRouting,
    following,
    nics_in_own_subnets,
    pings,
    snapshot,
    wait_until,
)

pytestmark = pytest.mark.kernel


@pytest.fixture()
def server_of_three(server, lab: Lab) -> SourceRouting:
    """Three NICs, gateways that nobody has told, and ens5 without an address yet."""
    _cloud, command = server(nics_in_own_subnets(3), container=False, anti_spoofing=False)
    lab.batch("RT", ["address add 10.101.0.2/24 dev br2", "address add fd00:101::2/64 dev br2"])
    lab.batch(
        "S",
        [
            "route add default via 10.101.0.1 dev ens4 metric 200",
            "-6 route add default via fd00:101::1 dev ens4 metric 2000",
            "address flush dev ens5 scope global",
        ],
    )
    command.configure({"source_routing": {"gateway_guess": "never"}})
    command.ok("apply")
    return command


def told(lab: Lab) -> str:
    """Our rules and routes, a line each."""
    lines: list[str] = []
    for family in ("-4", "-6"):
        lines += lab.ip("S", family, *"route show table all proto 83".split()).splitlines()
        rules = lab.ip("S", family, "rule").splitlines()
        lines += [rule for rule in rules if "proto 83" in rule]
    return "\n".join(lines)


class Event(NamedTuple):
    """Lines of `ip -batch` that bring something about, and its end; what is ours then."""

    begin: list[str]
    end: list[str]
    comes: tuple[str, ...]


EVENTS = {
    "another default": Event(
        ["route add default via 10.101.0.2 dev ens4 metric 100"],
        ["route del default via 10.101.0.2 dev ens4 metric 100"],
        ("default via 10.101.0.2 dev ens4",),
    ),
    "a router that is preferred": Event(
        ["-6 route add default via fd00:101::2 dev ens4 proto ra metric 1000"],
        ["-6 route del default via fd00:101::2 dev ens4 proto ra metric 1000"],
        ("default via fd00:101::2 dev ens4",),
    ),
    "a network behind a gateway": Event(
        ["route add 10.20.0.0/16 via 10.101.0.1 dev ens4"],
        ["route del 10.20.0.0/16 via 10.101.0.1 dev ens4"],
        ("10.20.0.0/16 via 10.100.0.1 dev ens3",),
    ),
    "a prefix that a router tells of": Event(
        ["-6 route add fd00:97::/64 dev ens4 proto ra metric 1024"],
        ["-6 route del fd00:97::/64 dev ens4 proto ra metric 1024"],
        ("fd00:97::/64 via fd00:100::1 dev ens3",),
    ),
    "another address": Event(
        ["address add 10.101.0.99/24 dev ens4", "address add fd00:101::99/64 dev ens4 nodad"],
        ["address del 10.101.0.99/24 dev ens4", "address del fd00:101::99/64 dev ens4"],
        ("from 10.101.0.99 ", "from fd00:101::99 "),
    ),
    "the first address of a NIC": Event(
        [
            "address add 10.102.0.10/24 dev ens5",
            "route add default via 10.102.0.1 dev ens5 metric 300",
        ],
        ["address del 10.102.0.10/24 dev ens5"],
        ("oif ens5 ", "from 10.102.0.10 ", "default via 10.102.0.1 dev ens5"),
    ),
    "a rule of others that looks up a table": Event(
        [
            "route add 203.0.113.0/24 dev lo table 52",
            "rule add to 203.0.113.0/24 lookup 52 pref 9000",
        ],
        ["rule del to 203.0.113.0/24 lookup 52 pref 9000", "route flush table 52"],
        ("from 10.101.0.10 to 203.0.113.0/24 lookup 52 ",),
    ),
    "a full tunnel": Event(
        ["route add default dev lo table 52", "rule add not fwmark 52 lookup 52 pref 4999"],
        ["rule del not fwmark 52 lookup 52 pref 4999", "route flush table 52"],
        ("4930:\tfrom 10.101.0.10 lookup 501 ",),
    ),
}


@pytest.mark.parametrize("name", EVENTS)
def test_what_others_bring_is_served_and_gone_with_it(server_of_three, lab: Lab, name: str):
    event, before = EVENTS[name], snapshot(lab, "S")

    def has_come() -> bool:
        return all(what in told(lab) for what in event.comes)

    def different() -> str:
        return before.difference(snapshot(lab, "S"))

    assert not has_come()
    with following(server_of_three):
        for _time in range(2):
            lab.batch("S", event.begin)
            wait_until(has_come, story=lambda: told(lab))
            lab.batch("S", event.end)
            wait_until(lambda: not different(), story=different)
    server_of_three.ok("check")


NOTHING = {
    "a container's bridge": Event(
        [
            "link add docker0 type bridge",
            "link add c1 type veth peer name c2",
            "link set c1 master docker0 up",
            "link set docker0 up",
            "address add 172.17.0.1/16 dev docker0",
        ],
        ["link del c1", "link del docker0"],
        (),
    ),
    "a rule that we do not follow": Event(
        ["rule add from 192.0.2.9 lookup 54 pref 9002", "rule add fwmark 1 lookup 53 pref 9001"],
        ["rule del from 192.0.2.9 lookup 54 pref 9002", "rule del fwmark 1 lookup 53 pref 9001"],
        (),
    ),
    "a route in a table of others": Event(
        ["route add 203.0.113.0/24 dev ens4 table 52"],
        ["route del 203.0.113.0/24 dev ens4 table 52"],
        (),
    ),
    "a router that repeats itself": Event(
        ["-6 route change default via fd00:101::1 dev ens4 metric 2000 expires 1800"],
        ["-6 route change default via fd00:101::1 dev ens4 metric 2000 expires 1700"],
        (),
    ),
}


@pytest.mark.parametrize("name", NOTHING)
def test_what_matters_to_no_plan_changes_nothing_and_is_not_said(
    server_of_three, lab: Lab, name: str
):
    before = told(lab)
    with following(server_of_three, idle=2) as follower:
        with Monitor(lab, "S") as monitor:
            for lines in (NOTHING[name].begin, NOTHING[name].end, NOTHING[name].begin):
                lab.batch("S", lines)
            assert follower.ends() == (0, "")
        assert not [line for line in monitor.events if " proto 83 " in f"{line} "]
    assert told(lab) == before


def gateway(lab: Lab) -> str:
    return lab.ip("S", "-4", "route", "show", "default", "table", "501")


LEASE = """lease {{
  interface "ens4";
  fixed-address 10.101.0.10;
  option subnet-mask 255.255.255.0;
  option routers 10.101.0.{last};
  expire never;
}}
"""


@pytest.mark.parametrize("how", ["the pipe", "a signal"])
def test_what_only_files_tell_is_seen_by_whoever_is_told_to_look(server_of_three, lab: Lab, how):
    """A lease with another gateway for the same address is no event of the kernel."""
    lab.ip("S", "route", "del", "default", "dev", "ens4")
    file = server_of_three.root / "var/lib/dhcp/dhclient.ens4.leases"
    file.parent.mkdir(parents=True)
    file.write_text(LEASE.format(last=1))
    server_of_three.ok("apply")
    with following(server_of_three) as follower:
        for last in (2, 1, 2):
            file.write_text(file.read_text() + LEASE.format(last=last))
            if how == "the pipe":
                follower.look()
            else:
                follower.process.send_signal(signal.SIGHUP)
            wait_until(lambda via=f"via 10.101.0.{last} ": via in gateway(lab))


def test_a_lease_that_is_over_takes_ipv4_along_and_keeps_ipv6(served: SourceRouting, lab: Lab):
    def rules(family: str) -> str:
        return lab.ip("S", family, "rule")

    with following(served):
        lab.ip("S", "address", "del", "10.13.96.161/19", "dev", "ens4")
        wait_until(lambda: "10.13.96.161" not in rules("-4"))
        assert "from fd00:96::161 " in rules("-6")
        assert pings(lab, [Ping("R", "fd00:96::161")]) == []
        lab.ip("S", "address", "add", "10.13.96.161/19", "dev", "ens4")
        wait_until(lambda: pings(lab, [Ping("R", "10.13.96.161")]) == [])
    served.ok("check")


def test_a_port_that_takes_the_name_of_one_that_is_gone_is_served(server, lab: Lab):
    cloud, command = server(nics_in_own_subnets(3), container=False, anti_spoofing=False)
    command.ok("apply")
    with following(command):
        lab.ip("S", "link", "del", "ens4")
        lab.batch(
            "RT",
            [
                f"link add p-ens4 type veth peer name ens4 netns {lab.name('S')}",
                "link set p-ens4 master br2 up",
            ],
        )
        lab.batch("S", ["link set ens4 up", "address add 10.101.0.99/24 dev ens4"])
        wait_until(lambda: "from 10.101.0.99 " in told(lab), story=lambda: told(lab))
        wait_until(lambda: "10.101.0.10 " not in told(lab), story=lambda: told(lab))
        cloud.settle()
        wait_until(lambda: pings(lab, [Ping("R", "10.101.0.99")]) == [])


def test_a_nic_that_is_renamed_is_served_under_its_new_name(server_of_three, lab: Lab):
    with following(server_of_three):
        lab.batch("S", ["link set ens4 down", "link set ens4 name lan0", "link set lan0 up"])
        lab.batch("S", ["route add default via 10.101.0.1 dev lan0 metric 200"])
        wait_until(lambda: "oif lan0 " in told(lab), story=lambda: told(lab))
        wait_until(lambda: "ens4" not in told(lab), story=lambda: told(lab))


def test_an_address_that_moves_to_another_nic_goes_by_that_one(server_of_three, lab: Lab):
    lab.ip("S", "address", "add", "10.101.0.99/24", "dev", "ens4")

    def table() -> str:
        return lab.ip("S", "-4", "rule", "show", "from", "10.101.0.99", "priority", "5030")

    with following(server_of_three):
        wait_until(lambda: "lookup 501" in table())
        lab.ip("S", "address", "del", "10.101.0.99/24", "dev", "ens4")
        lab.ip("S", "address", "add", "10.101.0.99/32", "dev", "ens3")
        wait_until(lambda: "lookup 500" in table() and "501" not in table(), story=table)


def test_many_nics_that_flap_together_take_few_looks(server, lab: Lab):
    nics = nics_in_own_subnets(28)
    _cloud, command = server(nics, container=False, hosts=False, anti_spoofing=False)
    command.ok("apply")
    before = snapshot(lab, "S")
    addresses = [
        f"address replace {address} dev {nic.name} nodad"
        for nic in nics
        for address in nic.addresses
        if ":" in address
    ]
    with following(command, idle=5) as follower:
        lab.batch("S", [f"link set {nic.name} down" for nic in nics])
        lab.batch("S", [f"link set {nic.name} up" for nic in nics] + addresses)
        lab.batch("S", ["route add default via 10.100.0.1 dev ens3"])
        lab.batch("S", ["-6 route add default via fd00:100::1 dev ens3"])
        code, said = follower.ends()
    assert code == 0
    assert before.difference(snapshot(lab, "S")) == ""
    assert 1 <= said.count("\n") <= 8, said
