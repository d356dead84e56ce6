"""Leases on booted servers: IPv6 addresses by DHCPv6, and IPv4 leases that run out.

What changes with a renewal is asked of networkd in `test_router_advertisements`,
of the other clients in the daemons' tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
from imagebuild import bake
from imagebuild.lab import network
from imagebuild.lab.config_drive import ConfigDrive
from imagebuild.lab.network import Port
from imagebuild.progress import Progress

from ..daemons.routers import Advertisement, Prefix
from ..sizes import one_each
from .test_router_advertisements import WORLDS, Place, boot

pytestmark = pytest.mark.boot

RENEW6 = {
    "networkd": "networkctl reconfigure {nic}",
    "network-manager": "nmcli connection up $(nmcli -g GENERAL.CON-UUID device show {nic})",
}


class Stateful(ConfigDrive):
    """Metadata of ports whose subnets lease addresses of both families."""

    def _networks(self, number: int, port: Port) -> list[dict[str, Any]]:
        common = {"link": f"tap{number}", "network_id": f"net{number}"}
        return [
            {"id": f"network{number}", "type": "ipv4_dhcp", **common},
            {"id": f"network{number}-v6", "type": "ipv6_dhcpv6-stateful", **common},
        ]


def managed(port: Port) -> Advertisement:
    """A router that is the gateway, and says that addresses are leased."""
    prefix = Prefix(str(port.address6.network), autonomous=False)
    return Advertisement(port.tap, (prefix,), managed=True)


def leases(*addresses: IPv6Address) -> tuple[str, ...]:
    return tuple(f"--dhcp-range={ip},{ip},64,10m" for ip in addresses)


def own(ports: tuple[Port, ...]) -> tuple[str, ...]:
    return leases(*(port.address6.ip for port in ports))


@pytest.fixture(
    scope="module",
    params=one_each(RENEW6, ("network-manager",), "leases of both families, under networkd"),
)
def place(request: pytest.FixtureRequest, progress: Progress, scratch: Path) -> Iterator[Place]:
    image = bake.baked_root(WORLDS[request.param], progress)
    told = own(network.ports(2))
    with boot(request.param, image, scratch, Stateful, managed, told) as made:
        yield made


@pytest.fixture(autouse=True)
def _recorded(place: Place, record_property: Callable[[str, object], None]) -> Iterator[None]:
    yield
    place.recorded(record_property)


def test_leases_of_both_families_are_served_from_the_first_boot(place: Place) -> None:
    wanted = {str(port.address6.ip) for port in place.ports}
    place.happens(lambda: wanted <= set(place.usable()))
    place.happens(lambda: all(f" {port.address4.ip}/" in place.leased() for port in place.ports))
    place.heals("first boot", lambda: wanted <= place.ruled())
    assert all(place.gateway(port.name) for port in place.ports), place.story()


@pytest.mark.repeats
def test_another_address_by_dhcpv6_is_served_and_the_old_one_forgotten(place: Place) -> None:
    first, second = place.ports
    (old,) = map(IPv6Address, place.usable(second.name))
    new = second.address6.ip + (7 if old == second.address6.ip else 0)
    place.dhcp.start(place.ports, *leases(first.address6.ip, new))
    place.shell(RENEW6[place.name].format(nic=second.name))
    place.happens(lambda: place.usable(second.name) == [str(new)])
    place.heals(
        "another address by DHCPv6",
        lambda: str(new) in place.ruled() and str(old) not in place.ruled(),
    )


@pytest.mark.repeats
def test_an_ipv4_lease_that_runs_out_takes_its_rules_along_and_the_next_brings_them_back(
    place: Place,
) -> None:
    second = place.ports[1]
    address = str(second.address4.ip)
    place.dhcp.start_briefly(second, 6)
    place.shell(RENEW6[place.name].format(nic=second.name))
    place.happens(lambda: "sending ACK" in place.dhcp.log())
    place.dhcp.stop()
    place.happens(lambda: f" {address}/" not in place.leased())
    place.heals("an expired lease", lambda: f"from {address} " not in place.shell("ip rule"))
    place.dhcp.start(place.ports, *own(place.ports))
    place.happens(lambda: f" {address}/" in place.leased())
    place.heals("a lease again", lambda: f"from {address} " in place.shell("ip rule"))
