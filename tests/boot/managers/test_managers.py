"""What is routed by source stays so, whatever the network manager does.

One server a manager, booted for the first time from an image with the module;
then one thing after the other happens to it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import NamedTuple

import pytest
from imagebuild import bake
from imagebuild.lab import network, nspawn
from imagebuild.lab.config_drive import ConfigDrive
from imagebuild.lab.guest import running, wait_for_boot
from imagebuild.progress import Progress
from lab import PATIENCE_SECONDS, comes_true, wait_until

from ...daemons.roots import root_tree
from ...results import REPEAT, Measured
from ...sizes import one_each
from ..dhcp import DhcpServer
from ..story import OFF, ON, Server, hot_port
from .meter import Streams
from .worlds import BY_HAND, COLD, DEFAULT, HARMLESS, WORLDS, World

pytestmark = pytest.mark.boot

# What is harmless goes on for a second, in which a stream sends fifty packets.
NOTICED_PACKETS = 25
RULES = "/run/lab-rules"  # what `ip monitor` tells
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

    def shell(self, script: str, nic: str = TOUCHED) -> str:
        done = self.guest.run(["sh", "-c", script.format(nic=nic)])
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
        """Who does not answer; all are asked at once."""
        addresses = self.addresses()
        with ThreadPoolExecutor(len(addresses)) as asking:
            answers = list(asking.map(self.server.place.answers, addresses))
        return [address for address, answer in zip(addresses, answers) if not answer]

    def has_its_addresses(self) -> None:
        """Waits for a manager that configures its NICs anew and asks for leases again."""
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            told = self.shell("ip -o address show")
            missing = [ip for ip in self.addresses() if f" {ip}/" not in told]
            if not missing and " tentative" not in told:
                return
            assert time.monotonic() < until, f"{missing} are not there\n{told}"
            time.sleep(0.1)

    def heals(self, streams: Streams) -> float:
        """Seconds until all is well since the addresses are there and may be used.

        Fails after `PATIENCE_SECONDS`.
        """
        self.has_its_addresses()
        begun = time.monotonic()
        until = begun + PATIENCE_SECONDS
        while True:
            asked = time.monotonic()
            done = self.guest.run(["source-routing", "check"])
            if done.returncode == 0 and streams.answering_since(asked):
                return asked - begun
            if asked > until:
                silent = streams.silent_since(asked)
                raise AssertionError(
                    f"silent: {silent}; {done.stdout}{done.stderr}\n{self.story()}"
                )

    def story(self) -> str:
        """What is there, and what we and the network manager have told last."""
        return self.shell(
            "date +%T.%N; ps -eo etimes,args | grep [s]ource-routing || :; ip -o address; "
            "journalctl -b --no-pager -o short-precise | grep -v cloud-init | tail -50"
        )

    def becomes_well(self) -> float:
        """Seconds until `check` is content; fails after `PATIENCE_SECONDS`."""
        begun = time.monotonic()
        while True:
            done = self.guest.run(["source-routing", "check"])
            seconds = time.monotonic() - begun
            if done.returncode == 0:
                return seconds
            assert seconds < PATIENCE_SECONDS, done.stdout + done.stderr
            time.sleep(0.2)

    def duplicates(self) -> list[str]:
        """Rules and routes of our tables that are there twice, whoever owns up to them.

        Twice in each of two listings: the kernel goes on with a long one by counting
        (dump_rules in net/core/fib_rules.c), so a rule that somebody adds meanwhile makes
        it list the last ones again.
        """
        return sorted(self._listed_twice() & self._listed_twice())

    def _listed_twice(self) -> set[str]:
        found: set[str] = set()
        for family in ("-4", "-6"):
            listing = self.shell(f"ip -N {family} rule; ip -N {family} route show table all")
            lines = [re.sub(r" proto \S+", "", line).strip() for line in listing.splitlines()]
            found |= {line for line, count in Counter(lines).items() if line and count > 1}
        return found

    def rules(self) -> set[str]:
        """Addresses from which our rules lead to a table."""
        told = self.shell("ip rule; ip -6 rule")
        return set(re.findall(r"^50\d\d:\tfrom (\S+) lookup", told, re.MULTILINE)) - {"all"}

    def serves(self, port: network.Port) -> bool:
        """Whether an additional port's address comes to have its rules and to answer."""
        ip = str(port.address4.ip)
        return comes_true(lambda: ip in self.rules()) and comes_true(
            lambda: self.server.place.answers(ip)
        )

    def traces(self, port: network.Port) -> list[str]:
        """What is left of a port: rules of its addresses, its table's name, its files."""
        script = (
            f"ip rule | grep -F {port.address4.ip}; ip rule | grep -F {port.name}; "
            f"grep -rlw {port.name} /etc/source-routing /etc/iproute2/*/ 2>/dev/null; :"
        )
        return self.shell(script).splitlines()

    def is_well(self) -> None:
        """All that has to hold after anything that happens."""
        self.becomes_well()
        assert self.silent() == []
        assert self.duplicates() == []


