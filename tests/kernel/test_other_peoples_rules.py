"""Rules and tables of others: what they reached without us they reach with us."""

from __future__ import annotations

import pytest
from lab import Lab, Ping, pings, route_get, snapshot

pytestmark = pytest.mark.kernel

OURS = "10.13.96.161"
TUNNEL = "100.64.0.2"  # the far end
BEHIND = "10.20.0.7"  # behind it


@pytest.fixture()
def tunnelled(server, lab: Lab):
    """A server with a tunnel that main knows nothing of, in front of the sibling's 10.0.0.0/8."""
    cloud, command = server(rp_filter=0)
    lab.add("X")
    cloud.wire("S", "vpn0", "X", "eth0")
    lab.batch("S", ["address add 100.64.0.1/32 dev vpn0", f"route add {TUNNEL} dev vpn0 table 52"])
    lab.batch(
        "X",
        [
            f"address add {TUNNEL}/32 dev eth0",
            f"address add {BEHIND}/32 dev lo",
            "route add 100.64.0.1 dev eth0",
            "route add default via 100.64.0.1 dev eth0 onlink",
        ],
    )
    lab.batch("S", [f"route add 10.20.0.0/16 via {TUNNEL} dev vpn0 table 52 onlink"])
    return cloud, command


@pytest.mark.parametrize("when", ["before us", "after us"])
@pytest.mark.parametrize("rule", ["pref 5270", "pref 9000 to 10.20.0.0/16"])
def test_a_table_that_is_asked_after_ours_keeps_its_specific_routes(
    tunnelled, lab: Lab, rule: str, when: str
):
    """Tailscale's 52, or a user's `to NET lookup 200`: for what it sends and what it answers."""
    cloud, command = tunnelled
    add = f"rule add {rule} lookup 52"
    if when == "after us":
        command.ok("apply")
    lab.batch("S", [add])
    command.ok("apply")
    assert pings(lab, [Ping("S", BEHIND), Ping("S", BEHIND, OURS)]) == []
    assert route_get(lab, "S", BEHIND, "from", OURS).dev == "vpn0"
    assert pings(lab, cloud.matrix()) == []
    command.ok("check")
    lab.batch("S", [add.replace("add", "del", 1)])
    command.ok("apply")
    assert "lookup 52" not in lab.ip("S", "rule")


def test_it_is_asked_before_what_main_sends_by_a_nic_of_ours(tunnelled, lab: Lab):
    """A static route that covers its networks, by the own NIC and by the sibling."""
    _cloud, command = tunnelled
    lab.batch("S", ["route add 10.0.0.0/8 via 10.13.96.1", "rule add pref 5270 lookup 52"])
    sources = (OURS, "162.253.43.134")
    assert pings(lab, [Ping("S", BEHIND, one) for one in sources]) == [], "without us"
    command.ok("apply")
    assert pings(lab, [Ping("S", BEHIND, one) for one in sources]) == []
    command.ok("check")


def test_its_default_takes_no_replies(tunnelled, lab: Lab):
    """An exit node, or a full tunnel."""
    cloud, command = tunnelled
    lab.batch("S", [f"route add default via {TUNNEL} dev vpn0 table 52 onlink"])
    lab.batch("S", ["rule add pref 5270 lookup 52"])
    command.ok("apply")
    assert route_get(lab, "S", cloud.remote_ip(4), "from", OURS).dev == "ens4"
    assert pings(lab, [Ping("R", OURS)]) == []


@pytest.mark.parametrize(
    "rule",
    [
        "pref 5100 fwmark 0x1/0x1 lookup 52",
        "pref 5100 iif docker0 lookup 52",
        "pref 5100 from 172.17.0.0/16 lookup 52",
        "pref 5100 ipproto tcp dport 80 lookup 52",
        "pref 5100 from all tos 0x10 lookup 52",
    ],
)
def test_rules_that_select_by_more_are_asked_by_nobody_else(tunnelled, lab: Lab, rule: str):
    _cloud, command = tunnelled
    command.ok("apply")
    without = lab.ip("S", "rule").splitlines()
    lab.batch("S", [f"rule add {rule}"])
    command.ok("apply")
    assert len(lab.ip("S", "rule").splitlines()) == len(without) + 1


def test_a_packet_that_is_not_from_an_address_of_ours_goes_as_without_us(tunnelled, lab: Lab):
    """Unbound, forwarded, from a container, and marked."""
    cloud, command = tunnelled
    lab.batch(
        "S",
        [
            "rule add pref 5100 iif docker0 lookup 52",
            "rule add pref 5200 fwmark 0x1/0x1 lookup 52",
            "rule add pref 5300 to 10.20.0.0/16 lookup 52",
        ],
    )
    questions = [
        (to, *how)
        for to in (BEHIND, TUNNEL, cloud.remote_ip(4), "10.13.96.9", "172.17.0.2")
        for how in (
            (),
            ("mark", "1"),
            ("from", "172.17.0.2", "iif", "docker0"),
            ("from", cloud.remote_ip(4), "iif", "ens4"),
        )
    ]
    before = [str(route_get(lab, "S", *question)) for question in questions]
    command.ok("apply")
    assert [str(route_get(lab, "S", *question)) for question in questions] == before


def test_a_check_names_the_rule_that_decides_before_ours(server, lab: Lab):
    """As the hand-made script's, a `routing-policy` without priority, or wg-quick's."""
    _cloud, command = server()
    command.ok("apply")
    lab.batch("S", ["rule add from 10.13.96.0/19 lookup 501"])
    result = command.run("check")
    assert result.code == 1
    assert "leaves by ens4, not by docker0" in result.out
    assert "a rule that is not ours decides: from 10.13.96.0/19 lookup 501" in result.out


@pytest.mark.parametrize(
    "moved",
    [
        ["rule add pref 100 lookup local protocol kernel", "rule del pref 0"],
        ["rule add pref 999 lookup main", "rule del pref 32766"],
    ],
    ids=["local, as Cilium does", "main, as Shorewall does"],
)
def test_where_somebody_has_moved_local_or_main_a_check_says_nothing(
    server, lab: Lab, moved: list[str]
):
    cloud, command = server()
    command.configure(cloud.stanza(rule_priority=500))
    command.ok("apply")
    lab.batch("S", moved)
    command.ok("check")


def test_an_error_as_mains_best_default_is_left_to_its_rules(server, lab: Lab):
    """Somebody routes by policy alone: our rules would end in that error."""
    cloud, command = server(rp_filter=0)
    lab.batch(
        "S",
        [
            "route del default",
            "route add blackhole default",
            "route add default via 10.13.96.1 table 77",
            f"rule add pref 9000 from {OURS} lookup 77",
        ],
    )
    before = snapshot(lab, "S")
    assert pings(lab, [Ping("R", OURS)]) == []
    command.configure(cloud.stanza(families=["ipv4"]))
    applied = command.run("apply")
    assert "blackhole default" in applied.err
    assert pings(lab, [Ping("R", OURS)]) == []
    assert before.difference(snapshot(lab, "S")) == ""
