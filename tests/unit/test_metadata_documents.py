"""network_data.json and cloud-init's network config as ports, also when they are odd."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_source_routing.host.metadata.ports import MAX_PORTS, MAX_WARNINGS
from cc_source_routing.host.metadata.read import parse_network_config, parse_network_data
from cc_source_routing.model import Metadata, MetadataRoute
from cc_source_routing.text.addresses import (
    interface,
    interface_name,
    mac_address,
    network,
    prefix_length,
)

DATA = Path(__file__).parent / "data" / "metadata"


def load(name: str):
    return json.loads((DATA / name).read_text())


def routes(port) -> dict:
    return {str(route.to): str(route.via) for route in port.routes}


def addresses(port) -> list:
    return [str(address) for address in port.addresses]


def only(metadata: Metadata):
    (port,) = metadata.ports
    return port


MAC = "fa:16:3e:2b:e7:89"
INFINIBAND = "80:00:00:48:fe:80" + ":00" * 14


def one_network(**net) -> Metadata:
    link = {"id": "tap1", "type": "ovs", "ethernet_mac_address": MAC}
    return parse_network_data({"links": [link], "networks": [{"link": "tap1", **net}]})


# -- network_data.json -----------------------------------------------------------


def test_static_subnets_list_a_default_for_every_port():
    told = parse_network_data(load("network_data/two-static.json"))
    assert told.warnings == ()
    first, second = told.ports
    assert first.mac == "fa:16:3e:fc:45:9d"
    assert first.name == ""  # the id is a tap device of the hypervisor
    assert addresses(first) == ["162.253.43.134/24", "2001:db8:43::134/64"]
    assert routes(first) == {
        "0.0.0.0/0": "162.253.43.1",
        "169.254.169.254/32": "162.253.43.1",
        "::/0": "2001:db8:43::1",
    }
    assert second.mac == "fa:16:3e:2b:e7:89"
    assert addresses(second) == ["10.13.96.161/19"]
    assert routes(second) == {"0.0.0.0/0": "10.13.96.1", "10.0.0.0/8": "10.13.96.1"}


def test_dhcp_subnets_list_the_port_and_no_more():
    told = parse_network_data(load("network_data/two-dhcp.json"))
    assert told.warnings == ()
    first, second = told.ports
    assert (first.addresses, first.routes) == ((), ())
    assert addresses(second) == ["2001:db8:96:0:f816:3eff:fe2b:e789/64"]
    assert routes(second) == {"::/0": "fe80::1"}


def test_a_bond_is_a_port_and_its_slaves_are_none_and_vlans_have_a_mac_of_their_own():
    told = parse_network_data(load("network_data/bond-and-vlans.json"))
    assert told.warnings == ()
    assert [port.mac[-2:] for port in told.ports] == ["80", "81", "82"]
    _, vlan4, vlan6 = told.ports
    assert addresses(vlan4) == ["10.184.0.244/20"]
    assert routes(vlan4) == {"10.0.0.0/8": "11.0.0.1", "0.0.0.0/0": "10.184.0.1"}
    assert addresses(vlan6) == ["2001:cdba::3257:9652/24"]
    assert routes(vlan6) == {"fd00::/48": "2001:cdba::2", "::/0": "2001:cdba::1"}


def test_a_vlan_with_the_mac_of_its_parent_is_a_port_of_its_own():
    told = parse_network_data(
        {
            "links": [
                {"id": "a", "type": "phy", "ethernet_mac_address": MAC.upper()},
                {"id": "b", "type": "vlan", "vlan_mac_address": MAC, "vlan_id": 5},
            ],
            "networks": [
                {"link": "a", "type": "ipv4", "ip_address": "10.0.0.2", "netmask": "255.0.0.0"},
                {"link": "b", "type": "ipv4", "ip_address": "10.1.0.2", "netmask": 24},
            ],
        }
    )
    assert [(addresses(port), port.vlan) for port in told.ports] == [
        (["10.0.0.2/8"], False),
        (["10.1.0.2/24"], True),
    ]


def test_a_gateway_key_is_a_default_route():
    told = one_network(type="ipv4", ip_address="10.0.0.2", netmask="24", gateway="10.0.0.1")
    assert routes(only(told)) == {"0.0.0.0/0": "10.0.0.1"}


@pytest.mark.parametrize("gateway", [None, "", "0.0.0.0", "::"])
def test_no_gateway_is_told_in_several_ways(gateway):
    route = {"network": "10.0.0.0", "netmask": "255.0.0.0", "gateway": gateway}
    told = one_network(ip_address="10.0.0.2", netmask="24", gateway=gateway, routes=[route])
    assert only(told).routes == ()
    assert told.warnings == ()


@pytest.mark.parametrize(
    "doc",
    [None, {}, {"links": []}, {"links": None, "networks": None}, {"services": [{"type": "dns"}]}],
)
def test_an_empty_document_tells_nothing_quietly(doc):
    assert parse_network_data(doc) == Metadata()


@pytest.mark.parametrize(
    ("doc", "said"),
    [
        ([], "no dictionary"),
        ("text", "no dictionary"),
        ({"links": {}}, "links is no list"),
        ({"links": [7]}, "links: 1 entries"),
        ({"links": [{"id": "a", "type": "phy"}]}, "ethernet_mac_address None is no MAC"),
        ({"links": [{"id": "a", "ethernet_mac_address": "x\ny"}]}, "'x\\ny' is no MAC"),
        ({"links": [{"id": "a", "type": "vlan"}]}, "vlan_mac_address None is no MAC"),
        ({"networks": [{"link": "gone"}]}, "there is no link 'gone'"),
    ],
)
def test_what_is_malformed_is_said_once_in_one_line(doc, said):
    told = parse_network_data(doc)
    assert told.ports == ()
    (warning,) = told.warnings
    assert said in warning
    assert "\n" not in warning


@pytest.mark.parametrize(
    ("net", "said"),
    [
        ({"ip_address": "10.0.0.300", "netmask": "24"}, "'10.0.0.300' with netmask '24'"),
        ({"ip_address": "10.0.0.2", "netmask": "255.0.255.0"}, "'255.0.255.0' is not an address"),
        ({"ip_address": 167772162}, "167772162 is not an address"),
        ({"type": "ipv4"}, "a static network without ip_address"),
        ({"gateway": "10.0.0.1; reboot"}, "'10.0.0.1; reboot' is not a gateway"),
        ({"gateway": "224.0.0.1"}, "'224.0.0.1' is not a gateway"),
        ({"routes": "0.0.0.0"}, "routes is no list"),
        ({"routes": [{"network": "10.0.0.0", "netmask": True, "gateway": "10.0.0.1"}]}, "True"),
        ({"routes": [{"network": "::", "netmask": "::", "gateway": "10.0.0.1"}]}, "'::'"),
    ],
)
def test_a_malformed_network_leaves_the_port_and_its_other_facts(net, said):
    told = one_network(**net)
    assert only(told).mac == MAC
    (warning,) = told.warnings
    assert said in warning


def test_a_document_of_any_size_gives_a_result_of_bounded_size():
    links = [
        {"id": n, "type": "phy", "ethernet_mac_address": f"02:00:00:00:{n >> 8:02x}:{n & 255:02x}"}
        for n in range(MAX_PORTS + 50)
    ]
    told = parse_network_data({"links": links, "networks": [{"link": "?"}] * 5000})
    assert len(told.ports) == MAX_PORTS
    assert len(told.warnings) == MAX_WARNINGS + 1
    assert told.warnings[-1].endswith("more things were not understood")


# -- network config ------------------------------------------------------------------


def test_version_1_as_cloud_init_converts_it_tells_what_the_original_tells():
    original = parse_network_data(load("network_data/two-static.json"))
    told = parse_network_config(load("network_config/v1-two-static.json"))
    assert told.warnings == ()
    assert [port.name for port in told.ports] == ["ens3", "ens4"]
    for ours, theirs in zip(original.ports, told.ports):
        assert (ours.mac, ours.addresses, ours.routes) == (
            theirs.mac,
            theirs.addresses,
            theirs.routes,
        )


def test_version_1_bonds_and_vlans_keep_their_macs_and_names():
    told = parse_network_config(load("network_config/v1-bond-and-vlans.json"))
    assert told.warnings == ()
    assert [(port.mac[-2:], port.name) for port in told.ports] == [
        ("80", "bond0"),
        ("81", "bond0.101"),
        ("82", "bond0.102"),
    ]


def test_version_1_reads_every_form_of_mask_and_gives_routes_without_interface_to_their_port():
    told = parse_network_config(
        {
            "version": 1,
            "config": [
                {
                    "type": "physical",
                    "name": "ens4",
                    "subnets": [
                        {"type": "static", "address": "10.0.0.2", "netmask": "255.255.255.0"},
                        {"type": "static6", "address": "2001:db8::2/64", "gateway": "fe80::1"},
                        {"type": "dhcp4"},
                        {
                            "type": "static",
                            "address": "10.1.0.2/16",
                            "routes": [
                                {"network": "10.2.0.0/16", "gateway": "10.1.0.1"},
                                {"destination": "10.3.0.0", "prefix": 16, "gateway": "10.1.0.1"},
                            ],
                        },
                    ],
                },
                {"type": "vlan", "name": "ens4.5", "vlan_id": 5, "vlan_link": "ens4"},
                {"type": "bridge", "name": "br0", "bridge_interfaces": ["ens9"]},
                {"type": "physical", "name": "ens9", "mac_address": "02:00:00:00:00:09"},
                {"type": "route", "destination": "10.9.0.0/16", "gateway": "10.0.0.1"},
                {"type": "route", "destination": "10.9.0.0/16", "gateway": "172.16.0.1"},
                {"type": "nameserver", "address": ["9.9.9.9"]},
                {"type": "loopback", "name": "lo"},
            ],
        }
    )
    assert told.warnings == ()
    assert [port.name for port in told.ports] == ["ens4", "ens4.5", "br0"]
    assert addresses(told.ports[0]) == ["10.0.0.2/24", "2001:db8::2/64", "10.1.0.2/16"]
    assert routes(told.ports[0]) == {
        "::/0": "fe80::1",
        "10.2.0.0/16": "10.1.0.1",
        "10.3.0.0/16": "10.1.0.1",
        "10.9.0.0/16": "10.0.0.1",
    }


def test_routes_without_interface_are_bounded_too():
    route = {"type": "route", "destination": "10.9.0.0/16", "gateway": "172.16.0.1"}
    (warning,) = parse_network_config({"version": 1, "config": [route] * 2000}).warnings
    assert "more than 1024 routes" in warning


def test_version_2_finds_ports_by_mac_by_new_name_and_by_id():
    told = parse_network_config(load("network_config/v2.json"))
    assert told.warnings == ()
    assert [(port.mac, port.name) for port in told.ports] == [
        ("fa:16:3e:fc:45:9d", "ens3"),
        ("", "ens4"),
        ("a0:36:9f:2c:e8:80", "bond0"),
        ("", "br0"),
        ("", "bond0.101"),
    ]
    primary, second, bond, bridge, vlan = told.ports
    assert addresses(primary) == ["162.253.43.134/24", "2001:db8:43::134/64"]
    assert routes(primary) == {
        "169.254.169.254/32": "162.253.43.1",
        "0.0.0.0/0": "162.253.43.1",
        "::/0": "2001:db8:43::1",
    }
    assert routes(second) == {"0.0.0.0/0": "10.13.96.1", "10.0.0.0/8": "10.13.96.1"}
    assert routes(bond) == {"0.0.0.0/0": "10.50.0.1"}
    assert routes(bridge) == {"0.0.0.0/0": "10.60.0.1"}
    assert addresses(vlan) == ["10.70.0.2/24"]


@pytest.mark.parametrize(
    "doc",
    [None, {}, {"config": "disabled"}, {"network": {"config": "disabled"}}, {"network": None}],
)
def test_a_disabled_configuration_tells_nothing_quietly(doc):
    assert parse_network_config(doc) == Metadata()


@pytest.mark.parametrize(
    ("doc", "said"),
    [
        ([1], "no dictionary"),
        ({"version": 3}, "version 3 is not known"),
        ({"version": "one"}, "version 'one' is not known"),
        ({"version": True}, "version True is not known"),
        ({"version": 1, "config": {}}, "config is no list"),
        ({"version": 1, "config": [{"type": "physical"}]}, "neither a name nor a MAC"),
        ({"version": 2, "ethernets": []}, "ethernets is no dictionary"),
        ({"version": 2, "ethernets": {"a": 7}}, "ethernets.a is no dictionary"),
        (
            {"version": 2, "ethernets": {"a": {"match": {"name": "en*"}, "gateway4": "10.0.0.1"}}},
            "what it matches is not known",
        ),
    ],
)
def test_a_malformed_configuration_is_said(doc, said):
    told = parse_network_config(doc)
    assert told.ports == ()
    (warning,) = told.warnings
    assert said in warning


@pytest.mark.parametrize("name", ["ens4; reboot", "a/b", "..", "x" * 16, "a b", "é", "a\n", "-x"])
def test_a_hostile_name_is_no_name(name):
    doc = {"version": 1, "config": [{"type": "physical", "name": name, "mac_address": MAC}]}
    port = only(parse_network_config(doc))
    assert port.mac == MAC
    assert port.name in ("", name.strip())
    assert interface_name(port.name) == port.name


# -- values ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "version", "length"),
    [
        (24, 4, 24),
        ("24", 4, 24),
        ("/24", 4, 24),
        ("255.255.255.0", 4, 24),
        ("0.0.0.0", 4, 0),
        ("0xffffff00", 4, 24),
        ("0XFFFFFF00", 4, 24),
        ("::", 6, 0),
        ("ffff:ffff:ffff:ffff::", 6, 64),
        (128, 6, 128),
        (33, 4, None),
        (-1, 4, None),
        (True, 4, None),
        (24.0, 4, None),
        ("255.0.255.0", 4, None),
        ("0xff00ff00", 4, None),
        ("0xfff", 4, None),
        ("٢٤", 4, None),
        ("1" * 200, 4, None),
        ("255.255.255.0", 6, None),
        (None, 4, None),
        ([24], 4, None),
    ],
)
def test_a_prefix_length_has_many_forms(told, version, length):
    assert prefix_length(told, version) == length


@pytest.mark.parametrize(
    ("told", "mac"),
    [
        ("FA:16:3E:2B:E7:89", MAC),
        ("fa-16-3e-2b-e7-89", MAC),
        (" fa:16:3e:2b:e7:89 ", MAC),
        ("00:00:00:00:00:00", ""),
        ("fa:16:3e:2b:e7", ""),
        ("fa:16:3e:2b:e7:89:00", ""),
        (
            "80:00:00:48:fe:80:" + ":".join(["00"] * 14),
            "80:00:00:48:fe:80:" + ":".join(["00"] * 14),
        ),
        (None, ""),
        (0xFA163E2BE789, ""),
    ],
)
def test_a_mac_is_written_in_one_way(told, mac):
    assert mac_address(told) == mac


def test_addresses_and_prefixes_are_values_not_text():
    assert interface("fe80::1%ens4", 64) == ip_interface("fe80::1/64")
    assert interface("10.0.0.2") == ip_interface("10.0.0.2/24")
    assert interface("0.0.0.0") is None
    assert network("10.1.2.3", "255.0.0.0") == ip_network("10.0.0.0/8")
    assert network("::") == ip_network("::/0")
    assert network(5) is None


# -- anything at all ----------------------------------------------------------------------

WORDS = [
    *("links", "networks", "services", "id", "link", "type", "ethernet_mac_address", "routes"),
    *("vlan_mac_address", "bond_links", "ip_address", "netmask", "gateway", "network", "prefix"),
    *("version", "config", "subnets", "address", "name", "mac_address", "bond_interfaces"),
    *("bridge_interfaces", "ethernets", "bonds", "bridges", "vlans", "match", "macaddress"),
    *("set-name", "addresses", "gateway4", "gateway6", "to", "via", "interfaces", "destination"),
]
VALUES = [
    *(1, 2, "1", "2", "tap1", "phy", "vlan", "bond", "bridge", "physical", "route", "static"),
    *(MAC, "ens4", "default", "10.0.0.1", "10.0.0.0/8", "255.0.0.0", "::", "fe80::1", "disabled"),
]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(VALUES),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=40,
)


def sound(told: Metadata) -> bool:
    return all(
        (port.mac or port.name)
        and mac_address(port.mac) == port.mac
        and interface_name(port.name) == port.name
        and all(isinstance(route, MetadataRoute) for route in port.routes)
        and all(route.to.version == route.via.version for route in port.routes)
        and all(route.via != ip_address("0.0.0.0") for route in port.routes)
        for port in told.ports
    ) and all("\n" not in warning and len(warning) < 400 for warning in told.warnings)


@given(JSON)
def test_any_document_gives_sound_ports_or_warnings_never_an_exception(doc):
    assert sound(parse_network_data(doc))
    assert sound(parse_network_config(doc))


@given(st.lists(JSON, max_size=3), st.lists(JSON, max_size=3))
def test_any_links_and_networks_are_survived(links, networks):
    assert sound(parse_network_data({"links": links, "networks": networks}))


@given(JSON, st.sampled_from([1, 2]))
def test_any_device_is_survived(device, version):
    doc = {"version": 1, "config": [device]} if version == 1 else {"ethernets": {"ens4": device}}
    assert sound(parse_network_config(doc))
