"""Every ping between remote, hosts, container and each own address, in every circumstance.

What comes is put there after the apply, by somebody else, as it happens on a
running server: none of it may need another run of ours.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import lab as lab_package
import pytest
from lab import Cloud, Lab, Ping, pings, route_get
from lab.cloud import bare

pytestmark = pytest.mark.kernel

COARSE = ("10.0.0.0/8 via 10.13.96.1 dev ens4", "fd00::/8 via fd00:96::1 dev ens4")
TUN_PEER = Path(lab_package.__file__).with_name("tun_peer.py")
VPN = ("10.8.0.2/24", "fd08::2/64")
VPN_PEER = ("10.8.0.1", "fd08::1")
PODS = {
    "H1": ("ens3", "162.253.43.77", "172.30.1.1/24", "2001:db8:43::77", "2001:db8:a1::1/64"),
    "H2": ("ens4", "10.13.100.77", "10.244.2.1/24", "fd00:96::77", "fd00:244:2::1/64"),
}


class Later(NamedTuple):
    """What comes later: the pings that it adds, and whether unbound traffic stays as it was."""

    pings: list[Ping]
    unbound_as_before: bool = True


def nothing(_cloud: Cloud) -> Later:
    return Later([])


def a_container_bridge_inside_the_coarse_route(cloud: Cloud) -> Later:
    addresses, inside = ("10.200.0.1/24", "fd00:200::1/64"), ("10.200.0.2/24", "fd00:200::2/64")
    cloud.bridge("br-late", addresses, "C2", inside)
    cloud.settle()
    added = []
    for family, container in ((4, inside[0]), (6, inside[1])):
        for _nic, ip in cloud.addresses(family):
            added += [Ping("C2", ip), Ping("S", bare(container), source=ip)]
        added += [Ping("S", bare(container)), Ping("C2", cloud.container_ip(family))]
    return Later(added)


def routes_of_a_routing_daemon(cloud: Cloud) -> Later:
    """Pods behind each host, as BIRD (12) and other BGP daemons (186) announce them."""
    added = []
    own = {nic.name: nic for nic in cloud.nics}
    for (host, (dev, via4, pod4, via6, pod6)), protocol in zip(PODS.items(), ("bird", "bgp")):
        number = {"bird": "12", "bgp": "186"}[protocol]
        for via, pod, family in ((via4, pod4, 4), (via6, pod6, 6)):
            nodad = " nodad" if family == 6 else ""
            cloud.lab.batch(host, [f"address add {pod} dev lo{nodad}"])
            network = pod.replace("1/", "0/") if family == 4 else pod.replace("::1/", "::/")
            cloud.lab.batch("S", [f"route add {network} via {via} dev {dev} proto {number}"])
            for ip in own[dev].ips(family):
                added += [Ping("S", bare(pod), source=ip), Ping(host, ip, source=bare(pod))]
            added.append(Ping("S", bare(pod)))
    return Later(added)


def _vpn(cloud: Cloud, routes: list[str]) -> Later:
    peer = cloud.lab.popen(
        "S",
        sys.executable,
        str(TUN_PEER),
        "vpn0",
        *VPN_PEER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert peer.stdout.readline().strip() == "ready"
    addresses = [f"address add {VPN[0]} dev vpn0", f"address add {VPN[1]} dev vpn0 nodad"]
    cloud.lab.batch("S", ["link set vpn0 up", *addresses, *routes])
    added = [Ping("S", there) for there in VPN_PEER]
    added += [Ping("S", there, source=bare(own)) for there, own in zip(VPN_PEER, VPN)]
    # Inside the coarse route, and the VPN's own all the same.
    for family, there in zip((4, 6), VPN_PEER):
        assert route_get(cloud.lab, "S", there).dev == "vpn0"
        assert route_get(cloud.lab, "S", cloud.remote_ip(family)).dev == "vpn0", "not a VPN default"
    return Later(added, unbound_as_before=False)


def a_vpn_that_takes_the_default(cloud: Cloud) -> Later:
    lines = ["route add default dev vpn0 metric 1", "-6 route add default dev vpn0 metric 1"]
    return _vpn(cloud, lines)


def a_vpn_with_two_halves(cloud: Cloud) -> Later:
    halves = ("0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1")
    return _vpn(cloud, [f"route add {half} dev vpn0" for half in halves])


LATER: tuple[Callable[[Cloud], Later], ...] = (
    nothing,
    a_container_bridge_inside_the_coarse_route,
    routes_of_a_routing_daemon,
    a_vpn_that_takes_the_default,
    a_vpn_with_two_halves,
)
# A VPN's own default has to win over the server's, so that one has a metric.
DEFAULTS = (
    "default via 162.253.43.1 dev ens3 metric 100",
    "default via 2001:db8:43::1 dev ens3 metric 100",
)


def dead_without_us(lab: Lab, cloud: Cloud) -> None:
    """The negative control: the second NIC does not answer, in neither family."""
    wanted = [Ping("R", ip) for family in (4, 6) for _nic, ip in cloud.addresses(family)]
    lost = pings(lab, wanted)
    assert [one.destination for one in lost] == ["10.13.96.161", "fd00:96::161"]


@pytest.mark.parametrize("rp_filter", [0, 1, 2])
@pytest.mark.parametrize("coarse", [False, True], ids=["plain", "coarse static route"])
@pytest.mark.parametrize("later", LATER, ids=lambda f: f.__name__.replace("_", " "))
def test_every_ping_is_answered(server, lab: Lab, rp_filter: int, coarse: bool, later):
    cloud, command = server(
        rp_filter=rp_filter,
        primary_default=False,
        main_routes=(*DEFAULTS, *(COARSE if coarse else ())),
    )
    dead_without_us(lab, cloud)
    command.ok("apply")
    came = later(cloud)
    wanted = cloud.matrix() + cloud.by_device() + came.pings
    if came.unbound_as_before:
        wanted += cloud.unbound()
    assert [str(one) for one in pings(lab, wanted)] == []


@pytest.mark.parametrize("rp_filter", [0, 1, 2])
def test_everything_at_once_before_and_after_another_apply(server, lab: Lab, rp_filter: int):
    cloud, command = server(
        rp_filter=rp_filter, primary_default=False, main_routes=(*DEFAULTS, *COARSE)
    )
    dead_without_us(lab, cloud)
    command.ok("apply")
    wanted = cloud.matrix() + cloud.by_device()
    for later in LATER:
        if later is not a_vpn_that_takes_the_default:
            wanted += later(cloud).pings
    assert [str(one) for one in pings(lab, wanted)] == []
    command.ok("apply")
    assert [str(one) for one in pings(lab, wanted)] == []
    command.ok("check")


def test_pods_of_the_own_nic_inside_a_siblings_coarse_route_answer_after_an_apply(server, lab: Lab):
    """ens4's 10.0.0.0/8 holds pods that a daemon reaches by ens3: a throw lets main decide."""
    cloud, command = server(rp_filter=1, main_routes=COARSE)
    lab.batch("H1", ["address add 10.99.1.1/24 dev lo", "address add fd00:99::1/64 dev lo nodad"])
    lab.batch(
        "S",
        [
            "route add 10.99.1.0/24 via 162.253.43.77 dev ens3 proto 12",
            "route add fd00:99::/64 via 2001:db8:43::77 dev ens3 proto 12",
        ],
    )
    command.ok("apply")
    wanted = [
        Ping("S", "10.99.1.1", source="162.253.43.134"),
        Ping("H1", "162.253.43.134", source="10.99.1.1"),
        Ping("S", "fd00:99::1", source="2001:db8:43::134"),
        Ping("H1", "2001:db8:43::134", source="fd00:99::1"),
        Ping("S", "10.99.1.1"),
        Ping("S", "fd00:99::1"),
    ]
    assert pings(lab, wanted + cloud.matrix()) == []


def test_one_family_alone_is_served_when_asked_for(server, lab: Lab):
    cloud, command = server(stanza={"families": ["ipv4"]}, rp_filter=1)
    command.ok("apply")
    assert pings(lab, cloud.matrix([4])) == []
    assert pings(lab, [Ping("R", "fd00:96::161")])
    assert "lookup 50" not in lab.ip("S", "-6", "rule")
