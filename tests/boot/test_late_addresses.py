"""Addresses that come after cloud-init: of a silent DHCP server, a late cable, a late router.

cloud-init (24.4 and later) runs its network stage without waiting for a network,
so at the only time when it calls us there may be nothing to route.  Each server
here boots like that, for the first time and again; then its network comes to
life piece by piece, and each address must have its rules and answer at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from ipaddress import IPv6Network, ip_address
from pathlib import Path

import pytest
from imagebuild import bake
from imagebuild.lab import network, nspawn
from imagebuild.lab.guest import running, wait_for_boot
from imagebuild.lab.network import Port
from imagebuild.progress import Progress
from lab import PATIENCE_SECONDS, wait_until

from ..daemons.roots import root_tree
from ..results import Measured
from ..sizes import one_each
from .dhcp import DhcpServer
from .managers import worlds
from .managers.meter import Streams
from .managers.worlds import World
from .router import Router
from .story import ON, Server
from .test_router_advertisements import TellingNothing, guard, says

pytestmark = pytest.mark.boot

NO_WAITING = "[Service]\nExecStart=\nExecStart=/bin/true\n"
OVERLAY = {
    f"/etc/systemd/system/{name}-wait-online.service.d/50-lab.conf": NO_WAITING
    for name in ("systemd-networkd", "NetworkManager")
}
# What udev does where there is one: an ifup for each NIC, beside the boot.
HOTPLUG = {
    "/etc/cloud/cloud.cfg.d/99-lab.cfg": "network: {config: disabled}\n",
    "/etc/systemd/system/ifup@.service": (
        "[Unit]\nAfter=networking.service\n[Service]\nExecStart=/sbin/ifup --allow=hotplug %I\n"
        "RemainAfterExit=yes\n"
    ),
    "/etc/systemd/system/networking.service.d/60-lab.conf": (
        "[Unit]\nWants=ifup@ens3.service ifup@ens4.service ifup@ens5.service\n"
    ),
    "/etc/network/interfaces": "auto lo\niface lo inet loopback\n"
    + "".join(
        f"allow-hotplug {nic}\niface {nic} inet dhcp\niface {nic} inet6 auto\n"
        for nic in ("ens3", "ens4", "ens5")
    ),
}
WORLDS = {
    name: dataclasses.replace(
        worlds.WORLDS[f"{name}-dhcp"],
        nics=3,
        overlay={**worlds.WORLDS[f"{name}-dhcp"].overlay, **OVERLAY, **more},
    )
    for name, more in (
        ("trixie-networkd", {}),
        ("sid-networkd", {}),
        ("bookworm-netplan", {}),
        ("trixie-network-manager", {}),
        ("bookworm-ifupdown", HOTPLUG),
    )
}


@dataclass
class Late:
    """A server whose network is dead at first, and the pieces of that network."""

    world: World
    server: Server
    dhcp: DhcpServer
    router: Router
    told: list[Measured] = field(default_factory=list)

    @property
    def ports(self) -> tuple[Port, ...]:
        return self.server.place.ports

    @property
    def at_once(self) -> tuple[Port, ...]:
        """NICs with a cable from the beginning."""
        return self.ports[:-1]

    @property
    def unplugged(self) -> Port:
        return self.ports[-1]

    def shell(self, script: str) -> str:
        done = self.server.guest.run(["sh", "-c", script])
        assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
        return done.stdout

    def reboot(self) -> None:
        self.dhcp.stop()
        self.router.stop()
        self.server.guest.reboot()
        unplug(self.server.place, self.unplugged)
        self.server.boot = wait_for_boot(self.server.guest)

    def addresses(self) -> str:
        return self.shell("ip -o address show scope global")

    def becomes_well(self) -> None:
        check = ["source-routing", "check"]
        wait_until(lambda: self.server.guest.run(check).returncode == 0, story=self.story)

    def story(self) -> str:
        commands = "ip address; ip rule; ip -6 rule; networkctl list 2>/dev/null"
        journal = "source-routing check; journalctl -b --no-pager -o short-precise | tail -120"
        return self.shell(f"{commands}; {journal}")


def unplug(place: network.Lab, port: Port) -> None:
    """The cable is out, the NIC is there: it has no carrier."""
    for one in place.ports:
        guard(place, one)  # IPv6 addresses are the server's to choose
        for cache in ("arp_cache", "ndisc_cache"):
            # Otherwise the router asks once a second for a neighbour that is not there.
            change = ["ip", "ntable", "change", "name", cache, "dev", one.tap, "retrans", "50"]
            place.router.run(change)
    place.disconnect(port)


# -- how late ---------------------------------------------------------------------


@dataclass(frozen=True)
class Delay:
    """What one address has had to wait for since it was there, in seconds."""

    address: str
    rule: float
    answer: float

    def __str__(self) -> str:
        return f"{self.address}: rule {self.rule:.2f} s, answer {self.answer:.2f} s"


class Monitor:
    """What `ip monitor` in the guest tells of addresses and rules, with the time."""

    FILE = "/run/lab-monitor"
    _LINE = re.compile(r"^\[(\S+)\] ?(.*)$")

    def __init__(self, late: Late):
        self._late = late

    def __enter__(self) -> Monitor:  # noqa: PYI034 - Self is not in Python 3.9
        self._late.shell(
            f"ip -N -o -ts monitor address rule >{self.FILE} 2>/dev/null & "
            f"echo $! >{self.FILE}.pid; sleep 0.2"
        )
        return self

    def __exit__(self, *exc: object) -> None:
        self._late.shell(f"kill $(cat {self.FILE}.pid)")

    def moments(self) -> tuple[dict[str, float], dict[str, float]]:
        """When each address could be used first, and when its rule came; by the monotonic clock."""
        offset = time.time() - time.monotonic()
        addresses: dict[str, float] = {}
        rules: dict[str, float] = {}
        for line in self._late.shell(f"cat {self.FILE}").splitlines():
            if not (match := self._LINE.match(line)):
                continue
            moment = datetime.fromisoformat(match[1]).replace(tzinfo=timezone.utc).timestamp()
            moment -= offset
            words = match[2]
            if found := re.search(r" inet6? ([^ /]+)/.* scope 0 ", words):
                if "Deleted" not in words and " tentative" not in words:
                    addresses.setdefault(found[1], moment)
            elif found := re.search(r"from (\S+) lookup 50\d\b", words):
                if "Deleted" not in words:
                    rules.setdefault(found[1], moment)
        return addresses, rules


def delays(
    late: Late,
    comes_to_life: Callable[[], object],
    chosen: Callable[[Iterable[str]], set[str]],
    number: int,
    known: Iterable[str] = (),
) -> list[Delay]:
    """How long addresses have waited for rule and answer after the network `comes_to_life`.

    Of those that come, the `number` that are `chosen`.  Who is `known` before is
    asked for answers from the beginning.
    """
    with Streams(late.server.place, known) as streams, Monitor(late) as monitor:
        comes_to_life()
        until = time.monotonic() + 2 * PATIENCE_SECONDS  # DHCP clients back off
        while True:
            addresses, rules = monitor.moments()
            wanted = chosen(addresses)
            streams.follow(wanted.union(known))
            answers = {address: streams.first(address) for address in wanted}
            if len(wanted) == number:
                if wanted <= set(rules) and all(answers.values()):
                    break
                last = max(addresses[address] for address in wanted)
                told = f"{addresses}, {rules}, {answers}"
                assert time.monotonic() < last + PATIENCE_SECONDS, f"{told}\n{late.story()}"
            assert time.monotonic() < until, f"only {addresses}\n{late.story()}"
            time.sleep(0.1)
    # One address alone needs no rule.
    second = sorted(addresses.values())[:2][-1]
    found = []
    for address in sorted(wanted):
        since = max(addresses[address], second)
        waits = (max(0.0, moment - since) for moment in (rules[address], answers[address]))
        found.append(Delay(address, *waits))
    return found


def served_at_once(late: Late, event: str, found: list[Delay]) -> None:
    late.told.append(Measured(f"{late.world.name}, late", event, [d.answer for d in found]))
    print(*(f"{late.world.name}: {event}: {delay}" for delay in found), sep="\n")
    late.becomes_well()


# -- the story ----------------------------------------------------------------------


@contextlib.contextmanager
def boot(world: World, image: Path, scratch: Path) -> Iterator[Late]:
    home = scratch / f"guest-{uuid.uuid4().hex[:8]}"
    home.mkdir()
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(network.Lab(network.ports(world.nics)))
        dhcp = DhcpServer(place, root_tree("router"), home)
        stack.callback(dhcp.stop)
        dhcp.stop()
        router = Router(place, home)
        stack.callback(router.stop)
        lowers = [*world.lay_over(home), image]
        drive = TellingNothing(place.ports, ON)
        guest = stack.enter_context(
            running(nspawn.ContainerGuest(place, lowers, drive, home / "guest"))
        )
        unplug(place, place.ports[-1])
        server = Server(place, guest, wait_for_boot(guest), f"{world.name} (container, late)")
        yield Late(world, server, dhcp, router)


@pytest.fixture(
    scope="module", params=one_each(WORLDS, ("trixie-networkd",), "late networks of other managers")
)
def late(request: pytest.FixtureRequest, progress: Progress, scratch: Path) -> Iterator[Late]:
    world = WORLDS[request.param]
    with boot(world, bake.baked_root(world.recipe, progress), scratch) as made:
        yield made


@pytest.fixture(autouse=True)
def _recorded(late: Late, record_property: Callable[[str, object], None]) -> Iterator[None]:
    late.told.clear()
    yield
    for measured in late.told:
        record_property(*measured.recorded())


def test_the_first_boot_waits_for_no_address(late: Late) -> None:
    boots_without_a_network(late)


def test_what_comes_after_the_first_boot_is_served_at_once(late: Late) -> None:
    comes_to_life(late)


@pytest.mark.repeats
def test_a_later_boot_waits_for_no_address_and_what_comes_then_is_served_at_once(
    late: Late,
) -> None:
    late.reboot()
    boots_without_a_network(late)
    comes_to_life(late)


def boots_without_a_network(late: Late) -> None:
    assert late.addresses() == "", "too early: this is about addresses that are late"
    boot = late.server.boot
    assert (boot.status["status"], boot.status_code) == ("done", 0), boot.status
    seconds = module_seconds(late)
    late.told.append(Measured(f"{late.world.name}, late", "our module, no network", [seconds]))


def module_seconds(late: Late) -> float:
    """By cloud-init's log of the last boot."""
    moments = {}
    for line in late.shell("cat /var/log/cloud-init.log").splitlines():
        if match := re.match(r"(\S+ \S+) .*(start|finish): .*config-source_routing", line):
            moments[match[2]] = datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S,%f")
    return (moments["finish"] - moments["start"]).total_seconds()


def comes_to_life(late: Late) -> None:
    """Leases, then a cable, then routers."""
    leased = {str(port.address4.ip) for port in late.at_once}
    found = delays(late, lambda: late.dhcp.start(late.ports), leased.intersection, 2, leased)
    served_at_once(late, "the DHCP server answers", found)

    plugged = {str(late.unplugged.address4.ip)}
    found = delays(
        late, lambda: late.server.place.connect(late.unplugged), plugged.intersection, 1, plugged
    )
    served_at_once(late, "the cable is plugged in", found)

    words = [says(port) for port in late.ports]
    found = delays(late, lambda: late.router.says(*words), functools.partial(one_of_each, late), 3)
    served_at_once(late, "the routers speak", found)

    everywhere = leased | plugged | {delay.address for delay in found}
    assert {ip for ip in everywhere if not late.server.place.answers(ip, count=1)} == set()


def one_of_each(late: Late, addresses: Iterable[str]) -> set[str]:
    """The first IPv6 address of each NIC, which may make several."""
    first: dict[IPv6Network, str] = {}
    subnets = [port.address6.network for port in late.ports]
    for text in addresses:
        for subnet in subnets:
            if ip_address(text) in subnet:
                first.setdefault(subnet, text)
    return set(first.values())
