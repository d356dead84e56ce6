"""Every pyroute2 that a served distribution ships, and PyPI's newest, does the same."""

from __future__ import annotations

import sys

import pytest
from lab import Ping, pings, snapshot
from lab.command import REPOSITORY
from releases import cached

pytestmark = pytest.mark.kernel

# jammy and EL9, the last 0.6, bookworm, trixie, sid, PyPI.
VERSIONS = ("0.5.14", "0.6.13", "0.7.2", "0.7.7", "0.8.1", "0.9.7")


@pytest.mark.parametrize("version", VERSIONS)
def test_apply_check_and_remove_with(version, lab, server):
    cloud, command = server(rp_filter=1)
    before = snapshot(lab, "S")
    environment = {"PYTHONPATH": f"{cached('pyroute2', version)}:{REPOSITORY}"}

    def run(*argv: str) -> str:
        program = (
            "import pyroute2, sys; from cc_source_routing.cli.main import main; sys.exit(main())"
        )
        done = lab.run(
            "S", sys.executable, "-c", program, *command.argv(*argv), env=environment, timeout=60
        )
        return done.stdout

    assert " changes; ens3 by 162.253.43.1 " in run("apply")
    assert "Nothing to change" in run("apply")
    run("check")
    wanted = [Ping("R", ip) for family in (4, 6) for _nic, ip in cloud.addresses(family)]
    assert pings(lab, wanted) == []
    run("remove")
    assert before.difference(snapshot(lab, "S")) == ""


ODD = """
ip link set lo up
ip link add d0 type veth peer name d1
ip link set d1 up
ip link set d0 up
ip link set d1 name "$(printf 'a\\377b')"
ip address add 10.0.0.2/24 dev d0
ip address add 10.0.9.2 peer 10.0.9.1 dev d0
ip route add 10.50.0.0/16 nexthop via 10.0.0.1 dev d0 onlink nexthop via 10.0.0.3 dev d0
ip route add 10.51.0.0/16 via inet6 fe80::9 dev d0
ip route add throw 10.52.0.0/16 table 70000
ip nexthop add id 7 via 10.0.0.1 dev d0
ip route add 10.53.0.0/16 nhid 7
ip route add 10.54.0.0/16 via 10.0.0.1 tos 4
ip route add 10.60.0.0/16 via 10.0.0.1 proto bird
ip route add 10.0.0.128/25 via 10.0.0.1 proto bird
ip route add 10.61.0.0/16 via 10.0.0.1 table 70000 proto bird
ip rule add from 10.0.0.2 uidrange 5-9 lookup 100 priority 100
ip rule add from 10.0.0.2 tun_id 5 lookup 100 priority 101
ip rule add not fwmark 0x1/0xff lookup 100 priority 102
ip neighbour add 10.0.0.7 lladdr 02:00:00:00:00:07 dev d0
"""

READ = """
import select, subprocess
from ipaddress import ip_address
from cc_source_routing.kernel.listen import Listener
from cc_source_routing.kernel.netlink import Kernel

def say(*words):
    print(*words, sep=" | ")

with Kernel() as kernel:
    for link in kernel.links():
        say("link", link.name, link.kind, link.up)
    for one in kernel.addresses():
        if one.family == 4 and one.dev == "d0":
            say("address", one.interface, one.peer)
    for one in kernel.routes():
        if one.family == 4 and one.protocol == 3:
            say("route", one.table, one.dst, one.type, one.gateway, one.onlink)
    for one in kernel.needed_routes(kernel.addresses(), ()):
        if one.protocol == 12 or one.table > 255:
            say("needed", one.table, one.dst)
    for one in kernel.rules():
        if one.family == 4 and 0 < one.priority < 1000:
            say("rule", one.priority, one.src, one.fwmark, one.other)
    for one in kernel.neighbours():
        if one.ip.version == 4:
            say("neighbour", one.dev, one.ip, one.reachable)
    for far in ("10.51.0.1", "10.53.0.1", "192.0.2.1"):
        say("lookup", *(kernel.lookup(ip_address(far)) or ["none"]))
    with Listener() as listener:
        listener.know(kernel.links())
        subprocess.run(["ip", "rule", "del", "priority", "100"], check=True)
        subprocess.run(["ip", "address", "del", "10.0.0.2/24", "dev", "d0"], check=True)
        assert select.select([listener], [], [], 60)[0]
        for change in listener.read().changes:
            if type(change.thing).__name__ in ("Rule", "Address"):
                say("gone" if change.gone else "there", *change.thing[:3])
        assert listener.read().changes == []
"""

AS_READ = """\
link | lo |  | True
link | a\\xffb | veth | True
link | d0 | veth | True
address | 10.0.0.2/24 | None
address | 10.0.9.2/32 | 10.0.9.1/32
route | 254 | 10.50.0.0/16 | unicast | 10.0.0.1 | True
route | 254 | 10.50.0.0/16 | unicast | 10.0.0.3 | False
route | 254 | 10.51.0.0/16 | unicast | fe80::9 | False
route | 254 | 10.53.0.0/16 | unicast | 10.0.0.1 | False
route | 70000 | 10.52.0.0/16 | throw | None | False
needed | 70000 | 10.52.0.0/16
needed | 254 | 10.0.0.128/25
rule | 100 | 10.0.0.2/32 | 0 | (('FRA_UID_RANGE', '5:9'),)
rule | 101 | 10.0.0.2/32 | 0 | (('FRA_TUN_ID', '5'),)
rule | 102 | None | 1 | (('invert', '1'),)
neighbour | d0 | 10.0.0.7 | True
lookup | d0 | fe80::9 | 254 | 10.51.0.0/16 | unicast
lookup | d0 | 10.0.0.1 | 254 | 10.53.0.0/16 | unicast
lookup | none
gone | 4 | 100 | 100
gone | d0 | 10.0.0.2/24 | 0
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_odd_is_read_the_same_with(version, lab):
    """Hops, next hops of the other family, rules of others, announcements; and no warning."""
    lab.add("S")
    lab.run("S", "sh", "-e", stdin=ODD)
    environment = {"PYTHONPATH": f"{cached('pyroute2', version)}:{REPOSITORY}"}
    warned = ("-X", "dev", "-W", "ignore::DeprecationWarning")  # of pyroute2 0.5 itself
    done = lab.run("S", sys.executable, *warned, "-c", READ, env=environment, timeout=60)
    assert (done.stdout, done.stderr) == (AS_READ, "")
