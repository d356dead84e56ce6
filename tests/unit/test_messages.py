"""Model values to rtnetlink messages and back, through pyroute2's own codec."""

from __future__ import annotations

import sys
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from cc_source_routing.kernel import messages
from cc_source_routing.model import Route, Rule

from .netlink import body_of, framed

ROUTES = {
    "connected": Route(501, ip_network("10.13.96.0/19"), "ens4", protocol=83, scope=253),
    "default": Route(501, ip_network("0.0.0.0/0"), "ens4", ip_address("10.13.96.1"), protocol=83),
    "onlink": Route(7, ip_network("0.0.0.0/0"), "ens4", ip_address("9.9.9.9"), 0, 83, onlink=True),
    "throw": Route(501, ip_network("10.88.0.0/16"), protocol=83, type="throw"),
    "ipv6": Route(70000, ip_network("fd00::/64"), "ens4", ip_address("fe80::1"), 1024, 83),
    "ipv4 by ipv6": Route(501, ip_network("10.9.0.0/16"), "ens4", ip_address("fe80::1"), 0, 83),
}
RULES = {
    "main": Rule(4, 5000, 254, suppress_prefixlength=1, suppress_ifgroup=21330, protocol=83),
    "source": Rule(4, 5030, 501, src=ip_network("10.13.96.161/32"), protocol=83),
    "destination": Rule(6, 5030, 501, dst=ip_network("fd00:9::/48"), protocol=83),
    "ipv6": Rule(6, 5010, 70000, src=ip_network("fd00::1/128"), suppress_prefixlength=1),
    "device": Rule(6, 5040, 501, oif="ens4", protocol=83),
    "mark": Rule(4, 5030, 501, fwmark=0x02000000, fwmask=0xFF000000, protocol=83),
}


def sent(kind, fields, more=b""):
    """What the other side of a netlink socket decodes of a message with these fields."""
    request = kind()
    request.update(fields)
    request.encode()
    data = bytearray(request.data + more)
    data[:4] = len(data).to_bytes(4, "little")
    message = kind(data)
    message.decode()
    return message


def route_message(route, more=b""):
    return sent(rtmsg, messages.route_request(route, 3 if route.dev else 0), more)


def rule_message(rule, more=b""):
    return sent(fibmsg, messages.rule_request(rule), more)


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
def test_a_route_comes_back_as_it_went(route):
    assert messages.routes_of(route_message(route), {3: "ens4"}.__getitem__) == [route]


@pytest.mark.parametrize(("stored", "read"), [(0, 0), (1, 1), (3, -1), (2, 0)])
def test_the_preference_of_an_advertised_router_is_signed(stored, read):
    attribute = b"\x05\x00\x14\x00" + bytes([stored, 0, 0, 0])  # RTA_PREF
    message = route_message(ROUTES["ipv6"], attribute)
    (route,) = messages.routes_of(message, lambda _: "ens4")
    assert route == ROUTES["ipv6"]._replace(preference=read)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_rule_comes_back_as_it_went(rule):
    assert messages.rule_of(rule_message(rule)) == rule


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
def test_pyroute2_reads_the_same_route(route):
    message = route_message(route)
    assert message.get_attr("RTA_TABLE") == route.table
    assert message["table"] == (route.table if route.table < 256 else 252)
    assert message["dst_len"] == route.dst.prefixlen and message["proto"] == 83
    if route.dst.prefixlen:
        assert message.get_attr("RTA_DST") == str(route.dst.network_address)
    if route.gateway and route.gateway.version == route.family:
        assert message.get_attr("RTA_GATEWAY") == str(route.gateway)
    assert message.get_attr("RTA_OIF") == (3 if route.dev else None)
    assert message["flags"] == (messages.RTNH_F_ONLINK if route.onlink else 0)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_pyroute2_reads_the_same_rule(rule):
    message = rule_message(rule)
    assert message.get_attr("FRA_TABLE") == rule.table
    assert message.get_attr("FRA_PRIORITY") == rule.priority
    assert message.get_attr("FRA_SRC") == (str(rule.src.network_address) if rule.src else None)
    assert message.get_attr("FRA_OIFNAME") == (rule.oif or None)
    assert message.get_attr("FRA_SUPPRESS_PREFIXLEN") == rule.suppress_prefixlength
    assert message.get_attr("FRA_SUPPRESS_IFGROUP") == rule.suppress_ifgroup
    assert message.get_attr("FRA_FWMARK") == (rule.fwmark or None)


@pytest.mark.parametrize(
    ("attribute", "other"),
    [
        (b"\x07\x00\x03\x00lo\x00\x00", ("FRA_IIFNAME", "lo")),
        # What is newer than pyroute2 goes by its number.
        (b"\x05\x00\x63\x00\x01\x00\x00\x00", ("FRA_99", "01")),
    ],
)
def test_a_rule_with_more_to_it_is_told_apart(attribute, other):
    assert messages.rule_of(rule_message(RULES["source"], attribute)).other == (other,)


