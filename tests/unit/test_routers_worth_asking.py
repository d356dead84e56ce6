"""Which NICs' routers are asked to speak up: where one is to be expected, and none is known."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from cc_source_routing import engine
from cc_source_routing.kernel.router_solicitation import ANSWER_SECONDS
from cc_source_routing.model import (
    ADVERTISED,
    SILENT,
    TABLE_MAIN,
    Address,
    HostState,
    Link,
    Neighbour,
    Previous,
    PreviousGateway,
    Route,
    Stanza,
)
from cc_source_routing.plan.decide import decide

ENS3 = Link(2, "ens3", "fa:16:3e:00:00:03")
ENS4 = Link(3, "ens4", "fa:16:3e:00:00:04")
ROUTER = ip_address("fe80::a")


def leased(dev: str, text: str) -> Address:
    return Address(dev, ip_interface(text), dynamic=True)


def default(dev: str) -> Route:
    return Route(TABLE_MAIN, ip_network("::/0"), dev, ROUTER, 1024)


BOTH = HostState(
    links=(ENS3, ENS4),
    addresses=(leased("ens3", "2001:db8:3::100/64"), leased("ens4", "2001:db8:4::100/64")),
    routes=(default("ens3"), default("ens4")),
)
SECOND_UNTOLD = replace(
    BOTH,
    addresses=(*BOTH.addresses, Address("ens4", ip_interface("192.0.2.4/24"))),
    routes=(
        default("ens3"),
        Route(TABLE_MAIN, ip_network("0.0.0.0/0"), "ens4", ip_address("192.0.2.1")),
    ),
)


def names(state: HostState, stanza: Stanza = Stanza()) -> list[str]:
    return [link.name for link in decide(stanza, state).routerless]


def test_who_has_a_default_is_not_asked():
    assert names(BOTH) == []


def test_a_leased_address_without_a_router_is_worth_a_question():
    assert names(SECOND_UNTOLD) == ["ens4"]


def test_one_that_is_known_already_is_not_asked_again():
    router = Neighbour("ens4", ROUTER, reachable=True, router=True)
    assert names(replace(SECOND_UNTOLD, neighbours=(router,))) == []


def test_an_address_set_by_hand_would_have_its_gateway_from_there():
    fixed = tuple(address._replace(dynamic=False) for address in SECOND_UNTOLD.addresses)
    assert names(replace(SECOND_UNTOLD, addresses=fixed)) == []


def test_a_router_that_has_said_goodbye_is_not_begged():
    earlier = {("ens4", 6): PreviousGateway(ADVERTISED, ROUTER, ENS4.mac)}
    assert names(replace(SECOND_UNTOLD, previous=Previous(gateways=earlier))) == []


@pytest.mark.parametrize("stanza", [Stanza(families=frozenset((4,))), Stanza(exclude=("ens4",))])
def test_who_does_not_want_ipv6_there_sends_nothing(stanza: Stanza):
    assert names(SECOND_UNTOLD, stanza) == []


def test_one_nic_alone_needs_no_router_of_its_own():
    state = replace(SECOND_UNTOLD, links=(ENS4,), addresses=SECOND_UNTOLD.addresses[1:])
    assert names(state) == []


def test_who_was_silent_is_asked_again_but_not_waited_for_again(monkeypatch):
    """Else each event of a NIC without a router would take seconds, under the lock."""
    waited: list[float] = []

    def ask(_kernel: object, _links: object, wait: float) -> tuple[Neighbour, ...]:
        waited.append(wait)
        return ()

    silent = Previous(gateways={("ens4", 6): PreviousGateway(SILENT, None, ENS4.mac)})
    replaced = Previous(gateways={("ens4", 6): PreviousGateway(SILENT, None, ENS3.mac)})
    monkeypatch.setattr(engine, "ask_routers", ask)
    for previous in (Previous(), silent, replaced):
        state = replace(SECOND_UNTOLD, previous=previous)
        stanza = Stanza(gateway_guess="never")
        engine.plan_with_answers(None, stanza, state, solicit=True)  # type: ignore[arg-type]
    assert waited == [ANSWER_SECONDS, 0.0, ANSWER_SECONDS]


def test_it_has_nothing_to_do_with_guessing():
    assert names(SECOND_UNTOLD, Stanza(gateway_guess="never")) == ["ens4"]
