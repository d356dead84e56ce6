"""Defaults that a DHCP client's script left in main when a renewal told another gateway."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest

from cc_source_routing.host.leases.read import read_leases
from cc_source_routing.model import PROTO_DHCP, HostState, Lease, Link, Stanza
from cc_source_routing.plan.build import build_plan

from .hosts import host, route

OLD, NEW = ip_address("162.253.43.1"), ip_address("162.253.43.2")
NICS = {"ens3": ["162.253.43.134/24"], "ens4": ["10.13.96.161/19"]}
LEFT = route("default via 162.253.43.1", "ens3")
LEASE = Lease(
    "ens3",
    4,
    ip_interface("162.253.43.134/24"),
    (NEW,),
    client="dhclient",
    path="/run/source-routing/dhclient.ens3.leases",
    former=(OLD,),
)
SIBLING = route("10.0.0.0/8 via 10.13.96.1", "ens4")

LEASES = """lease {
  interface "ens3";
  fixed-address 162.253.43.134;
  option subnet-mask 255.255.255.0;
  option routers 162.253.43.1;
  expire 6 2026/11/21 10:00:00;
}
lease {
  interface "ens3";
  fixed-address 162.253.43.134;
  option subnet-mask 255.255.255.0;
  %s;
  expire never;
}
"""


def state_of(*routes, lease: Lease = LEASE) -> HostState:
    return host(NICS, [*routes, SIBLING], leases=(lease,))


def gateway_of(state: HostState):
    return build_plan(Stanza(), state).nic("ens3").gateway(4)


def test_the_lease_counts_and_says_why_main_does_not():
    gateway = gateway_of(state_of(LEFT))
    assert (gateway.ip, gateway.source) == (NEW, "lease")
    assert "main's default via 162.253.43.1 is of one before it" in gateway.reason


@pytest.mark.parametrize(
    "state",
    [
        state_of(LEFT._replace(protocol=PROTO_DHCP)),
        state_of(LEFT, lease=Lease("ens3", 4, former=(OLD,), client="dhclient")),
        state_of(route("default via 162.253.43.9", "ens3")),
        state_of(LEFT, route("default via 162.253.43.9", "ens3", metric=50)),
    ],
    ids=["set by another", "the lease has no gateway", "no lease told it", "there is one more"],
)
def test_otherwise_main_decides(state):
    gateway = gateway_of(state)
    assert gateway.source == "default route" and gateway.ip != NEW


@pytest.mark.parametrize(
    ("option", "former"),
    [
        ("option routers 162.253.43.2", (OLD,)),
        ("option routers 162.253.43.2,162.253.43.1", ()),
        ("option rfc3442-classless-static-routes 0,162,253,43,2", (OLD,)),
        ("option rfc3442-classless-static-routes 0,162,253,43,1", ()),
    ],
)
def test_gateways_of_leases_before_are_known_though_those_are_over(tmp_path: Path, option, former):
    place = tmp_path / "var/lib/dhcp/dhclient.ens3.leases"
    place.parent.mkdir(parents=True)
    place.write_text(LEASES % option)
    (lease,) = read_leases(tmp_path, [Link(2, "ens3")], 1.8e9).leases
    assert lease.former == former
