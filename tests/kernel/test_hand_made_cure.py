"""A server whose operator has routed by source by hand: nothing is shared, all is told."""

from __future__ import annotations

import pytest
from lab import Lab, pings, snapshot
from lab.command import SourceRouting

pytestmark = pytest.mark.kernel

SCRIPT = "/opt/if-post-up-source-route"
# What such scripts do at each ifup: a table of the NIC's name, and a rule for its subnet.
BODY = """\
#!/bin/sh -e
ip route flush table "$IFACE" 2>/dev/null || true
ip route add 10.13.96.0/19 dev "$IFACE" proto kernel scope link table "$IFACE"
ip route add default via 10.13.96.1 dev "$IFACE" table "$IFACE"
ip rule del lookup "$IFACE" 2>/dev/null || true
ip rule add from 10.13.96.0/19 lookup "$IFACE"
"""
INTERFACES = """\
auto ens4
iface ens4 inet dhcp
    post-up /opt/if-post-up-source-route
"""


def by_hand(command: SourceRouting, number: int = 500) -> None:
    """The files that an operator has written."""
    names = command.root / "etc/iproute2/rt_tables"
    names.write_text((names.read_text() if names.exists() else "") + f"{number} ens4\n")
    script = command.root / SCRIPT.lstrip("/")
    script.parent.mkdir(exist_ok=True)
    script.write_text(BODY)
    script.chmod(0o755)
    interfaces = command.root / "etc/network/interfaces"
    interfaces.parent.mkdir()
    interfaces.write_text(INTERFACES)


def ifup(command: SourceRouting) -> None:
    """What ifup runs, by the root's names of tables."""
    names, script = command.root / "etc/iproute2", command.root / SCRIPT.lstrip("/")
    command.lab.run(
        command.netns,
        *("unshare", "--mount", "sh", "-c"),
        f'mount --bind "{names}" /etc/iproute2 && IFACE=ens4 exec sh -e "{script}"',
    )


@pytest.mark.parametrize("order", ["by hand, ours", "ours, by hand, ours"])
def test_whoever_runs_last_every_address_answers_and_nothing_is_shared(
    server, lab: Lab, order: str
):
    cloud, command = server()
    if order.startswith("ours"):
        command.ok("apply")
    by_hand(command)
    ifup(command)
    theirs = snapshot(lab, "S") if order.startswith("by") else None
    command.ok("apply")
    dead = pings(lab, cloud.matrix())
    assert dead == [] or theirs is None
    tables = {nic["table"] for nic in command.run("status", "--json").json["interfaces"].values()}
    assert len(tables) == 2 and 500 not in tables
    listed = command.ip_with_names("route", "list", "table", "ens4")
    assert "source-routing" not in listed and "default via 10.13.96.1" in listed
    assert "source-routing-ens4" in command.ip_with_names("rule")
    command.configure(None)
    command.ok("remove")
    assert lab.ip("S", "route", "show", "table", "500").count("dev ens4") == 2
    assert lab.ip("S", "rule").count("from 10.13.96.0/19 lookup 500") == 1
    # Where its rule is the first, no container reaches the second address, as by hand alone.
    assert set(dead) <= set(pings(lab, cloud.matrix()))
    if theirs is not None:
        assert theirs.difference(snapshot(lab, "S")) == ""


def test_where_its_rule_comes_before_ours_a_check_names_it(server, lab: Lab):
    """The kernel gives a rule without a priority the place before the first one."""
    cloud, command = server()
    by_hand(command)
    command.ok("apply")
    ifup(command)
    told = command.run("check")
    assert "4999" in lab.ip("S", "rule")
    assert "a rule that is not ours" in told.out + told.err
    assert "from 10.13.96.0/19 lookup 500" in told.out + told.err
    lab.batch("S", ["rule del from 10.13.96.0/19 lookup 500"])
    command.ok("check")
    assert pings(lab, cloud.matrix()) == []


def test_status_and_check_say_what_is_left_and_what_to_do_with_it(server):
    _cloud, command = server()
    by_hand(command)
    ifup(command)
    command.ok("apply")
    told = command.ok("status")
    assert "/etc/iproute2/rt_tables names table 500 ens4" in told
    assert f"/etc/network/interfaces runs {SCRIPT}, which adds rules of its own" in told
    assert "from 10.13.96.0/19 lookup 500" in told
    result = command.run("check")
    assert result.code == 0
    assert f"warning: /etc/network/interfaces runs {SCRIPT}" in result.err
    assert len(command.run("status", "--json").json["by_hand"]) == 3


def test_once_it_is_taken_away_nothing_is_said(server, lab: Lab):
    _cloud, command = server()
    by_hand(command)
    ifup(command)
    command.ok("apply")
    (command.root / "etc/iproute2/rt_tables").unlink()
    (command.root / "etc/network/interfaces").write_text("auto ens4\niface ens4 inet dhcp\n")
    lab.batch("S", ["rule del from 10.13.96.0/19 lookup 500", "route flush table 500"])
    command.ok("apply")
    assert command.run("check").err == ""
    assert "By hand" not in command.ok("status")
    assert command.ip_with_names("route", "list", "table", "ens4").count("source-routing") > 1
