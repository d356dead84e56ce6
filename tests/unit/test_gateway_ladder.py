"""Which evidence of a gateway wins, and when each must not answer: what lives goes first."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from cc_source_routing.model import (
    PROTO_STATIC,
    HostState,
    Lease,
    Link,
    Metadata,
    MetadataPort,
    MetadataRoute,
    Previous,
    PreviousGateway,
    Rule,
    Stanza,
)
from cc_source_routing.plan.build import build_plan
from cc_source_routing.plan.host_index import HostIndex

from .hosts import host, mac_of, route

FIRST = route("default via 10.0.0.1", "ens3")
BARE = host({"ens3": ["10.0.0.5/24"], "ens4": ["10.1.0.5/24"]}, [FIRST])
ANYWHERE = ip_network("0.0.0.0/0")


LOCAL = Rule(4, 0, 255)


def port(gateway: str = "", address: str = "10.1.0.5/24", **fields: object) -> MetadataPort:
    routes = (MetadataRoute(ANYWHERE, ip_address(gateway)),) if gateway else ()
    fields = {"mac": mac_of(3), "source": "network_data.json", "complete": True, **fields}
    return MetadataPort(addresses=(ip_interface(address),), routes=routes, **fields)  # type: ignore[arg-type]


def lease(address: str = "10.1.0.5/24", *routers: str, **fields: object) -> Lease:
    told = tuple(ip_address(router) for router in routers)
    return Lease("ens4", 4, ip_interface(address), told, client="dhclient", **fields)  # type: ignore[arg-type]


def gateway(state: HostState, nic: str = "ens4"):
    planned = build_plan(Stanza(), state).nic(nic)
    found = planned and planned.gateway(4)
    return found and (str(found.ip), found.source)


def knowing(state: HostState, *ports: MetadataPort, **fields: object) -> HostState:
    return replace(state, metadata=Metadata(ports), **fields)  # type: ignore[arg-type]


def with_main(*routes) -> HostState:
    return replace(BARE, routes=(*BARE.routes, *routes))


def test_mains_live_default_beats_what_the_cloud_says():
    """Somebody has changed the gateway by hand, or an image configures its network itself."""
    live = with_main(route("default via 10.1.0.254", "ens4", metric=100))
    assert gateway(knowing(live, port("10.1.0.1"))) == ("10.1.0.254", "default route")


def test_somebodys_own_policy_beats_main():
    state = with_main(
        route("default via 10.1.0.254", "ens4", metric=100),
        route("default via 10.1.0.9", "ens4")._replace(table=77),
    )
    rule = Rule(4, 9000, 77, src=ip_network("10.1.0.0/24"))
    assert gateway(replace(state, rules=(LOCAL, rule))) == ("10.1.0.9", "policy")


@pytest.mark.parametrize(
    "rule",
    [
        Rule(4, 9000, 77, src=ip_network("10.9.0.0/24")),
        Rule(4, 9000, 77),
        Rule(4, 9000, 77, src=ip_network("10.1.0.5/32"), fwmark=1, fwmask=1),
        Rule(4, 9000, 77, src=ip_network("10.1.0.5/32"), other=(("invert", "1"),)),
        Rule(4, 9000, 78, src=ip_network("10.1.0.5/32")),
    ],
)
def test_but_not_one_that_is_about_something_else(rule):
    state = with_main(route("default via 10.1.0.9", "ens4")._replace(table=77))
    state = replace(state, rules=(LOCAL, rule), probes={("ens4", ip_address("10.1.0.1")): True})
    assert gateway(state) == ("10.1.0.1", "guess")


def test_a_lease_beats_the_metadata():
    assert gateway(knowing(BARE, port("10.1.0.1"), leases=(lease("10.1.0.5/24", "10.1.0.2"),))) == (
        "10.1.0.2",
        "lease",
    )


def test_a_lease_for_an_address_that_the_nic_does_not_have_counts_for_nothing():
    """It came with an image or a snapshot."""
    old = lease("172.31.9.9/20", "172.31.0.1", former=(ip_address("10.1.0.254"),))
    assert gateway(replace(BARE, leases=(old,))) is None
    answers = {("ens4", ip_address("10.1.0.1")): True}
    assert gateway(replace(BARE, leases=(old,), probes=answers)) == ("10.1.0.1", "guess")
    live = with_main(route("default via 10.1.0.254", "ens4", metric=100))
    assert gateway(replace(live, leases=(old,))) == ("10.1.0.254", "default route")


def test_a_lease_without_a_router_says_that_there_is_none():
    """Of an isolated network: its first address is another server's."""
    answers = {("ens4", ip_address("10.1.0.1")): True}
    assert gateway(replace(BARE, leases=(lease(),), probes=answers)) is None


def test_metadata_of_another_address_counts_for_nothing():
    answers = {("ens4", ip_address("10.1.0.1")): True}
    moved = knowing(BARE, port("10.1.0.9", address="10.1.0.77/24"), probes=answers)
    assert gateway(moved) == ("10.1.0.1", "guess")


