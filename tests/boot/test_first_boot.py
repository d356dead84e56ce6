"""A server with several NICs, from its first boot on: in a container and in a machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from imagebuild.lab import nspawn, qemu
from lab import comes_true

from . import devices
from .story import OFF, ON, Server, first_boot, hot_port, instance_of, patience

pytestmark = pytest.mark.boot

# The quick one first.  The virtual machine adds firmware, boot loader, kernel,
# udev's names and ds-identify.
KINDS = {
    "container": ("bookworm", 2),
    "machine": ("bookworm_disk", 2),
    "newer machine": ("trixie_disk", 2),
}
MARKS = {
    "container": [],
    "machine": [pytest.mark.machine],
    "newer machine": [
        pytest.mark.machine,
        pytest.mark.thorough("an emulated machine with Debian 13"),
    ],
}

HOT = hot_port()
# Somebody who configures it without its network manager.
BY_HAND = (
    "ip link set ens9 up; ip address add 198.51.100.9/24 dev ens9; "
    "ip route add default via 198.51.100.1 dev ens9 metric 900"
)


class Golden(NamedTuple):
    """An image and how many NICs its servers get."""

    image: Path
    nics: int


@pytest.fixture(scope="module", params=[pytest.param(name, marks=MARKS[name]) for name in KINDS])
def golden(request: pytest.FixtureRequest) -> Golden:
    name, nics = KINDS[request.param]
    return Golden(request.getfixturevalue(name), nics)


# A class each, so that one machine runs at a time.
@pytest.fixture(scope="class")
def without(golden: Golden, scratch: Path) -> Iterator[Server]:
    """The negative control: the same image, the module told to keep out."""
    with first_boot(golden.image, OFF, scratch, nics=golden.nics) as server:
        yield server


@pytest.fixture(scope="class")
def served(golden: Golden, scratch: Path) -> Iterator[Server]:
    with first_boot(golden.image, ON, scratch, nics=golden.nics) as server:
        yield server


class TestWithoutTheModule:
    def test_only_the_first_nic_answers(self, without: Server) -> None:
        found = without.comes_to_answer_by_its_first_nic()
        assert found == without.expected(only_first_nic=True)

    def test_the_silent_nic_is_there_and_its_replies_were_lost_on_the_wrong_way(
        self, without: Server
    ) -> None:
        without.reachable()
        assert without.neighbours() == without.own_macs()
        first, *others = without.place.ports
        assert without.place.spoofed(first) > 0
        assert [without.place.spoofed(port) for port in others] == [0] * len(others)

    def test_nothing_of_ours_is_in_kernel_or_files(self, without: Server) -> None:
        for family in ("-4", "-6"):
            rules = without.guest.run(["ip", family, "rule"]).stdout.split("\n")
            assert [rule for rule in rules if not re.match(r"(0|32766|32767):|$", rule)] == []
        listing = without.guest.run(["ls", "/etc/source-routing", "/etc/network/if-up.d"])
        assert "source-routing" not in listing.stdout


class TestWithTheStanza:
    def test_every_address_answers_the_remote_host(self, served: Server) -> None:
        assert served.comes_to_answer_everywhere() == served.expected(only_first_nic=False)

    def test_those_who_answered_are_this_guest(self, served: Server) -> None:
        served.comes_to_answer_everywhere()
        assert served.neighbours() == served.own_macs()
        assert instance_of(served) == served.guest.drive.uuid

    def test_no_packet_leaves_by_a_nic_that_does_not_own_its_source(self, served: Server) -> None:
        served.comes_to_answer_everywhere()
        assert not any(served.place.spoofed(port) for port in served.place.ports)

    def test_cloud_init_is_done_without_errors(self, served: Server) -> None:
        assert served.boot.status_code == 0, served.boot.status
        assert served.boot.status["status"] == "done"
        assert served.boot.status["errors"] == []

    def test_the_guest_says_that_all_is_well(self, served: Server) -> None:
        code, said = served.check()
        assert code == 0, said

    def test_no_unit_has_failed(self, served: Server) -> None:
        failed = served.guest.run(["systemctl", "--failed", "--no-legend", "--plain"])
        assert failed.stdout == ""

    def test_applying_again_changes_nothing(self, served: Server) -> None:
        before = routing(served)
        done = served.guest.run(["source-routing", "apply"])
        assert done.returncode == 0, done.stderr
        assert routing(served) == before

    @pytest.mark.thorough("hotplug, bonds, VLANs and reboots in an emulated machine", of="machine")
    def test_a_port_that_is_plugged_in_is_served_and_pulled_out_leaves_nothing(
        self, served: Server
    ) -> None:
        guest = served.guest
        if isinstance(guest, nspawn.ContainerGuest):
            assert guest.network is not None
            served.place.plug(HOT, guest.network)
        else:
            assert isinstance(guest, qemu.VirtualGuest)
            guest.plug(HOT, slot=9)
        assert eventually(served, f"ip -o link show {HOT.name}")
        done = guest.run(["sh", "-c", BY_HAND])
        assert done.returncode == 0, done.stderr
        assert eventually(served, f"ip rule | grep -F 'from {HOT.address4.ip} '")
        assert served.place.becomes_reachable(HOT.address4.ip, patience(guest))
        if isinstance(guest, nspawn.ContainerGuest):
            served.place.pull(HOT)
        else:
            guest.pull(HOT)
        assert eventually(served, f"! ip rule | grep -F {HOT.address4.ip}")
        assert eventually(served, f"! grep -rlw {HOT.name} /etc/source-routing /etc/iproute2")
        code, said = served.check()
        assert code == 0, said

    @pytest.mark.thorough("hotplug, bonds, VLANs and reboots in an emulated machine", of="machine")
    @pytest.mark.own_kernel
    def test_bonds_and_vlans_are_served_as_they_come_fail_over_and_go(self, served: Server) -> None:
        does(served, devices.PEER)
        does(served, devices.ADD_BOND)
        assert eventually(served, devices.BOND_ANSWERS), routing(served)
        assert eventually(served, devices.asks(devices.BOND_ADDRESS)), routing(served)
        before = routing(served)
        active = does(served, devices.ACTIVE)
        does(served, devices.FAIL_OVER)
        assert eventually(served, f"test $({devices.ACTIVE}) != {active}")
        assert eventually(served, devices.asks(devices.BOND_ADDRESS)), routing(served)
        assert routing(served) == before
        does(served, devices.ADD_VLAN)
        assert eventually(served, devices.VLAN_ANSWERS), routing(served)
        assert eventually(served, devices.asks(devices.VLAN_ADDRESS)), routing(served)
        assert served.check()[0] == 0
        does(served, devices.REMOVE_VLAN)
        assert eventually(served, f"! ip rule | grep -F {devices.VLAN_ADDRESS}")
        assert eventually(served, devices.asks(devices.BOND_ADDRESS)), routing(served)
        does(served, devices.REMOVE_BOND)
        assert eventually(served, f"! ip rule | grep -F {devices.BOND_ADDRESS}")
        assert eventually(served, f"! grep -rlw {devices.BOND} /etc/source-routing /etc/iproute2")
        code, said = served.check()
        assert code == 0, said
        assert not any(served.place.spoofed(port) for port in served.place.ports)

    @pytest.mark.own_kernel
    def test_a_vpn_that_takes_all_traffic_takes_no_replies(self, served: Server) -> None:
        does(served, devices.ADD_VPN)
        assert served.comes_to_answer_everywhere() == served.expected(only_first_nic=False)
        does(served, devices.REMOVE_VPN)
        assert served.comes_to_answer_everywhere() == served.expected(only_first_nic=False)
        assert not any(served.place.spoofed(port) for port in served.place.ports)

    @pytest.mark.thorough("hotplug, bonds, VLANs and reboots in an emulated machine", of="machine")
    def test_after_a_reboot_every_address_answers_again(self, served: Server) -> None:
        served.reboot()
        assert served.comes_to_answer_everywhere() == served.expected(only_first_nic=False)
        assert not any(served.place.spoofed(port) for port in served.place.ports)
        assert served.neighbours() == served.own_macs()
        assert served.boot.status["status"] == "done"
        code, said = served.check()
        assert code == 0, said


def does(server: Server, script: str) -> str:
    done = server.guest.run(["sh", "-c", script])
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def eventually(server: Server, script: str) -> bool:
    """Whether a shell command of the guest comes to succeed."""
    return comes_true(
        lambda: server.guest.run(["sh", "-c", script]).returncode == 0, patience(server.guest)
    )


def routing(server: Server) -> list[str]:
    commands = (
        ["ip", "rule"],
        ["ip", "-6", "rule"],
        ["ip", "route", "show", "table", "all"],
        ["ip", "-6", "route", "show", "table", "all"],
    )
    return [server.guest.run(command).stdout for command in commands]
