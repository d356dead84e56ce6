"""A stream of datagrams goes on while the content changes a hundred times."""

from __future__ import annotations

import pytest
from lab import Driver, Lab, Nic, UdpEcho, seed_nics

pytestmark = pytest.mark.kernel

THIRD = Nic(
    "ens5",
    ("10.150.0.10/24", "fd00:150::10/64"),
    ("10.150.0.1", "fd00:150::1"),
    ("10.150.0.77/24", "fd00:150::77/64"),
    3,
)
APPLIES = 100


def test_no_packet_is_lost_over_a_hundred_applies_with_changing_content(server, lab: Lab):
    """From remote and from a host on a sibling's subnet, to the second NIC, both families."""
    cloud, command = server((*seed_nics(), THIRD), rp_filter=1, container=False)
    documents = [
        cloud.stanza(),
        _with(cloud.stanza(), "ens4", routes=[{"to": "10.64.0.0/10", "via": "10.13.96.1"}]),
        cloud.stanza(exclude=["ens5"]),
        cloud.stanza(table_base=700),
        _with(cloud.stanza(rule_priority=6000), "ens3", table=900),
        cloud.stanza(rule_priority=4000),
    ]
    # What others change meanwhile, none of it on the way of a datagram itself.
    hands = [
        ["address add 10.13.96.200/19 dev ens4"],
        ["route add 10.77.0.0/16 via 10.150.0.1 dev ens5 proto static"],
        ["address add fd00:96::200/64 dev ens4 nodad", "address add 162.253.43.200/24 dev ens3"],
        ["route add 203.0.113.0/24 via 162.253.43.1 dev ens3"],
        ["address del 10.13.96.200/19 dev ens4"],
        ["route del 10.77.0.0/16 via 10.150.0.1 dev ens5 proto static"],
        ["address del fd00:96::200/64 dev ens4", "address del 162.253.43.200/24 dev ens3"],
        ["route del 203.0.113.0/24 via 162.253.43.1 dev ens3"],
    ]
    with Driver(lab, "S") as driver:
        command.configure(documents[0], "0")
        assert driver(*command.argv("apply")).code == 0
        with (
            UdpEcho(lab, "R", "S", "10.13.96.161", 1) as remote,
            UdpEcho(lab, "R", "S", "fd00:96::161", 2) as remote6,
            UdpEcho(lab, "H1", "S", "10.13.96.161", 1, port=7008) as sibling,
        ):
            changed = 0
            for number in range(1, APPLIES + 1):
                lab.batch("S", hands[number % len(hands)] if number >= 8 else [])
                command.configure(documents[number % len(documents)], str(number % len(documents)))
                result = driver(*command.argv("apply"))
                assert result.code == 0, result
                changed += "Nothing to change" not in result.out
    assert changed == APPLIES
    assert remote.loss.sent > 1000
    assert (remote.loss.lost, remote6.loss.lost, sibling.loss.lost) == (0, 0, 0)


def test_no_packet_is_lost_when_an_apply_heals_what_was_taken(server, lab: Lab):
    """Rules and routes of the other NIC are taken away and come back; this one sees nothing."""
    cloud, command = server(rp_filter=1, container=False, hosts=False)
    command.configure(cloud.stanza())
    with Driver(lab, "S") as driver:
        driver(*command.argv("apply"))
        with UdpEcho(lab, "R", "S", "10.13.96.161", 1) as meter:
            for _round in range(20):
                lab.batch(
                    "S",
                    [
                        "rule del pref 5030 from 162.253.43.134",
                        "rule del pref 5040 oif ens3",
                        "route flush table 500",
                    ],
                )
                assert driver(*command.argv("apply")).code == 0
    assert meter.loss.lost == 0


def _with(document: dict, nic: str, **keys: object) -> dict:
    document["source_routing"]["interfaces"][nic].update(keys)
    return document
