"""The codec against pyroute2's, which is slow but knows all of netlink."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from cc_source_routing.kernel import wire
from cc_source_routing.model import Route, Rule

ROUTES = {
    "connected": Route(501, ip_network("10.13.96.0/19"), "ens4", protocol=83, scope=253),
    "default": Route(501, ip_network("0.0.0.0/0"), "ens4", ip_address("10.13.96.1"), protocol=83),
    "onlink": Route(7, ip_network("0.0.0.0/0"), "ens4", ip_address("9.9.9.9"), 0, 83, onlink=True),
    "throw": Route(501, ip_network("10.88.0.0/16"), protocol=83, type="throw"),
    "ipv6": Route(70000, ip_network("fd00::/64"), "ens4", ip_address("fe80::1"), 1024, 83),
}
RULES = {
    "main": Rule(4, 5000, 254, suppress_prefixlength=1, suppress_ifgroup=21330, protocol=83),
    "source": Rule(4, 5030, 501, src=ip_network("10.13.96.161/32"), protocol=83),
    "ipv6": Rule(6, 5010, 70000, src=ip_network("fd00::1/128"), suppress_prefixlength=1),
    "device": Rule(6, 5040, 501, oif="ens4", protocol=83),
    "mark": Rule(4, 5030, 501, fwmark=0x02000000, fwmask=0xFF000000, protocol=83),
}


def framed(kind, body):
    return wire.message(kind, wire.NLM_F_ACK, 1, body)


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
def test_a_route_comes_back_as_it_went(route):
    body = wire.route_body(route, 3 if route.dev else 0)
    assert wire.routes_of(body, lambda index: {3: "ens4"}[index]) == [route]


@pytest.mark.parametrize(("sent", "read"), [(0, 0), (1, 1), (3, -1), (2, 0)])
def test_the_preference_of_an_advertised_router_is_signed(sent, read):
    attribute = b"\x05\x00\x14\x00" + bytes([sent, 0, 0, 0])  # RTA_PREF
    (route,) = wire.routes_of(wire.route_body(ROUTES["ipv6"], 3) + attribute, lambda _: "ens4")
    assert route == ROUTES["ipv6"]._replace(preference=read)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_rule_comes_back_as_it_went(rule):
    assert wire.rule_of(wire.rule_body(rule)) == rule


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
def test_pyroute2_reads_the_same_route(route):
    message = rtmsg(framed(wire.RTM_NEWROUTE, wire.route_body(route, 3 if route.dev else 0)))
    message.decode()
    assert message.get_attr("RTA_TABLE") == route.table
    assert message["dst_len"] == route.dst.prefixlen and message["proto"] == 83
    if route.dst.prefixlen:
        assert message.get_attr("RTA_DST") == str(route.dst.network_address)
    if route.gateway:
        assert message.get_attr("RTA_GATEWAY") == str(route.gateway)
    assert message.get_attr("RTA_OIF") == (3 if route.dev else None)
    assert message["flags"] == (wire.RTNH_F_ONLINK if route.onlink else 0)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_pyroute2_reads_the_same_rule(rule):
    message = fibmsg(framed(wire.RTM_NEWRULE, wire.rule_body(rule)))
    message.decode()
    assert message.get_attr("FRA_TABLE") == rule.table
    assert message.get_attr("FRA_PRIORITY") == rule.priority
    assert message.get_attr("FRA_SRC") == (str(rule.src.network_address) if rule.src else None)
    assert message.get_attr("FRA_OIFNAME") == (rule.oif or None)
    assert message.get_attr("FRA_SUPPRESS_PREFIXLEN") == rule.suppress_prefixlength
    assert message.get_attr("FRA_SUPPRESS_IFGROUP") == rule.suppress_ifgroup
    assert message.get_attr("FRA_FWMARK") == (rule.fwmark or None)


def test_a_rule_with_more_to_it_is_told_apart():
    body = wire.rule_body(RULES["source"]) + b"\x08\x00\x03\x00lo\x00\x00"  # FRA_IIFNAME
    assert wire.rule_of(body).other == (("FRA_3", "6c6f0000"),)


@given(st.binary(max_size=200))
def test_a_broken_datagram_ends_quietly(data):
    for message in wire.messages(data):
        assert isinstance(message.body, bytes)