@contextlib.contextmanager
def boot(
    world: World, image: Path, user_data: str, scratch: Path, *layers: Path
) -> Iterator[Place]:
    home = scratch / f"guest-{uuid.uuid4().hex[:8]}"
    home.mkdir()
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(network.Lab(network.ports(world.nics)))
        dhcp = None
        if world.dhcp:
            dhcp = DhcpServer(place, root_tree("router"), home)
            stack.callback(dhcp.stop)
        drive = ConfigDrive(place.ports, user_data, dhcp=world.dhcp)
        lowers = [*world.lay_over(home), *layers, image]
        guest = stack.enter_context(
            running(nspawn.ContainerGuest(place, lowers, drive, home / "guest"))
        )
        server = Server(place, guest, wait_for_boot(guest), f"{world.name} (container)")
        yield Place(server, world, dhcp)


@pytest.fixture(scope="module", params=one_each(WORLDS, DEFAULT, "the other network managers"))
def world(request: pytest.FixtureRequest) -> World:
    return WORLDS[request.param]


@pytest.fixture(scope="module")
def image(world: World, progress: Progress) -> Path:
    return bake.baked_root(world.recipe, progress)


@pytest.fixture(scope="module")
def served(world: World, image: Path, scratch: Path) -> Iterator[Place]:
    with boot(world, image, ON, scratch) as place:
        yield place


def test_without_the_stanza_not_every_nic_answers(world: World, image: Path, scratch: Path) -> None:
    """The negative control: only NICs with a default of their own have a chance.

    Two of four NICs have one in the metadata, and with DHCP all; of several IPv4
    takes one, or now this and now that one, and IPv6 spreads flows over them.
    """
    with boot(world, image, OFF, scratch) as place:
        place.has_its_addresses()
        hopeful = {
            str(address.ip)
            for port in place.server.place.ports
            for address in (port.address4, port.address6)
            if port.default or world.dhcp
        }
        until = time.monotonic() + PATIENCE_SECONDS
        rounds = 0  # in a row, so that it is no boot that has not ended yet
        while rounds < 2:
            found = set(place.addresses()) - set(place.silent())
            as_expected = found and found <= hopeful and found != set(place.addresses())
            rounds = rounds + 1 if as_expected else 0
            assert rounds or time.monotonic() < until, found
            time.sleep(1)
        assert "5000:" not in place.shell("ip rule; ip -6 rule")


class TestFirstBoot:
    def test_it_ends_well_and_every_address_answers(self, served: Place) -> None:
        served.is_well()
        status = served.server.boot.status
        assert status["status"] == "done", status
        assert served.server.boot.status_code == 0, status
        assert "source_routing" not in str(status.get("recoverable_errors")), status

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
        # What systemd says when a unit's drop-in came while it ran is no complaint,
        # nor what it misses of this container's control groups.
        noise = ("changed on disk", "for control group")
        assert [line for line in ours if not any(text in line for text in noise)] == []


def test_the_managers_own_checkers_accept_our_files(served: Place) -> None:
    """networkd has no checker but its loader: what that says is in the journal."""
    units = served.shell("ls /usr/lib/systemd/system/source-routing*").split()
    told = served.guest.run(["systemd-analyze", "verify", "--man=no", *units])
    lines = (told.stdout + told.stderr).splitlines()
    assert [line for line in lines if "source-routing" in line] == []
    if served.world.variant.startswith("netplan"):
        served.shell("netplan generate")


def test_all_is_well_after_whatever_happens(
    served: Place, record_property: Callable[[str, object], None]
) -> None:
    """One thing after the other: each finds what the one before has left."""
    failures: dict[str, str] = {}
    with Streams(served.server.place, served.addresses()) as streams:
        for name, happen in happenings(served).items():
            try:
                costs = [happened(served, streams, happen) for _time in range(REPEAT)]
            except AssertionError as error:
                failures[name] = str(error)
                continue
            record_property(*measured(served.world.name, name, costs).recorded())
            lost = max(cost.lost_elsewhere for cost in costs)
            if _is_only_the_nics(served, name) and lost > served.world.may_lose:
                failures[name] = f"the other NICs lost {lost} packets"
            if name in HARMLESS and max(cost.lost for cost in costs) > NOTICED_PACKETS:
                failures[name] = "it was noticed"
    assert failures == {}


def _is_only_the_nics(served: Place, name: str) -> bool:
    """Whether what happens is no other NIC's concern."""
    script = served.world.happenings.get(name, "{nic}")
    return name in HARMLESS or "{nic}" in script


