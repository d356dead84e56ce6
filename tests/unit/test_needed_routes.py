"""Which routes are read: those on which a plan can depend, however many others there are."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cc_source_routing.errors import Fault, StanzaError
from cc_source_routing.kernel import messages, netlink, rtnl
from cc_source_routing.kernel.needed_routes import NeededRoutes
from cc_source_routing.model import (
    OUR_PROTOCOL,
    PROTO_BOOT,
    PROTO_KERNEL,
    PROTO_RA,
    PROTO_STATIC,
    TABLE_LOCAL,
    TABLE_MAIN,
    Address,
    HostState,
    InterfaceStanza,
    Route,
    RoutingPlan,
    Rule,
    Stanza,
)
from cc_source_routing.model.stanza import StanzaRoute
from cc_source_routing.plan.build import build_plan

from .hosts import link
from .netlink import Answering, framed, route_body

BIRD = 12  # RTPROT_BIRD
NEAR = [ip_network("10.1.0.0/16"), ip_network("fd00:1::/64")]


def main(prefix: str, protocol: int = BIRD, kind: str = "unicast", table: int = TABLE_MAIN):
    return Route(table, ip_network(prefix), protocol=protocol, type=kind)


def message(route: Route, **fields: int) -> bytes:
    return framed(messages.RTM_NEWROUTE, route_body(route, **fields))


ALWAYS = {
    "ours": main("9.0.0.0/8", OUR_PROTOCOL),
    "ours in a table": main("9.0.0.0/8", OUR_PROTOCOL, table=501),
    "a configured one": main("9.0.0.0/8", PROTO_STATIC),
    "one of the kernel": main("fd00:9::/64", PROTO_KERNEL),
    "a daemon's default": main("0.0.0.0/0"),
    "a daemon's default of IPv6 in a table": main("::/0", table=70000),
    "half a default": main("128.0.0.0/1"),
    "an error default": main("0.0.0.0/0", PROTO_STATIC, "unreachable"),
    "a daemon's in a NIC's network": main("10.1.2.0/24"),
    "a daemon's around a NIC's network": main("10.0.0.0/8"),
    "a daemon's at a NIC's network": main("10.1.0.0/16"),
    "a daemon's of IPv6 in a NIC's network": main("fd00:1::7/128"),
    "an error in a NIC's network": main("10.1.2.0/24", PROTO_STATIC, "blackhole"),
}
FAR = {
    "a daemon's beside": main("10.2.0.0/16"),
    "a daemon's of the other family": main("a01::/16"),  # as bits: 10.1.0.0/16
    "a daemon's of IPv6 beside": main("fd00:1:0:1::/64"),
    "a daemon's host": main("9.9.9.9/32"),
    "an error beside": main("10.2.0.0/16", PROTO_STATIC, "prohibit"),
}


@pytest.mark.parametrize("route", ALWAYS.values(), ids=ALWAYS)
def test_it_is_needed(route: Route):
    needed = NeededRoutes(NEAR)
    is_needed = needed.for_dump()
    assert [is_needed(message(route)) for _time in range(2)] == [True, True]
    assert not needed.is_far(message(route)) and not needed.left_out


@pytest.mark.parametrize("route", FAR.values(), ids=FAR)
def test_it_is_far(route: Route):
    needed = NeededRoutes(NEAR)
    assert needed.is_far(message(route)) and not needed.left_out
    assert not needed.for_dump()(message(route))
    assert needed.left_out


@pytest.mark.parametrize("kind", ["local", "broadcast", "anycast", "multicast"])
def test_what_ends_no_lookup_is_not_needed(kind: str):
    assert not NeededRoutes(NEAR).for_dump()(message(main("10.1.0.1/32", PROTO_KERNEL, kind)))


def test_of_another_table_one_route_is_needed():
    is_needed = NeededRoutes(NEAR).for_dump()
    tables = (77, 70000, 77, 70001, 70000, 77)
    found = [is_needed(message(main("10.1.0.0/24", PROTO_STATIC, table=t))) for t in tables]
    assert found == [True, True, False, True, False, False]


def test_one_that_is_not_read_does_not_stand_for_its_table():
    is_needed = NeededRoutes(NEAR).for_dump()
    route = main("10.1.0.0/24", table=77)
    assert not is_needed(message(route, tos=4))
    assert not is_needed(message(route, flags=messages.RTM_F_CLONED))
    assert is_needed(message(route))


def test_other_tables_are_never_far():
    """Whether the last route of one has gone is not known."""
    needed = NeededRoutes(NEAR)
    is_needed = needed.for_dump()
    route = message(main("9.0.0.0/8", table=77))
    assert is_needed(route) and not is_needed(route) and not needed.is_far(route)


# -- as a kernel reads them ----------------------------------------------------

LINKS = (link("ens3", 2), link("ens4", 3))
ADDRESSES = (
    Address("ens3", ip_interface("10.1.0.10/24")),
    Address("ens4", ip_interface("10.2.0.10/24")),
)


@pytest.fixture
def reading(monkeypatch):
    """A `Kernel` with some routes, and its socket."""

    def read(*routes: Route):
        channel = Answering(LINKS, routes)
        monkeypatch.setattr(rtnl, "open_socket", lambda: channel)
        kernel = netlink.Kernel()
        kernel.links()
        return kernel, channel

    return read


VIA = {"dev": "ens3", "gateway": ip_address("10.1.0.1")}
INSIDE, OUTSIDE = main("10.9.1.0/24")._replace(**VIA), main("9.0.0.0/8")._replace(**VIA)
AROUND = main("10.0.0.0/8", PROTO_STATIC)._replace(**VIA)


def test_a_daemons_routes_in_a_configured_one_are_read(reading):
    kernel, channel = reading(INSIDE, AROUND, OUTSIDE)
    assert kernel.needed_routes(ADDRESSES, ()) == (INSIDE, AROUND)
    assert channel.dumps == 4
    # Its networks are known by now.
    assert kernel.needed_routes(ADDRESSES, ()) == (INSIDE, AROUND)
    assert channel.dumps == 6


def test_those_in_a_network_of_the_stanza_are_read(reading):
    kernel, _channel = reading(INSIDE, OUTSIDE)
    assert kernel.needed_routes(ADDRESSES, [ip_network("10.9.0.0/16")]) == (INSIDE,)
    assert kernel.needed_routes(ADDRESSES, ()) == ()


def test_those_in_a_daemons_network_on_the_nics_link_are_read(reading):
    """By such a route, with an address in it, a prefix is a connected one."""
    on_link = main("10.0.0.0/12")._replace(dev="ens3", scope=253)
    kernel, _channel = reading(INSIDE, on_link, OUTSIDE)
    assert kernel.needed_routes(ADDRESSES, ()) == (INSIDE, on_link)


def test_without_foreign_routes_one_dump_does(reading):
    kernel, channel = reading(AROUND)
    assert kernel.needed_routes(ADDRESSES, ()) == (AROUND,)
    assert channel.dumps == 2


def test_what_is_announced_is_judged_by_what_was_read_last(reading):
    kernel, _channel = reading(AROUND)
    assert not kernel.is_far(message(INSIDE)) and not kernel.is_far(message(OUTSIDE))
    kernel.needed_routes(ADDRESSES, ())
    assert not kernel.is_far(message(INSIDE)) and kernel.is_far(message(OUTSIDE))


def test_a_dump_that_is_read_again_has_all_that_is_needed(reading):
    """The route that stands for its table was there in the first attempt already."""
    theirs = main("9.0.0.0/8", table=77)
    kernel, channel = reading(theirs)
    channel.interrupted = 1
    assert kernel.needed_routes(ADDRESSES, ()) == (theirs,)
    assert channel.dumps == 3


# -- any host ------------------------------------------------------------------

PREFIXES = [
    "9.0.0.0/8",
    "10.0.0.0/8",
    "10.0.0.0/14",
    *(f"10.{second}.0.0/16" for second in range(4)),
    *(f"10.{second}.{third}.0/24" for second in range(4) for third in (0, 1)),
    *(f"10.{second}.0.10/32" for second in range(4)),
]
NEXT_HOPS = (None, "10.1.0.9", *(f"10.{second}.0.1" for second in range(4)))
OTHERS = (BIRD, 11, 186)
CONFIGURED = (0, PROTO_KERNEL, PROTO_BOOT, PROTO_STATIC, PROTO_RA)
LENGTHS = (14, 16, 24, 25, 32)


@st.composite
def any_route(draw) -> Route:
    kind = draw(st.sampled_from(("unicast",) * 6 + ("blackhole", "unreachable", "throw")))
    hop = draw(st.sampled_from(NEXT_HOPS))
    rarely = draw(st.integers(0, 20)) == 0
    return Route(
        draw(st.sampled_from((TABLE_MAIN,) * 6 + (500, 501, 77))),
        ip_network(draw(st.sampled_from(["0.0.0.0/0", "0.0.0.0/1"] if rarely else PREFIXES))),
        draw(st.sampled_from([one.name for one in LINKS])) if kind == "unicast" else "",
        ip_address(hop) if hop and kind == "unicast" else None,
        draw(st.integers(0, 3)),
        draw(st.sampled_from((*OTHERS, *OTHERS, *CONFIGURED, OUR_PROTOCOL))),
        type=kind,
    )


@st.composite
def hosts(draw) -> HostState:
    """Three NICs, each with a default in main, and routes of anybody."""
    links = (link("ens3", 2), link("ens4", 3), link("ens5", 4))
    seconds = draw(st.lists(st.integers(0, 3), min_size=3, max_size=3))
    owned = tuple(
        Address(
            one.name,
            ip_interface(f"10.{second}.0.{10 + number}/{draw(st.sampled_from(LENGTHS))}"),
            noprefixroute=draw(st.booleans()),
        )
        for number, (one, second) in enumerate(zip(links, seconds))
    )
    defaults = [
        main("0.0.0.0/0", PROTO_STATIC)._replace(
            dev=one.name, gateway=ip_address(f"10.{second}.0.1"), metric=one.ifindex
        )
        for one, second in zip(links, seconds)
    ]
    by_others = [Rule(4, 900, 77, ip_network("10.1.0.0/16"))] if draw(st.booleans()) else []
    return HostState(
        links=links,
        addresses=owned,
        routes=(*defaults, *draw(st.lists(any_route(), max_size=12))),
        rules=(Rule(4, 0, TABLE_LOCAL), *by_others),
    )


def planned(stanza: Stanza, state: HostState) -> RoutingPlan | list[Fault]:
    try:
        return build_plan(stanza, state)
    except StanzaError as error:
        return list(error.faults)


@settings(max_examples=400)
@given(
    hosts(),
    st.lists(st.sampled_from(PREFIXES).map(ip_network), max_size=2, unique=True),
    st.sampled_from([None, 501, 77]),
)
def test_a_plan_by_the_needed_routes_is_the_plan_by_all(state, prefixes, table):
    extra = tuple(StanzaRoute(prefix, ip_address("10.1.0.9"), True) for prefix in prefixes)
    stanza = Stanza(interfaces=(InterfaceStanza("ens4", table=table, routes=extra),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rtnl, "open_socket", lambda: Answering(state.links, state.routes))
        with netlink.Kernel() as kernel:
            kernel.links()
            everything = kernel.routes()
            found = kernel.needed_routes(state.addresses, prefixes)
            again = kernel.needed_routes(state.addresses, prefixes)
    assert set(found) == set(again) <= set(everything)
    by_all = planned(stanza, replace(state, routes=everything))
    assert planned(stanza, replace(state, routes=found)) == by_all
