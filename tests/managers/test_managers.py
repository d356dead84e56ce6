"""What is routed by source stays so, whatever the network manager does.

One server a manager, booted for the first time from an image with the module;
then one thing after the other happens to it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path

import pytest
from imagebuild import bake, lab, nspawn
from imagebuild.configdrive import ConfigDrive
from imagebuild.guest import wait_for_boot
from imagebuild.progress import Progress

from ..boot.story import OFF, ON, Server
from ..daemons.roots import root_tree
from .dhcp import DhcpServer
from .worlds import WORLDS, World

pytestmark = pytest.mark.boot

WITHIN_SECONDS = 5.0
TOUCHED = "ens4"  # the NIC to which things happen


@dataclass
class Place:
    """A booted server, the world it is of, and who leases it its addresses."""

    server: Server
    world: World
    dhcp: DhcpServer | None

    @property
    def guest(self) -> nspawn.ContainerGuest:
        return self.server.guest  # type: ignore[return-value]

    def shell(self, script: str) -> str:
        done = self.guest.run(["sh", "-c", script.format(nic=TOUCHED)])
        assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
        return done.stdout

    def addresses(self) -> list[str]:
        """What has to answer; a DHCP lease is IPv4."""
        ports = self.server.place.ports
        found = [str(port.address4.ip) for port in ports]
        if not self.world.dhcp:
            found += [str(port.address6.ip) for port in ports]
        return found

    def silent(self) -> list[str]:
        place = self.server.place
        return [address for address in self.addresses() if not place.answers(address)]

    def becomes_well(self) -> float:
        """Seconds until `check` is content; fails after `WITHIN_SECONDS`."""
        begun = time.monotonic()
        while True:
            done = self.guest.run(["source-routing", "check"])
            seconds = time.monotonic() - begun
            if done.returncode == 0:
                return seconds
            assert seconds < WITHIN_SECONDS, done.stdout + done.stderr
            time.sleep(0.2)

    def duplicates(self) -> list[str]:
        """Rules and routes of our tables that are there twice, whoever owns up to them."""
        found: list[str] = []
        for family in ("-4", "-6"):
            listing = self.shell(f"ip -N {family} rule; ip -N {family} route show table all")
            lines = [re.sub(r" proto \S+", "", line).strip() for line in listing.splitlines()]
            found += [line for line, count in Counter(lines).items() if line and count > 1]
        return found

    def is_well(self) -> None:
        """All that has to hold after anything that happens."""
        self.becomes_well()
        assert self.silent() == []
        assert self.duplicates() == []


@contextlib.contextmanager
def boot(world: World, image: Path, user_data: str, scratch: Path) -> Iterator[Place]:
    home = scratch / f"guest-{uuid.uuid4().hex[:8]}"
    home.mkdir()
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(lab.Lab(lab.ports(2)))
        dhcp = None
        if world.dhcp:
            dhcp = DhcpServer(place, root_tree("dhcp", "dnsmasq-base"), home)
            stack.callback(dhcp.stop)
        drive = ConfigDrive(place.ports, user_data, dhcp=world.dhcp)
        lowers = [*world.lay_over(home), image]
        guest = stack.enter_context(nspawn.booted(place, lowers, drive, home / "guest"))
        yield Place(Server(place, guest, wait_for_boot(guest)), world, dhcp)


@pytest.fixture(scope="module", params=list(WORLDS))
def world(request: pytest.FixtureRequest) -> World:
    return WORLDS[request.param]


@pytest.fixture(scope="module")
def image(world: World, progress: Progress) -> Path:
    return bake.baked_root(world.recipe, progress)


@pytest.fixture(scope="module")
def served(world: World, image: Path, scratch: Path) -> Iterator[Place]:
    with boot(world, image, ON, scratch) as place:
        yield place


def test_without_the_stanza_only_the_first_nic_answers(
    world: World, image: Path, scratch: Path
) -> None:
    with boot(world, image, OFF, scratch) as place:
        second = place.server.place.ports[1]
        expected = {str(second.address4.ip), str(second.address6.ip)} & set(place.addresses())
        until = time.monotonic() + 20
        while (silent := set(place.silent())) != expected and time.monotonic() < until:
            # With DHCP both NICs have a default of the same weight, and which of
            # the two counts takes the kernel a while to make up its mind.
            if world.dhcp and len(silent) == 1:
                break
            time.sleep(1)
        assert silent == expected or (world.dhcp and len(silent) == 1), silent
        assert "5000:" not in place.shell("ip rule; ip -6 rule")


class TestFirstBoot:
    def test_it_ends_well_and_every_address_answers(self, served: Place) -> None:
        served.is_well()
        status = served.server.boot.status
        assert status["status"] == "done", status
        assert served.server.boot.status_code == 0, status

    def test_the_manager_is_recognised(self, served: Place) -> None:
        told = served.shell("source-routing status")
        assert f"Renderer: {served.world.renderer}" in told

    def test_those_who_answered_are_this_guest(self, served: Place) -> None:
        served.silent()
        neighbours = served.server.neighbours()
        own = served.server.own_macs()
        assert {address: neighbours[address] for address in served.addresses()} == {
            address: own[address] for address in served.addresses()
        }

    def test_the_manager_has_nothing_to_complain_of_in_our_files(self, served: Place) -> None:
        journal = served.shell("journalctl -b --no-pager -p warning -o cat")
        ours = [line for line in journal.splitlines() if "source-routing" in line]
        # What systemd says when a unit's drop-in came while it ran is no complaint.
        assert [line for line in ours if "changed on disk" not in line] == []


def test_all_is_well_within_seconds_after_whatever_happens(
    served: Place, record_property: Callable[[str, object], None]
) -> None:
    """One thing after the other: each finds what the one before has left."""
    failures = {}
    for name, happen in happenings(served).items():
        try:
            happen()
            record_property(name, f"well after {served.becomes_well():.1f} s")
            served.is_well()
        except AssertionError as error:
            failures[name] = str(error)
    assert failures == {}


def test_a_reload_that_changes_nothing_loses_no_packet(
    served: Place, record_property: Callable[[str, object], None]
) -> None:
    served.is_well()
    lost = _lost_during(served, served.world.reload)
    record_property("lost", str(lost))
    assert set(lost.values()) == {0}, lost


def test_all_is_well_after_a_reboot(served: Place) -> None:
    served.server.reboot()
    served.is_well()
    assert served.server.boot.status["status"] == "done"


def test_nothing_is_left_when_it_is_removed(served: Place, image: Path) -> None:
    served.shell("source-routing remove")
    time.sleep(3)  # the manager has been told, and might bring something back
    for family in ("-4", "-6"):
        rules = served.shell(f"ip {family} rule")
        assert re.findall(r"^50\d\d:", rules, re.MULTILINE) == []
    assert _files(served) == {path for path in _files(served) if (image / path[1:]).exists()}
    states = served.shell("systemctl is-active 'source-routing*' || :").split()
    assert set(states) <= {"inactive", "unknown"}
    _restore(served)


def _files(served: Place) -> set[str]:
    """Files that bear our name or stand in a directory that does."""
    return set(served.shell("find /etc /usr/lib/systemd -path '*source-routing*'").split())


def _restore(served: Place) -> None:
    """For whoever is asked next: as after the first boot."""
    served.shell(
        "echo 'source_routing: true' >/tmp/on.yaml; source-routing --config /tmp/on.yaml apply"
    )
    served.is_well()


def happenings(served: Place) -> dict[str, Callable[[], object]]:
    """What can happen to a server of this world, in order, by name."""
    told: dict[str, Callable[[], object]] = {
        name: functools.partial(served.shell, script)
        for name, script in served.world.events.items()
    }
    if served.dhcp is not None:
        leased = served.server.place.ports[1].address4
        other = type(leased)((leased.ip + 7, leased.network.prefixlen))
        told["the lease is for another address"] = functools.partial(_lease, served, other)
        told["the lease is for the first one again"] = functools.partial(_lease, served, leased)
    return told


def _lease(served: Place, address: IPv4Interface) -> None:
    """Let the next renewal bring `address`, and the cloud know of it."""
    assert served.dhcp is not None
    place = served.server.place
    first, second = place.ports
    moved = dataclasses.replace(second, address4=address)
    served.dhcp.start([first, moved])
    served.shell(served.world.renew)
    _wait_for(served, str(address.ip))
    place.router.run(["nft", "delete", "table", "netdev", f"guard_{second.name}"])
    place.router.run(["nft", "-f", "-"], stdin=lab.anti_spoofing(moved))
    place.ports = (first, moved)
    served.becomes_well()
    rules = served.shell("ip rule")
    assert f"from {address.ip} " in rules
    assert f"from {second.address4.ip} " not in rules


def _wait_for(served: Place, address: str, seconds: float = 20) -> None:
    assert served.dhcp is not None
    until = time.monotonic() + seconds
    while f" {address}/" not in served.shell("ip -o -4 address show"):
        assert time.monotonic() < until, f"{address} was never leased\n{served.dhcp.log()}"
        time.sleep(0.5)


def _lost_during(served: Place, command: str) -> dict[str, int]:
    """Packets lost of a dense stream of pings to each address while `command` runs."""
    remote = served.server.place.remote
    meters = {}
    for address in served.addresses():
        argv = ["ping", "-n", "-q", "-i", "0.01", "-c", "400", "-W", "2", address]
        meters[address] = _popen([*remote.prefix(), *argv])
    time.sleep(1)
    served.shell(command)
    lost = {}
    for address, meter in meters.items():
        told = meter.communicate(timeout=60)[0]
        sent, received = map(int, re.findall(r"(\d+) packets transmitted, (\d+) received", told)[0])
        lost[address] = sent - received
    return lost


def _popen(argv: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