class Cost(NamedTuple):
    """What something that happened to a NIC has cost its server."""

    healed: float  # seconds, since all addresses are there again
    silence: float  # seconds, the longest without a reply of any address
    lost_elsewhere: int  # packets, by other NICs
    lost: int = 0  # packets, the most of any address


def happened(
    served: Place, streams: Streams, happen: Callable[[str], object], nic: str = TOUCHED
) -> Cost:
    before = time.monotonic()
    wait_until(lambda: streams.answering_since(before), story=served.silent)
    begun = time.monotonic()
    happen(nic)
    streams.follow(served.addresses())
    seconds = served.heals(streams)
    outages = streams.outages(since=begun)
    assert served.duplicates() == []
    # What is planned anew once things have settled may have networkd configure its
    # NICs anew, and that may cost a ping.
    moment = time.monotonic()
    wait_until(lambda: streams.answering_since(moment), story=served.silent)
    assert served.rules() == set(served.addresses())
    others = {
        str(address.ip)
        for port in served.server.place.ports
        for address in (port.address4, port.address6)
        if port.name != nic
    }
    return Cost(
        seconds,
        max(outage.seconds for outage in outages.values()),
        sum(outage.lost for ip, outage in outages.items() if ip in others),
        max(outage.lost for outage in outages.values()),
    )


def test_a_reload_that_changes_nothing_loses_no_packet(
    served: Place, record_property: Callable[[str, object], None]
) -> None:
    # What happened before has changed files, and reading those may end a lease.
    served.shell(served.world.reload)
    served.has_its_addresses()
    served.is_well()
    with Streams(served.server.place, served.addresses()) as streams:
        wait_until(lambda: streams.answering_since(0), story=served.silent)
        served.shell(served.world.reload)
        time.sleep(3)  # what a reload does takes a moment
        moment = time.monotonic()
        wait_until(lambda: streams.answering_since(moment), story=served.silent)
    outages = streams.outages()
    lost = {address: outage.lost for address, outage in outages.items()}
    silence = max(outage.seconds for outage in outages.values())
    name = "files are read again, nothing has changed"
    record_property(
        *Measured(served.world.name, name, [0.0], [silence], [sum(lost.values())]).recorded()
    )
    assert set(lost.values()) == {0}, lost


class TestAPortOfARunningServer:
    """A NIC is plugged in, pulled out, and another one takes its name."""

    def test_it_is_served_once_the_manager_has_it_up(self, served: Place) -> None:
        port = hot_port(1)
        served.server.place.plug(port, namespace_of(served))
        served.shell(hot(served, port))
        assert served.serves(port)
        served.is_well()

    def test_pulled_out_it_leaves_nothing_and_the_others_lose_nothing(self, served: Place) -> None:
        port = hot_port(1)
        with Streams(served.server.place, served.addresses()) as streams:
            wait_until(lambda: streams.answering_since(0), story=served.silent)
            served.server.place.pull(port)
            leaves_nothing(served, port)
        assert {ip: outage.lost for ip, outage in streams.outages().items()} == dict.fromkeys(
            served.addresses(), 0
        )
        served.is_well()

    def test_another_one_of_its_name_is_served_at_once(self, served: Place) -> None:
        port = hot_port(2)
        served.server.place.plug(port, namespace_of(served))
        served.shell(hot(served, port))
        assert served.serves(port)
        served.is_well()
        served.server.place.pull(port)
        leaves_nothing(served, port)
        served.shell(COLD)
        served.is_well()

    def test_one_that_somebody_sets_up_by_hand_keeps_its_rules_whatever_the_manager_does(
        self, served: Place
    ) -> None:
        # Of another name: networkd still knows the file that the last one had.
        port = dataclasses.replace(hot_port(3), name="ens8")
        address = str(port.address4.ip)
        served.server.place.plug(port, namespace_of(served))
        served.shell(BY_HAND.format(nic=port.name, address=port.address4, gateway=port.gateway4))
        assert served.serves(port)
        served.is_well()
        told = served.shell(
            f"timeout 10 ip -N -o monitor rule >{RULES} & sleep 0.5; "
            f"{served.world.renew}; sleep 3; cat {RULES}"
        )
        # networkd with leases reads files of ours at its next start only: there they go, and
        # are back at once.
        kept = not served.world.dhcp or served.world.renderer not in ("networkd", "netplan")
        assert not kept or f" {address} " not in told, told
        assert served.serves(port)
        served.server.place.pull(port)
        leaves_nothing(served, port)
        served.has_its_addresses()
        served.is_well()


def hot(served: Place, port: network.Port) -> str:
    script = served.world.hot
    return (
        script.replace("{address}", str(port.address4))
        .replace("{gateway}", str(port.gateway4))
        .replace("{nic}", port.name)
    )


def namespace_of(served: Place) -> network.Namespace:
    found = served.guest.network
    assert found is not None
    return found


