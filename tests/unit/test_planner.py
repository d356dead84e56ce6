"""The plan, told on the example that started it all and on what other hosts add."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_interface, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cc_source_routing.errors import StanzaError
from cc_source_routing.model import (
    PROTO_KERNEL,
    TABLE_LOCAL,
    TABLE_MAIN,
    Address,
    InterfaceStanza,
    Metadata,
    MetadataPort,
    MetadataRoute,
    Previous,
    PreviousGateway,
    Route,
    Rule,
    Stanza,
    StanzaRoute,
)
from cc_source_routing.plan.build import build_plan
from cc_source_routing.text.ip_words import describe_route, describe_rule

from .hosts import SEED, host, link, longest, lookup, mac_of, route

REMOTE = ip_address("64.31.0.51")
PUBLIC, PRIVATE = ip_address("162.253.43.134"), ip_address("10.13.96.161")


def with_routes(*more: Route):
    return replace(SEED, routes=(*SEED.routes, *more))


def way(state, source, destination, stanza=Stanza()):
    plan = build_plan(stanza, state)
    found, _priority = lookup(plan, state.routes, source, ip_address(destination))
    return (found.dev, str(found.gateway)) if found else None


class TestTheSeedExample:
    plan = build_plan(Stanza(), SEED)

    def test_both_nics_get_a_table_of_their_own(self):
        assert [(nic.name, nic.table) for nic in self.plan.nics] == [("ens3", 500), ("ens4", 501)]

    def test_the_gateways_are_found_and_the_reason_is_told(self):
        reasons = {nic.name: nic.gateways[4].reason for nic in self.plan.nics}
        assert reasons == {
            "ens3": "default route via ens3 in table main",
            "ens4": "only gateway of any route via ens4 (10.0.0.0/8)",
        }

    def test_the_private_table_holds_its_own_net_the_siblings_and_a_default(self):
        assert [describe_route(r) for r in self.plan.nics[1].routes] == [
            "10.13.96.0/19 dev ens4 table 501",
            "162.253.42.0/23 via 10.13.96.1 dev ens4 table 501",
            "169.254.169.254/32 via 10.13.96.1 dev ens4 table 501",
            "default via 10.13.96.1 dev ens4 table 501",
        ]

    def test_the_rules_are_the_stages_in_order_and_each_names_an_address_or_a_device(self):
        elsewhere = "lookup main suppress_prefixlength 1 suppress_ifgroup 21330"
        assert [describe_rule(r) for r in self.plan.rules] == [
            f"from 10.13.96.161 {elsewhere} priority 5000",
            f"from 162.253.43.134 {elsewhere} priority 5000",
            "from 10.13.96.161 lookup 501 suppress_prefixlength 1 priority 5010",
            "from 162.253.43.134 lookup 500 suppress_prefixlength 1 priority 5010",
            "from 10.13.96.161 lookup main suppress_prefixlength 1 priority 5020",
            "from 162.253.43.134 lookup main suppress_prefixlength 1 priority 5020",
            "from 10.13.96.161 lookup 501 priority 5030",
            "from 162.253.43.134 lookup 500 priority 5030",
            "from all oif ens3 lookup main suppress_prefixlength 1 priority 5035",
            "from all oif ens4 lookup main suppress_prefixlength 1 priority 5035",
            "from all oif ens3 lookup 500 priority 5040",
            "from all oif ens4 lookup 501 priority 5040",
        ]

    def test_a_reply_to_the_remote_workstation_leaves_by_the_nic_that_was_asked(self):
        assert way(SEED, PRIVATE, REMOTE) == ("ens4", "10.13.96.1")
        assert way(SEED, PUBLIC, REMOTE) == ("ens3", "162.253.43.1")

    def test_the_coarse_static_route_does_not_capture_the_public_address(self):
        assert way(SEED, PUBLIC, "10.77.0.1") == ("ens3", "162.253.43.1")

    def test_the_sibling_subnet_is_reached_by_the_own_gateway(self):
        assert way(SEED, PUBLIC, "10.13.96.9") == ("ens3", "162.253.43.1")


class TestWhatOthersAddToMain:
    def test_a_container_bridge_inside_the_coarse_route_wins(self):
        state = with_routes(route("10.88.0.0/16", "docker0", PROTO_KERNEL))
        assert way(state, PUBLIC, "10.88.0.5")[0] == "docker0"
        assert way(state, PRIVATE, "10.88.0.5")[0] == "docker0"

    def test_a_bridge_that_comes_after_the_plan_wins_too(self):
        plan = build_plan(Stanza(), SEED)
        later = with_routes(route("10.88.0.0/16", "docker0", PROTO_KERNEL))
        found, _ = lookup(plan, later.routes, PUBLIC, ip_address("10.88.0.5"))
        assert found.dev == "docker0"

    def test_pods_behind_a_neighbour_are_left_to_main(self):
        state = with_routes(route("10.244.2.0/24 via 10.13.96.9", "ens4", 12))
        assert way(state, PUBLIC, "10.244.2.7") == ("ens4", "10.13.96.9")
        assert way(state, PRIVATE, "10.244.2.7") == ("ens4", "10.13.96.9")

    def test_a_hosts_gateway_route_of_flannel_is_not_taken_for_the_networks_own(self):
        state = with_routes(route("172.30.2.0/24 via 162.253.43.9", "ens3"))
        assert way(state, PRIVATE, "172.30.2.7") == ("ens3", "162.253.43.9")

    @pytest.mark.parametrize("prefixes", [["0.0.0.0/0"], ["0.0.0.0/1", "128.0.0.0/1"]])
    def test_a_vpn_default_does_not_capture_replies(self, prefixes):
        state = with_routes(*(route(p, "tun0", metric=0) for p in prefixes))
        assert way(state, PRIVATE, REMOTE) == ("ens4", "10.13.96.1")
        assert way(state, PUBLIC, REMOTE) == ("ens3", "162.253.43.1")

    def test_a_vpn_subnet_is_reached_through_the_vpn(self):
        state = with_routes(route("10.200.0.0/16", "tun0", PROTO_KERNEL))
        assert way(state, PRIVATE, "10.200.3.4")[0] == "tun0"


class TestWhichNicsAndWhen:
    def test_one_nic_needs_nothing(self):
        plan = build_plan(
            Stanza(), host({"ens3": ["10.0.0.5/24"]}, [route("default via 10.0.0.1", "ens3")])
        )
        assert not plan.nics and not plan.rules and "fewer than two" in plan.reason

    def test_off_means_an_empty_plan(self):
        assert build_plan(Stanza(enabled=False), SEED).rules == ()

    def test_a_nic_without_a_gateway_gets_no_rule_and_a_warning(self):
        state = host(
            {"ens3": ["10.0.0.5/24"], "ens4": ["10.1.0.5/24"], "ens5": ["10.2.0.5/24"]},
            [
                route("default via 10.0.0.1", "ens3"),
                route("default via 10.1.0.1", "ens4", metric=9),
            ],
        )
        plan = build_plan(Stanza(gateway_guess="never"), state)
        assert [nic.name for nic in plan.nics] == ["ens3", "ens4"]
        assert plan.unserved["ens5"] == "no gateway known"
        assert "ens5 has no known gateway" in plan.warnings[0]

    def test_excluded_nics_and_overlays_are_left_alone(self):
        state = replace(SEED, links=(*SEED.links, link("wg0", 20, kind="wireguard")))
        plan = build_plan(Stanza(exclude=("ens4",)), state)
        assert plan.unserved["ens4"] == "excluded by the stanza (ens4)"
        assert plan.unserved["wg0"] == "is a wireguard"

    def test_a_family_that_only_one_nic_has_is_left_to_main(self):
        state = host(
            {"ens3": ["10.0.0.5/24", "fd00::5/64"], "ens4": ["10.1.0.5/24"]},
            [
                route("default via 10.0.0.1", "ens3"),
                route("default via 10.1.0.1", "ens4", metric=5),
                route("default6 via fe80::1", "ens3"),
            ],
        )
        assert {rule.family for rule in build_plan(Stanza(), state).rules} == {4}

    def test_two_nics_in_one_subnet_keep_their_own_connected_route(self):
        state = host(
            {"ens3": ["10.0.0.5/24"], "ens4": ["10.0.0.6/24"]},
            [
                route("default via 10.0.0.1", "ens3"),
                route("default via 10.0.0.1", "ens4", metric=5),
            ],
        )
        assert way(state, ip_address("10.0.0.6"), "10.0.0.9") == ("ens4", "None")
        assert way(state, ip_address("10.0.0.5"), "10.0.0.9") == ("ens3", "None")

    def test_an_address_on_two_nics_is_kept_by_the_first_and_told(self):
        state = host(
            {"ens3": ["10.0.0.5/24"], "ens4": ["10.0.0.5/24", "10.1.0.5/24"]},
            [
                route("default via 10.0.0.1", "ens3"),
                route("default via 10.1.0.1", "ens4", metric=5),
            ],
        )
        plan = build_plan(Stanza(), state)
        assert "10.0.0.5 is on both ens3 and ens4" in plan.warnings[0]
        sources = [rule.src for rule in plan.rules if rule.src]
        assert len(sources) == len(set(sources)) * 4

    def test_duplicate_address_detection_takes_no_rule_away_but_a_duplicate_gets_none(self):
        for fields, count in (({"tentative": True}, 2), ({"failed": True}, 0)):
            other = Address("ens4", SEED.addresses[1].interface, **fields)
            plan = build_plan(Stanza(), replace(SEED, addresses=(SEED.addresses[0], other)))
            assert len(plan.nics) == count

    def test_a_name_that_may_stand_in_no_file_costs_that_nic_alone(self):
        state = host(
            {"ens3": ["10.0.0.5/24"], "ens4": ["10.1.0.5/24"], "x;y": ["10.2.0.5/24"]},
            [
                route("default via 10.0.0.1", "ens3"),
                route("default via 10.1.0.1", "ens4", metric=9),
                route("default via 10.2.0.1", "x;y", metric=10),
            ],
        )
        plan = build_plan(Stanza(), state)
        assert [nic.name for nic in plan.nics] == ["ens3", "ens4"]
        assert "may stand in no file" in plan.unserved["x;y"]

    def test_a_family_whose_local_table_comes_after_our_rules_is_left_alone(self):
        behind = (Rule(4, 32765, TABLE_LOCAL, protocol=3), Rule(4, 32766, TABLE_MAIN, protocol=2))
        plan = build_plan(Stanza(), replace(SEED, rules=behind))
        assert plan.rules == ()
        assert "would cut the host off" in plan.warnings[0]

    def test_the_far_ends_prefix_is_what_is_connected(self):
        far = Address("ens4", ip_interface("10.13.96.161/32"), peer=ip_network("10.50.0.0/24"))
        state = replace(
            SEED,
            addresses=(SEED.addresses[0], far),
            routes=(
                route("default via 162.253.43.1", "ens3"),
                route("10.0.0.0/8 via 10.50.0.1", "ens4"),
                route("10.50.0.0/24", "ens4", PROTO_KERNEL),
            ),
        )
        assert way(state, PRIVATE, "10.50.0.9") == ("ens4", "None")
        assert way(state, PRIVATE, "10.13.96.77") == ("ens4", "10.50.0.1")

    def test_a_bridge_over_a_port_stands_for_the_port(self):
        links = (
            SEED.links[0],
            SEED.links[1],
            link("ens4", 3, master="br-ex"),
            link("br-ex", 9, kind="bridge", mac=mac_of(3)),
        )
        moved = tuple(a._replace(dev=a.dev.replace("ens4", "br-ex")) for a in SEED.addresses)
        routes = tuple(r._replace(dev=r.dev.replace("ens4", "br-ex")) for r in SEED.routes)
        metadata = Metadata((MetadataPort(mac=mac_of(3)),))
        state = replace(SEED, links=links, addresses=moved, routes=routes, metadata=metadata)
        assert [nic.name for nic in build_plan(Stanza(), state).nics] == ["br-ex", "ens3"]


class TestTheGatewayLadder:
    bare = host(
        {"ens3": ["10.0.0.5/24"], "ens4": ["10.1.0.5/24"]}, [route("default via 10.0.0.1", "ens3")]
    )

    def gateway(self, state, stanza=Stanza(gateway_guess="never")):
        nic = build_plan(stanza, state).nic("ens4")
        return (str(nic.gateways[4].ip), nic.gateways[4].source) if nic else None

    def test_unknown_is_not_served(self):
        assert self.gateway(self.bare) is None

    def test_the_stanza_comes_first(self):
        entry = InterfaceStanza("ens4", gateway4=IPv4Address("10.1.0.7"))
        state = replace(
            self.bare, routes=(*self.bare.routes, route("default via 10.1.0.1", "ens4", metric=9))
        )
        assert self.gateway(state, Stanza(interfaces=(entry,))) == ("10.1.0.7", "stanza")

    def test_then_the_clouds_metadata(self):
        port = MetadataPort(
            mac=mac_of(3),
            routes=(MetadataRoute(IPv4Network("0.0.0.0/0"), IPv4Address("10.1.0.254")),),
            source="network_data.json",
        )
        state = replace(self.bare, metadata=Metadata((port,)))
        assert self.gateway(state) == ("10.1.0.254", "metadata")

    def test_metadata_of_an_earlier_subnet_is_no_evidence(self):
        port = MetadataPort(
            mac=mac_of(3),
            routes=(MetadataRoute(IPv4Network("0.0.0.0/0"), IPv4Address("10.99.0.1")),),
        )
        assert self.gateway(replace(self.bare, metadata=Metadata((port,)))) is None

    def test_a_probed_first_address_is_the_last_resort(self):
        guessed = {("ens4", ip_address("10.1.0.1")): True}
        state = replace(self.bare, probes=guessed)
        assert self.gateway(state, Stanza()) == ("10.1.0.1", "guess")
        assert self.gateway(replace(self.bare, probes={}), Stanza()) is None
        assert self.gateway(self.bare, Stanza(gateway_guess="always")) == ("10.1.0.1", "guess")

    def test_there_is_no_guess_where_the_cloud_says_that_there_is_no_gateway(self):
        port = MetadataPort(mac_of(3), addresses=(ip_interface("10.1.0.5/24"),), complete=True)
        guessed = {("ens4", ip_address("10.1.0.1")): True}
        state = replace(self.bare, metadata=Metadata((port,)), probes=guessed)
        plan = build_plan(Stanza(), state)
        assert plan.nics == () and plan.warnings == ()
        assert plan.unserved["ens4"] == "the cloud gives it no gateway"

    def test_a_guess_does_not_move_what_the_siblings_send_there(self):
        guessed = {("ens4", ip_address("10.1.0.1")): True}
        state = replace(self.bare, probes=guessed)
        assert way(state, ip_address("10.0.0.5"), "10.1.0.77") == ("ens4", "None")

    def test_an_ipv4_route_by_an_ipv6_next_hop_is_no_gateway(self):
        odd = route("default via 10.1.0.1", "ens4", metric=5)._replace(
            gateway=ip_address("fe80::1")
        )
        assert self.gateway(replace(self.bare, routes=(*self.bare.routes, odd))) is None

    @pytest.mark.parametrize(
        ("told", "gateway"),
        [
            ({"10.0.0.0/8": "10.1.0.1"}, ("10.1.0.1", "only gateway")),
            ({"10.0.0.0/8": "10.1.0.1", "172.16.0.0/12": "10.1.0.2"}, None),
            ({"10.0.0.0/8": "10.99.0.1"}, None),
            # Neutron's, in a network that has no router.
            ({"169.254.169.254/32": "10.1.0.2"}, None),
            (
                {"169.254.169.254/32": "10.1.0.2", "10.0.0.0/8": "10.1.0.1"},
                ("10.1.0.1", "only gateway"),
            ),
        ],
    )
    def test_the_clouds_routes_count_where_main_has_lost_its_own(self, told, gateway):
        """As after a flap that nobody has mended: the kernel takes them away."""
        routes = tuple(MetadataRoute(ip_network(to), ip_address(via)) for to, via in told.items())
        port = MetadataPort(mac_of(3), "ens4", (ip_interface("10.1.0.5/24"),), routes)
        assert self.gateway(replace(self.bare, metadata=Metadata((port,)))) == gateway

    def test_the_way_to_the_metadata_service_tells_no_gateway(self):
        isolated = route("169.254.169.254/32 via 10.1.0.2", "ens4")
        state = replace(self.bare, routes=(*self.bare.routes, isolated))
        assert self.gateway(state) is None

    def test_silence_does_not_take_away_what_was_found_before(self):
        own = Route(501, ip_network("0.0.0.0/0"), "ens4", ip_address("10.1.0.1"), protocol=83)
        state = replace(self.bare, routes=(*self.bare.routes, own))
        assert self.gateway(state, Stanza()) == ("10.1.0.1", "earlier run")

    @pytest.mark.parametrize(("mac", "kept"), [(mac_of(3), True), (mac_of(9), False)])
    def test_what_was_found_before_outlives_its_route_but_not_its_port(self, mac, kept):
        told = PreviousGateway("only gateway", ip_address("10.1.0.1"), mac)
        state = replace(self.bare, previous=Previous(gateways={("ens4", 4): told}))
        expected = ("10.1.0.1", "earlier run") if kept else None
        assert self.gateway(state, Stanza()) == expected

    @pytest.mark.parametrize(("source", "by"), [("only gateway", "ens3"), ("guess", "ens4")])
    def test_what_was_found_before_is_trusted_as_it_was(self, source, by):
        """Or the siblings' routes to its subnet would come and go with a silence."""
        told = PreviousGateway(source, ip_address("10.1.0.1"), mac_of(3))
        state = replace(self.bare, previous=Previous(gateways={("ens4", 4): told}))
        assert way(state, ip_address("10.0.0.5"), "10.1.0.77")[0] == by

    def test_a_gateway_outside_the_subnet_is_a_fault_unless_on_link(self):
        entry = InterfaceStanza("ens4", gateway4=IPv4Address("10.9.0.1"))
        with pytest.raises(
            StanzaError, match=r"interfaces\.ens4\.gateway4: 10\.9\.0\.1 is in no subnet"
        ):
            build_plan(Stanza(interfaces=(entry,)), self.bare)
        plan = build_plan(Stanza(interfaces=(replace(entry, on_link=True),)), self.bare)
        assert plan.nic("ens4").gateways[4].onlink

    def test_the_stanzas_own_routes_go_into_the_nics_table(self):
        entry = InterfaceStanza(
            "ens4",
            gateway4=IPv4Address("10.1.0.1"),
            routes=(StanzaRoute(ip_network("10.50.0.0/16"), ip_address("10.1.0.9")),),
        )
        plan = build_plan(Stanza(interfaces=(entry,)), self.bare)
        assert "10.50.0.0/16 via 10.1.0.9 dev ens4 table 501" in [
            describe_route(r) for r in plan.nic("ens4").routes
        ]


