"""From the rule layout of 0.1.0, which had two rules for all NICs together, to today's."""

from __future__ import annotations

import pytest
from lab import Lab, UdpEcho, pings, snapshot

pytestmark = pytest.mark.kernel

GROUP = 21330
FILES = ("etc/iproute2/rt_tables.d/source-routing.conf", "etc/source-routing/stanza.json")
TABLES = {
    "ens3": (500, "162.253.43.134", "162.253.43.1", "162.253.43.0/24"),
    "ens4": (501, "10.13.96.161", "10.13.96.1", "10.13.96.0/19"),
}


def old_layout(lab: Lab, protocol: str) -> None:
    """What 0.1.0 left in the kernel for IPv4; networkd made the rules its own (``static``)."""
    lines = [f"link set {nic} group {GROUP}" for nic in TABLES]
    for nic, (table, _address, gateway, own) in TABLES.items():
        lines.append(f"route add {own} dev {nic} table {table} proto 83 scope link")
        lines.append(f"route add default via {gateway} dev {nic} table {table} proto 83")
        for other, (_table, _address, _gateway, prefix) in TABLES.items():
            if other != nic:
                lines.append(f"route add {prefix} via {gateway} dev {nic} table {table} proto 83")
    main = "lookup main suppress_prefixlength 1"
    lines.append(f"rule add pref 5000 {main} suppress_ifgroup {GROUP} protocol {protocol}")
    for nic, (table, address, _gateway, _own) in TABLES.items():
        for rule in (
            f"pref 5010 from {address} lookup {table} suppress_prefixlength 1",
            f"pref 5030 from {address} lookup {table}",
            f"pref 5040 oif {nic} lookup {table}",
        ):
            lines.append(f"rule add {rule} protocol {protocol}")
    lines.append(f"rule add pref 5020 {main} protocol {protocol}")
    lab.batch("S", lines)


@pytest.fixture(params=["83", "static"], ids=["our protocol", "networkd's"])
def upgraded(request: pytest.FixtureRequest, server, lab: Lab):
    """The server as 0.1.0 has left it, and how it was before that."""
    cloud, command = server()
    before = snapshot(lab, "S")
    command.configure(cloud.stanza(families=["ipv4"]))
    command.ok("apply")
    # Its files tell the tables' numbers and the priority, as today's do.
    kept = {path: (command.root / path).read_bytes() for path in FILES}
    command.ok("remove")
    for path, content in kept.items():
        (command.root / path).parent.mkdir(parents=True, exist_ok=True)
        (command.root / path).write_bytes(content)
    old_layout(lab, request.param)
    return cloud, command, before


def test_it_gets_the_new_one_without_losing_a_packet(upgraded, lab: Lab):
    cloud, command, _before = upgraded
    with UdpEcho(lab, "R", "S", "10.13.96.161", 1) as second:
        with UdpEcho(lab, "R", "S", "162.253.43.134", 1) as first:
            command.ok("apply")
    assert (first.loss.lost, second.loss.lost) == (0, 0)
    rules = lab.ip("S", "-N", "rule")
    assert "from all lookup 254 suppress" not in rules, rules
    assert pings(lab, [ping for ping in cloud.matrix() if ":" not in ping.destination]) == []
    command.ok("check")


def test_remove_knows_it_too(upgraded, lab: Lab):
    _cloud, command, before = upgraded
    command.ok("remove")
    assert before.difference(snapshot(lab, "S")) == ""