def leaves_nothing(served: Place, port: network.Port) -> None:
    """Waits until nothing of a port that was pulled out is left."""
    wait_until(lambda: served.traces(port) == [], story=lambda: served.traces(port))


def measured(world: str, event: str, costs: Sequence[Cost]) -> Measured:
    """What has been measured of an event, each time that it happened, for the table."""
    healed, silence, elsewhere, _lost = zip(*costs)
    return Measured(world, event, healed, silence, elsewhere)


def test_all_is_well_after_a_reboot(served: Place) -> None:
    served.server.reboot()
    served.is_well()
    assert served.server.boot.status["status"] == "done"


def test_a_server_that_is_made_from_a_snapshot_of_it_is_right_at_once(served: Place) -> None:
    """Another instance: all ports have another MAC and address, and one another subnet."""
    old = served.addresses()
    *others, last = served.server.place.ports
    elsewhere = dataclasses.replace(hot_port(4), name=last.name, routes4=("203.0.113.0/24",))
    ports = (*map(sibling, others), elsewhere)
    drive = ConfigDrive(ports, ON, dhcp=served.world.dhcp)
    if served.dhcp is not None:
        served.dhcp.start(ports)
    served.guest.reboot(drive)
    served.server.boot = wait_for_boot(served.guest)
    served.has_its_addresses()
    served.is_well()
    assert served.server.boot.status["status"] == "done"
    assert served.rules() == set(served.addresses())
    left = "grep -rlF {nic} /etc/source-routing /etc/systemd/network /etc/network 2>/dev/null || :"
    assert {ip: told for ip in old if (told := served.shell(left, f"{ip}/"))} == {}


def sibling(port: network.Port) -> network.Port:
    """Another port of the same subnets."""
    return dataclasses.replace(
        port,
        mac=f"{port.mac[:-2]}{int(port.mac[-2:], 16) ^ 1:02x}",
        address4=IPv4Interface((int(port.address4) ^ 16, port.address4.network.prefixlen)),
        address6=IPv6Interface((int(port.address6) ^ 16, port.address6.network.prefixlen)),
    )


def test_nothing_is_left_when_it_is_removed(served: Place, image: Path) -> None:
    served.shell("source-routing remove")
    time.sleep(3)  # the manager has been told, and might bring something back
    for family in ("-4", "-6"):
        rules = served.shell(f"ip {family} rule")
        assert re.findall(r"^50\d\d:", rules, re.MULTILINE) == []
    assert _files(served) == {path for path in _files(served) if (image / path[1:]).exists()}
    ended = {"inactive", "unknown"}
    wait_until(lambda: set(_states(served)) <= ended, story=lambda: _states(served))
    _restore(served)


def _states(served: Place) -> list[str]:
    """Of our units."""
    return served.shell("systemctl is-active 'source-routing*' || :").split()


def _files(served: Place) -> set[str]:
    """Files that bear our name or stand in a directory that does."""
    return set(served.shell("find /etc /usr/lib/systemd -path '*source-routing*'").split())


def _restore(served: Place) -> None:
    """For whoever is asked next: as after the first boot."""
    served.shell(
        "echo 'source_routing: true' >/tmp/on.yaml; source-routing --config /tmp/on.yaml apply"
    )
    served.is_well()


def happenings(served: Place) -> dict[str, Callable[[str], object]]:
    """What can happen to a NIC of this world, in order, by name."""
    told: dict[str, Callable[[str], object]] = {
        name: functools.partial(served.shell, script)
        for name, script in served.world.happenings.items()
    }
    told["the cable is pulled and put back"] = functools.partial(_cable, served)
    if served.dhcp is not None:
        told["the lease is for another address"] = functools.partial(other_lease, served)
        told["the lease is for the first one again"] = functools.partial(other_lease, served)
    return told


def _cable(served: Place, nic: str) -> None:
    place = served.server.place
    (port,) = (port for port in place.ports if port.name == nic)
    place.disconnect(port)
    time.sleep(1)
    place.connect(port)


def other_lease(served: Place, nic: str) -> None:
    """Let the next renewal bring the other one of two addresses, and the cloud know of it."""
    assert served.dhcp is not None
    place = served.server.place
    (port,) = (port for port in place.ports if port.name == nic)
    other = IPv4Interface((int(port.address4) ^ 8, port.address4.network.prefixlen))
    moved = dataclasses.replace(port, address4=other)
    place.ports = tuple(moved if one is port else one for one in place.ports)
    served.dhcp.start(place.ports)
    place.router.run(["nft", "delete", "table", "netdev", f"guard_{nic}"])
    place.router.run(["nft", "-f", "-"], stdin=network.anti_spoofing(moved))
    served.shell(served.world.renew, nic)
    served.has_its_addresses()