class TestTableNumbers:
    def test_names_keep_their_numbers_and_new_ones_take_free_ones(self):
        state = replace(SEED, saved_tables={"ens4": 500})
        plan = build_plan(Stanza(), state)
        assert {nic.name: nic.table for nic in plan.nics} == {"ens3": 501, "ens4": 500}

    def test_a_nic_that_is_down_keeps_its_number_and_one_that_is_gone_does_not(self):
        links = tuple(
            link._replace(up=False) if link.name == "ens4" else link for link in SEED.links
        )
        saved = {"ens4": 507, "ens9": 508}
        plan = build_plan(Stanza(), replace(SEED, links=links, saved_tables=saved))
        assert plan.reserved_tables == {"ens4": 507}

    def test_the_hand_made_table_of_a_nic_is_not_taken_over(self):
        state = replace(SEED, foreign_tables={500: "ens4"})
        plan = build_plan(Stanza(), state)
        assert {nic.name: nic.table for nic in plan.nics} == {"ens3": 501, "ens4": 502}
        made = Route(500, ip_network("0.0.0.0/0"), "ens4", ip_address("10.13.96.1"), protocol=3)
        state = replace(state, routes=(*SEED.routes, made))
        with pytest.raises(StanzaError, match="already holds routes"):
            build_plan(Stanza(interfaces=(InterfaceStanza("ens4", table=500),)), state)

    def test_a_number_that_somebody_has_named_since_is_given_up(self):
        state = replace(SEED, saved_tables={"ens3": 500, "ens4": 501}, foreign_tables={500: "ens4"})
        assert {nic.name: nic.table for nic in build_plan(Stanza(), state).nics} == {
            "ens3": 502,
            "ens4": 501,
        }

    def test_a_table_into_which_somebody_has_put_a_default_is_given_up(self):
        theirs = Route(500, ip_network("0.0.0.0/0"), "ens4", ip_address("10.13.96.1"), protocol=3)
        state = replace(
            SEED, saved_tables={"ens3": 500, "ens4": 501}, routes=(*SEED.routes, theirs)
        )
        assert build_plan(Stanza(), state).nic("ens3").table == 502

    def test_another_route_in_a_table_of_ours_leaves_it_ours(self):
        theirs = Route(500, ip_network("9.0.0.0/8"), "ens3", protocol=4)
        state = replace(
            SEED, saved_tables={"ens3": 500, "ens4": 501}, routes=(*SEED.routes, theirs)
        )
        assert build_plan(Stanza(), state).nic("ens3").table == 500

    def test_somebody_elses_number_is_never_taken(self):
        foreign = Route(500, ip_network("9.0.0.0/8"), "ens3", protocol=4)
        state = replace(SEED, routes=(*SEED.routes, foreign), foreign_tables={501: "vpn"})
        assert {nic.table for nic in build_plan(Stanza(), state).nics} == {502, 503}

    def test_an_explicit_number_that_has_another_name_is_a_fault(self):
        entry = InterfaceStanza("ens4", table=700)
        state = replace(SEED, foreign_tables={700: "vpn"})
        with pytest.raises(StanzaError, match="already named vpn"):
            build_plan(Stanza(interfaces=(entry,)), state)


