"""The lab shows the fault when there is one; otherwise no green test here means anything."""

from __future__ import annotations

import pytest
from lab import Cloud, Lab, UdpEcho, pings, seed_nics, snapshot
from lab.netns import NETNS_DIRECTORY
from lab.probes import ping

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("rp_filter", [0, 1, 2])
def test_without_us_the_second_nic_is_dead_and_the_first_well(lab: Lab, rp_filter: int):
    cloud = Cloud(lab, seed_nics(), rp_filter=rp_filter).build()
    lost = {str(one) for one in pings(lab, cloud.matrix())}
    assert {"R -> 10.13.96.161", "R -> fd00:96::161"} <= lost
    assert not {"R -> 162.253.43.134", "R -> 2001:db8:43::134"} & lost
    assert pings(lab, cloud.unbound()) == []


def test_without_port_security_and_rp_filter_nothing_is_lost(lab: Lab):
    cloud = Cloud(lab, seed_nics(), rp_filter=0, anti_spoofing=False).build()
    assert pings(lab, cloud.matrix()) == []


def test_strict_rp_filter_alone_kills_ipv4_and_leaves_ipv6(lab: Lab):
    cloud = Cloud(lab, seed_nics(), rp_filter=1, anti_spoofing=False).build()
    lost = {str(one) for one in pings(lab, cloud.matrix())}
    assert "R -> 10.13.96.161" in lost
    assert not any(":" in one.replace(" -> ", "") for one in lost)


def test_the_meter_counts_what_is_lost_and_nothing_else(lab: Lab):
    Cloud(lab, seed_nics(), container=False, hosts=False).build()
    with UdpEcho(lab, "R", "S", "162.253.43.134", 1) as meter:
        lab.run("S", "sleep", "1")
    assert meter.loss.sent > 100
    assert meter.loss.lost == 0
    with UdpEcho(lab, "R", "S", "162.253.43.134", 1) as meter:
        lab.run("S", "sleep", "0.2")
        lab.ip("S", "route", "del", "default")
        lab.run("S", "sleep", "0.6")
        lab.ip("S", "route", "add", "default", "via", "162.253.43.1")
        lab.run("S", "sleep", "0.2")
    assert 50 < meter.loss.lost < meter.loss.sent
    assert meter.loss.longest_gap_ms > 150


@pytest.mark.parametrize(
    "change",
    [
        "rule add from 192.0.2.1 lookup 999",
        "-6 rule add from 2001:db8::1 lookup 999",
        "route add 192.0.2.0/24 via 162.253.43.1 table 999",
        "route add 2001:db8:1::/48 via 2001:db8:43::1 table 999",
        "route replace default via 162.253.43.1 proto static",
        "link set ens4 group 7",
        "address add 10.13.96.162/19 dev ens4",
    ],
)
def test_a_snapshot_sees_every_change_and_that_it_is_undone(lab: Lab, change: str):
    Cloud(lab, seed_nics(), container=False, hosts=False).build()
    before = snapshot(lab, "S")
    assert before.difference(snapshot(lab, "S")) == ""
    lab.ip("S", *change.split())
    assert before.difference(snapshot(lab, "S")) != ""


def test_a_snapshot_sees_sysctls_and_nftables(lab: Lab):
    Cloud(lab, seed_nics(), container=False, hosts=False).build()
    before = snapshot(lab, "S")
    lab.sysctl("S", {"net/ipv4/conf/ens4/rp_filter": 2})
    assert "ens4/rp_filter" in before.difference(snapshot(lab, "S"))
    before = snapshot(lab, "S")
    lab.nft("S", "table inet other {\n}\n")
    assert "table inet other" in before.difference(snapshot(lab, "S"))


def test_nothing_is_left_when_a_test_dies_in_the_middle():
    names = []
    with pytest.raises(RuntimeError), Lab() as lab:
        Cloud(lab, seed_nics()).build()
        names = [path.name for path in NETNS_DIRECTORY.glob(f"{lab.prefix}-*")]
        lab.popen("S", "sleep", "600")
        raise RuntimeError
    assert len(names) == 6
    assert not [name for name in names if (NETNS_DIRECTORY / name).exists()]


def test_hosts_and_container_reach_each_other_as_in_any_cloud(lab: Lab):
    cloud = Cloud(lab, seed_nics()).build()
    for family in (4, 6):
        hosts = cloud.host_ips(family)
        assert ping(lab, "R", hosts["H1"])
        assert ping(lab, "H1", hosts["H2"])
        assert ping(lab, "C", cloud.remote_ip(family))
