"""Servers that are made from snapshots of others, and servers that get their second NIC later.

A stanza belongs to the instance that it was given to: the next one goes by its own, also
where that is none at all.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

import pytest
from imagebuild import bake
from imagebuild.lab import network
from imagebuild.lab.config_drive import ConfigDrive
from imagebuild.lab.guest import wait_for_boot
from imagebuild.progress import Progress
from lab import wait_until

from ...sizes import one_each
from ..story import OFF, SILENT, hot_port
from .test_managers import Place, boot, hot, namespace_of
from .worlds import WORLDS

pytestmark = pytest.mark.boot

STATIC = [world.name for world in WORLDS.values() if not world.dhcp and world.suite != "sid"]
DEFAULT = "/etc/cloud/cloud.cfg.d/80-source-routing.cfg"
FILES = (
    "ls -d /etc/source-routing /etc/iproute2/*/source-routing* /etc/systemd/system/*source-rout* "
    "/etc/systemd/system/*/*source-rout* /etc/systemd/network/*/*source-rout* "
    "/etc/network/*/source-rout* /etc/NetworkManager/dispatcher.d/*source-rout* 2>/dev/null || :"
)


def own_gateways(ports: Sequence[network.Port]) -> str:
    """User-data with a stanza that means these ports and no others."""
    told = {
        port.name: {"gateway4": str(port.gateway4), "gateway6": str(port.gateway6)}
        for port in ports
    }
    stanza = {"rp_filter": "loose", "interfaces": told}
    return "#cloud-config\n" + json.dumps({"source_routing": stanza}) + "\n"


def moved(ports: Sequence[network.Port], number: int) -> tuple[network.Port, ...]:
    """As many ports, of other networks for each `number`."""
    return tuple(
        dataclasses.replace(
            port,
            mac=f"fa:16:3e:{number:02x}:00:{index:02x}",
            address4=(ip4 := IPv4Interface(f"10.{100 + number}.{index}.{20 + number}/24")),
            gateway4=ip4.network.network_address + 1,
            address6=(ip6 := IPv6Interface(f"2001:db8:{number}{index:02x}::{20 + number}/64")),
            gateway6=ip6.network.network_address + 1,
            routes4=(f"198.18.{index}.0/24",),
        )
        for index, port in enumerate(ports)
    )


def becomes(place: Place, ports: Sequence[network.Port], user_data: str) -> None:
    """Boot from what is on the disk as another server, with these ports and this user-data."""
    place.guest.reboot(ConfigDrive(ports, user_data))
    place.server.boot = wait_for_boot(place.guest)
    place.has_its_addresses()
    assert place.server.boot.status["status"] == "done", place.server.boot.status


def ways(place: Place) -> dict[str, object]:
    """How the server gets about: rules and routes, by each device, and whom it answers."""
    bound = {
        f"{port.name} to {address}": place.guest.run(
            ["ping", "-c1", "-W1", "-I", port.name, str(address)]
        ).returncode
        for port in place.server.place.ports
        for address in (network.REMOTE4.ip, network.REMOTE6.ip)
    }
    tables = place.shell("ip -N rule; ip -N -6 rule; ip -N route show table all | grep -v expires")
    return {"bound": bound, "silent": place.silent(), "kernel": tables}


def has_nothing_of_ours(place: Place) -> None:
    assert place.shell(FILES) == ""
    before = ways(place)
    assert " proto 83" not in str(before["kernel"]) and "\n5000:" not in str(before["kernel"])
    told = place.shell("source-routing remove")
    assert told.startswith("Nothing to change"), told
    assert ways(place) == before


@pytest.fixture(params=one_each(STATIC, ("trixie-netplan",), "snapshots, under other managers"))
def former(request: pytest.FixtureRequest, scratch: Path, progress: Progress) -> Iterator[Place]:
    """A server with a stanza that names the gateways of its own ports."""
    world = WORLDS[request.param]
    user_data = own_gateways(network.ports(world.nics))
    with boot(world, bake.baked_root(world.recipe, progress), user_data, scratch) as place:
        place.is_well()
        yield place


def test_a_server_made_from_a_snapshot_goes_by_its_own_stanza(former: Place) -> None:
    """One after the other, each made from the one before: true, none, false, the image's."""
    place, first = former, former.server.place.ports
    more = (*moved(first, 1), dataclasses.replace(moved(first, 1)[0], name="ens8"))
    second = (*more[:-1], dataclasses.replace(moved(first, 2)[0], name="ens8"))
    becomes(place, second, own_gateways(second))
    place.is_well()
    assert place.rules() == set(place.addresses())

    becomes(place, moved(first, 3), SILENT)
    has_nothing_of_ours(place)

    fourth = moved(first, 4)
    becomes(place, fourth, own_gateways(fourth))
    place.is_well()
    becomes(place, moved(first, 5), OFF)
    has_nothing_of_ours(place)

    place.shell(f"printf 'source_routing: true\\n' >{DEFAULT}")
    sixth = moved(first, 6)
    becomes(place, sixth, own_gateways(sixth))
    place.is_well()
    becomes(place, moved(first, 7)[:1], SILENT)
    assert "5000:" not in place.shell("ip rule; ip -6 rule")
    gets_its_second_nic(place)


@pytest.fixture(params=one_each(STATIC, ("trixie-networkd",), "late NICs, under other managers"))
def alone(request: pytest.FixtureRequest, scratch: Path, progress: Progress) -> Iterator[Place]:
    """A server with one NIC, and a stanza."""
    world = dataclasses.replace(WORLDS[request.param], nics=1)
    user_data = "#cloud-config\nsource_routing: {rp_filter: loose}\n"
    with boot(world, bake.baked_root(world.recipe, progress), user_data, scratch) as place:
        yield place


def test_a_second_nic_that_comes_later_is_served_with_the_stanza(alone: Place) -> None:
    waits_for_a_second_nic(alone)
    alone.server.reboot()
    waits_for_a_second_nic(alone)
    gets_its_second_nic(alone)
    assert '"rp_filter": "loose"' in alone.shell("cat /etc/source-routing/stanza.json")


def waits_for_a_second_nic(place: Place) -> None:
    """No rule, no route, no process; what listens does."""
    wait_until(lambda: "active" in place.guest.run(IS_LISTENING).stdout.split())
    assert "5000:" not in place.shell("ip rule; ip -6 rule")
    assert place.shell("ls /etc/source-routing").split() == [
        "instance-id",
        "one-nic",
        "stanza.json",
    ]
    wait_until(lambda: "source-routing" not in place.shell("ps -eo args | grep [s]ource-r || :"))
    assert place.shell("source-routing check").startswith("Nothing is managed here")


IS_LISTENING = ["systemctl", "is-active", "source-routing-second-nic.socket"]


def gets_its_second_nic(place: Place) -> None:
    """It is plugged in, and a while later somebody configures it."""
    port = hot_port(1)
    place.server.place.plug(port, namespace_of(place))
    wait_until(lambda: place.guest.run(["test", "-e", "/etc/source-routing/one-nic"]).returncode)
    place.shell(hot(place, port))
    assert place.serves(port), place.shell("source-routing status") + place.story()
    place.is_well()
    assert place.guest.run(IS_LISTENING).stdout.strip() == "inactive"
