"""Leases that are renewed, changed, refused, lost and granted again, with each DHCP client.

Each event has to be over within two seconds of what the client itself does,
by events alone, and the sibling NIC must not notice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import pytest
from lab import Lab, wait_until

from ..results import Measured
from ..sizes import one_each
from .dhcp import CLIENTS, OTHER_ROUTERS, USUAL, Terms, World

pytestmark = [pytest.mark.daemon, pytest.mark.repeats]

OTHER_ADDRESS = "10.13.96.200"


@pytest.fixture(
    scope="module", params=one_each(CLIENTS, ("dhclient",), "leases of dhcpcd and NetworkManager")
)
def world(
    request: pytest.FixtureRequest, _no_leftovers: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    home = tmp_path_factory.mktemp("dhcp")
    with Lab() as lab, World.begin(CLIENTS[request.param], lab, home) as made:
        made.server.run("source-routing", "apply")
        made.is_well()
        made.server.listen()
        made.server.looks_again()
        yield made


@pytest.fixture(autouse=True)
def _recorded(world: World, record_property: Callable[[str, object], None]) -> Iterator[None]:
    """Each begins with the usual terms, and tells how long the healing took."""
    world.healed.clear()
    yield
    for event, seconds in world.healed.items():
        record_property(*Measured(world.client.name, event, [seconds]).recorded())


def usual(world: World, nic: str) -> bool:
    return world.serves(nic, USUAL[nic].address, USUAL[nic].router)


def test_a_renewal_with_the_same_terms_changes_and_loses_nothing(world: World) -> None:
    before = {nic: world.leasing.granted(nic) for nic in USUAL}
    with world.losing_nothing("ens3", "ens4"), world.nothing_happens():
        for nic, leases in before.items():
            wait_until(lambda nic=nic, leases=leases: world.leasing.granted(nic) > leases + 1)
        world.server.looks_again()
    world.is_well()


@pytest.mark.parametrize("nic", list(USUAL))
def test_another_gateway_is_taken(world: World, nic: str) -> None:
    other = OTHER_ROUTERS[nic]
    sibling = "ens4" if nic == "ens3" else "ens3"
    with world.losing_nothing(sibling):
        world.leasing.tell(**{nic: dataclasses.replace(USUAL[nic], router=other)})
        world.heals(
            f"another gateway for {nic}",
            lambda: world.leasing.granted(nic),
            lambda: world.serves(nic, USUAL[nic].address, other),
        )
        world.leasing.tell(**{nic: USUAL[nic]})
        world.heals(
            f"the first gateway for {nic} again",
            lambda: world.leasing.granted(nic),
            lambda: usual(world, nic),
        )


def test_classless_routes_appear_change_and_go(world: World) -> None:
    """Option 121, as Neutron sends it; who gets it ignores the router (RFC 3442)."""
    told = {
        "classless routes": "10.13.96.2",
        "other classless routes": "10.13.96.1",
    }
    with world.losing_nothing("ens3"):
        for event, gateway in told.items():
            routes = f"169.254.169.254/32,{gateway},0.0.0.0/0,{gateway}"
            world.leasing.tell(ens4=Terms(USUAL["ens4"].address, "10.13.96.9", routes))
            world.heals(
                event,
                lambda: world.leasing.granted("ens4"),
                lambda gateway=gateway: world.serves("ens4", USUAL["ens4"].address, gateway),
            )
        world.leasing.tell(ens4=dataclasses.replace(USUAL["ens4"], router="10.13.96.2"))
        world.heals(
            "no classless routes any more",
            lambda: world.leasing.granted("ens4"),
            lambda: world.serves("ens4", USUAL["ens4"].address, "10.13.96.2"),
        )
        world.leasing.tell(ens4=USUAL["ens4"])
        world.heals(
            "the usual terms again",
            lambda: world.leasing.granted("ens4"),
            lambda: usual(world, "ens4"),
        )


def test_another_address_is_served_and_the_old_one_forgotten(world: World) -> None:
    """The server refuses to renew the old one, and after a while the other one, too."""
    first, router = USUAL["ens4"].address, USUAL["ens4"].router
    world.port_security("ens4", first, OTHER_ADDRESS)
    with world.losing_nothing("ens3"):
        world.leasing.tell(ens4=Terms(OTHER_ADDRESS, router))
        world.heals(
            "another address",
            lambda: world.addresses("ens4") == [OTHER_ADDRESS],
            lambda: world.serves("ens4", OTHER_ADDRESS, router),
        )
        world.port_security("ens4", OTHER_ADDRESS)
        world.is_well()
        world.port_security("ens4", first, OTHER_ADDRESS)
        world.leasing.tell(ens4=Terms(first, router))
        world.heals(
            "the first address again",
            lambda: world.addresses("ens4") == [first],
            lambda: world.serves("ens4", first, router),
        )
    world.port_security("ens4", first)
    world.is_well()


def test_the_sibling_does_not_notice_that_the_nic_with_mains_default_has_no_lease(
    world: World,
) -> None:
    """dhclient's main then has no default at all; that of the others has another one."""
    with world.losing_nothing("ens4"):
        world.leasing.tell(ens3=None)
        world.heals(
            "ens3's lease is refused",
            lambda: world.addresses("ens3") == [],
            lambda: USUAL["ens3"].address not in world.ruled(),
        )
        world.leasing.tell(ens3=USUAL["ens3"])
        world.heals(
            "a lease for ens3 again",
            lambda: world.addresses("ens3") == [USUAL["ens3"].address],
            lambda: usual(world, "ens3"),
        )


def test_a_lease_that_expires_takes_its_rules_along_and_the_next_brings_them_back(
    world: World,
) -> None:
    with world.losing_nothing("ens3"):
        world.leasing.tell_shortly("ens4", 6)
        wait_until(lambda: world.leasing.is_short(USUAL["ens4"].address), story=world.story)
        world.is_well()
        world.leasing.stop()
        world.heals(
            "the lease has expired",
            lambda: world.addresses("ens4") == [],
            lambda: USUAL["ens4"].address not in world.ruled(),
        )
        world.leasing.tell()
        world.heals(
            "a lease again",
            lambda: world.addresses("ens4") == [USUAL["ens4"].address],
            lambda: usual(world, "ens4"),
        )