# -- any topology --------------------------------------------------------------

octet = st.integers(0, 255)


@st.composite
def topologies(draw):
    """Up to five NICs with overlapping subnets, static and daemon routes, bridges."""
    nics, routes = {}, []
    for number in range(draw(st.integers(2, 5))):
        name = f"ens{number + 3}"
        second = draw(st.integers(0, 3))
        third = draw(st.integers(0, 3))
        length = draw(st.sampled_from([16, 20, 24, 28]))
        nics[name] = [f"10.{second}.{third}.{10 + number}/{length}"]
        gateway = f"10.{second}.{third}.1"
        routes.append(route(f"default via {gateway}", name, metric=number))
        if draw(st.booleans()):
            net = ip_network(f"10.{draw(st.integers(0, 7))}.0.0/16")
            routes.append(route(f"{net} via {gateway}", name, metric=number))
        if draw(st.booleans()):
            net = f"10.{draw(st.integers(0, 3))}.{draw(st.integers(0, 7))}.0/24"
            routes.append(route(f"{net} via 10.{second}.{third}.9", name, protocol=12))
    if draw(st.booleans()):
        routes.append(route(f"10.{draw(st.integers(0, 3))}.4.0/24", "docker0", PROTO_KERNEL))
    return host(nics, routes)


@settings(max_examples=300)
@given(topologies(), st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), octet), min_size=5))
def test_every_packet_leaves_by_its_owner_or_by_mains_own_word(state, samples):
    plan = build_plan(Stanza(), state)
    main = [r for r in state.routes if r.dst.prefixlen > 1]
    own = {address.ip for address in state.addresses}
    for nic in plan.nics:
        for interface in nic.addresses:
            for second, third, fourth in samples:
                destination = ip_address(f"10.{second}.{third}.{fourth}")
                if destination in own:
                    continue
                found, _priority = lookup(plan, state.routes, interface.ip, destination)
                assert found is not None
                said = longest(main, destination)
                assert found.dev == nic.name or (said and said.dev == found.dev)
            remote, _priority = lookup(plan, state.routes, interface.ip, REMOTE)
            assert remote.dev == nic.name


@settings(max_examples=100)
@given(topologies())
def test_a_plan_depends_on_nothing_but_its_input(state):
    shuffled = replace(
        state, links=state.links[::-1], addresses=state.addresses[::-1], routes=state.routes[::-1]
    )
    assert build_plan(Stanza(), state) == build_plan(Stanza(), shuffled)