def test_a_rule_that_does_or_selects_something_else_is_told_apart():
    fields = messages.rule_request(RULES["source"])
    message = sent(fibmsg, {**fields, "tos": 4, "action": 7, "flags": 2})
    assert messages.rule_of(message).other == (("action", "7"), ("invert", "1"), ("tos", "4"))


@given(st.binary(max_size=200))
def test_what_is_no_message_is_read_to_its_end(data):
    for message in messages.split(data):
        assert message.data in data
    assert messages.attribute(data, messages.RTA_DST) in data


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
def test_an_attribute_is_found_without_decoding(route):
    body = body_of(messages.RTM_NEWROUTE, messages.route_request(route, 3))
    (message,) = messages.split(framed(messages.RTM_NEWROUTE, body, sequence=7, port=9))
    assert (message.kind, message.sequence, message.port) == (messages.RTM_NEWROUTE, 7, 9)
    table = messages.attribute(message.data, messages.RTA_TABLE)
    assert int.from_bytes(table, sys.byteorder) == route.table
    address = route.dst.network_address.packed if route.dst.prefixlen else b""
    assert messages.attribute(message.data, messages.RTA_DST) == address


def test_hops_cached_routes_and_types_of_service():
    fields = messages.route_request(ROUTES["connected"], 0)
    hops = [
        {"oif": 3, "flags": 4, "hops": 0, "attrs": [("RTA_GATEWAY", "10.0.0.1")]},
        {"oif": 4, "flags": 0, "hops": 0, "attrs": [("RTA_GATEWAY", "10.0.0.2")]},
    ]
    attrs = [*fields["attrs"], ("RTA_MULTIPATH", hops)]
    message = sent(rtmsg, {**fields, "attrs": attrs})
    found = messages.routes_of(message, {3: "ens3", 4: "ens4"}.__getitem__)
    assert [(hop.dev, str(hop.gateway), hop.onlink) for hop in found] == [
        ("ens3", "10.0.0.1", True),
        ("ens4", "10.0.0.2", False),
    ]
    for changed in ({"tos": 4}, {"flags": messages.RTM_F_CLONED}, {"family": 28, "attrs": []}):
        assert messages.routes_of(sent(rtmsg, {**fields, **changed}), str) == []


def test_a_link_of_any_name_and_with_an_address_of_any_length():
    attrs = [("IFLA_IFNAME", b"a\xffb"), ("IFLA_GROUP", 7)]
    tunnel = b"\x08\x00\x01\x00\x0a\x00\x00\x01"  # IFLA_ADDRESS of four bytes
    permanent = b"\x0a\x00\x36\x00\x02\x00\x00\x00\x00\x07\x00\x00"  # IFLA_PERM_ADDRESS
    message = sent(ifinfmsg, {"index": 2, "flags": 1, "attrs": attrs}, tunnel + permanent)
    link = messages.link_of(message, str)
    assert (link.name, link.mac, link.permanent_mac) == ("a\\xffb", "", "02:00:00:00:00:07")
    assert link.up and link.group == 7 and not link.loopback
    assert messages.link_of(sent(ifinfmsg, {"family": 7, "attrs": attrs}), str) is None


def test_the_prefix_of_a_point_to_point_address_is_the_far_ends():
    attrs = [("IFA_LOCAL", "10.0.9.2"), ("IFA_ADDRESS", "10.0.9.1"), ("IFA_FLAGS", 0x80)]
    message = sent(ifaddrmsg, {"family": 2, "prefixlen": 24, "index": 3, "attrs": attrs})
    address = messages.address_of(message, {3: "ppp0"}.__getitem__)
    assert (str(address.interface), str(address.peer)) == ("10.0.9.2/32", "10.0.9.0/24")
    assert address.dev == "ppp0" and not address.dynamic


@pytest.mark.parametrize(
    ("ip", "state", "found"),
    [
        ("fe80::1", messages.NUD_INCOMPLETE, (False, False)),
        ("fe80::1", messages.NUD_FAILED, (False, True)),
        ("2001:db8::1", messages.NUD_FAILED, None),
        ("192.0.2.1", messages.NUD_INCOMPLETE, None),
        ("192.0.2.1", messages.NUD_FAILED, None),
    ],
)
def test_neighbours_without_a_link_layer_address_count_where_they_may_be_routers(ip, state, found):
    family = 10 if ":" in ip else 2
    fields = {"family": family, "ifindex": 3, "state": state, "attrs": [("NDA_DST", ip)]}
    neighbour = messages.neighbour_of(sent(ndmsg, fields), {3: "ens4"}.__getitem__)
    assert (neighbour and (neighbour.reachable, neighbour.failed)) == found