def test_static_metadata_without_a_gateway_says_that_there_is_none():
    answers = {("ens4", ip_address("10.1.0.1")): True}
    assert gateway(knowing(BARE, port(), probes=answers)) is None


def test_a_network_config_that_merely_names_none_does_not():
    """Oracle's secondary VNICs."""
    answers = {("ens4", ip_address("10.1.0.1")): True}
    config = port(complete=False, source="cloud-init network config v1")
    assert gateway(knowing(BARE, config, probes=answers)) == ("10.1.0.1", "guess")


def test_the_next_hop_of_a_route_that_covers_the_nics_own_network_is_its_gateway():
    state = with_main(route("10.0.0.0/8 via 10.1.0.254", "ens4"))
    answers = {("ens4", ip_address("10.1.0.1")): True}
    assert gateway(replace(state, probes=answers)) == ("10.1.0.254", "only gateway")


def test_that_of_somebodys_pods_loses_against_a_first_address_that_answers():
    """flannel's one other node, or a router of a site behind this network."""
    state = with_main(route("10.244.1.0/24 via 10.1.0.50", "ens4"))
    answers = {("ens4", ip_address("10.1.0.1")): True}
    assert gateway(replace(state, probes=answers)) == ("10.1.0.1", "guess")
    alone = build_plan(Stanza(), state).nic("ens4").gateway(4)
    assert (str(alone.ip), alone.reported) == ("10.1.0.50", False)
    # Nor does an earlier run make more of it.
    earlier = Previous(gateways={("ens4", 4): PreviousGateway(alone.source, alone.ip, mac_of(3))})
    again = build_plan(Stanza(), replace(state, previous=earlier)).nic("ens4").gateway(4)
    assert (str(again.ip), again.reported) == ("10.1.0.50", False)


@pytest.mark.parametrize("kind", ["unreachable", "blackhole", "prohibit"])
def test_where_mains_best_default_is_an_error_the_family_is_left_alone(kind):
    """Suppressors act on results, not on errors: each of our rules would end there."""
    error = route("default", metric=5)._replace(type=kind)
    state = with_main(route("default via 10.1.0.1", "ens4", metric=100), error)
    best = replace(state, routes=tuple(r for r in state.routes if r != FIRST))
    plan = build_plan(Stanza(), best)
    assert plan.nics == ()
    assert any(f"({kind} default metric 5)" in warning for warning in plan.warnings)
    assert len(build_plan(Stanza(), state).nics) == 2, "it is not the best one"


# -- a port is a link -------------------------------------------------------------------


def sharing_a_mac(kind: str = "vlan") -> HostState:
    """ens4, and a VLAN on it with the same MAC."""
    vlan = Link(9, "ens4.5", mac_of(3), kind=kind)
    state = host({"ens3": ["10.0.0.5/24"], "ens4": ["10.1.0.5/24"]}, [FIRST], [vlan])
    own = state.addresses[0]._replace(dev="ens4.5", interface=ip_interface("10.5.0.5/24"))
    return replace(state, addresses=(*state.addresses, own))


def test_of_ports_with_one_mac_the_one_with_the_links_address_is_its_own():
    state = knowing(sharing_a_mac(), port("10.1.0.1"), port("10.5.0.1", "10.5.0.5/24", vlan=True))
    assert gateway(state, "ens4") == ("10.1.0.1", "metadata")
    assert gateway(state, "ens4.5") == ("10.5.0.1", "metadata")


def test_a_vlan_that_the_cloud_does_not_list_has_nothing_of_its_parents_port():
    dhcp = MetadataPort(mac_of(3), routes=(MetadataRoute(ANYWHERE, ip_address("10.1.0.1")),))
    index = HostIndex(knowing(sharing_a_mac(), dhcp))
    assert index.port(index.links["ens4"]) == dhcp
    assert index.port(index.links["ens4.5"]) is None


def test_a_veth_beside_real_nics_is_none_on_a_guess():
    """A container's end has the first address of its subnet."""
    veth = Link(9, "veth1", mac_of(9), kind="veth")
    state = host({"ens3": ["10.0.0.5/24"]}, [FIRST], [veth])
    own = state.addresses[0]._replace(dev="veth1", interface=ip_interface("10.9.0.2/24"))
    answers = {("veth1", ip_address("10.9.0.1")): True}
    state = replace(state, addresses=(*state.addresses, own), probes=answers)
    assert build_plan(Stanza(), state).nics == ()
    default = route("default via 10.9.0.1", "veth1", PROTO_STATIC, metric=500)
    assert gateway(replace(state, routes=(*state.routes, default)), "veth1") is not None


def test_where_all_links_are_veths_they_are_nics():
    state = host({"ens3": ["10.0.0.5/24"], "ens4": ["10.1.0.5/24"]}, [FIRST])
    links = tuple(link if link.loopback else link._replace(kind="veth") for link in state.links)
    answers = {("ens4", ip_address("10.1.0.1")): True}
    assert gateway(replace(state, links=links, probes=answers)) == ("10.1.0.1", "guess")
