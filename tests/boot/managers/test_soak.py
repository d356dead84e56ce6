"""A server to which random things happen, one after the other, while everybody pings it.

A minute of it, or as long as `SOURCE_ROUTING_SOAK_SECONDS` says.  What happens
follows from a seed, which the table at the end tells; `SOURCE_ROUTING_SOAK_SEED` repeats a run.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from imagebuild import bake
from imagebuild.progress import Progress
from lab import comes_true, wait_until

from ...results import REPEAT
from ..story import ON, hot_port
from .meter import Streams
from .test_managers import (
    Cost,
    Place,
    boot,
    happened,
    happenings,
    hot,
    measured,
    namespace_of,
)
from .worlds import FLUSH_RULES, FOREIGN, MOVE_ADDRESS, WORLDS, World

pytestmark = pytest.mark.boot

SECONDS = float(os.environ.get("SOURCE_ROUTING_SOAK_SECONDS", "60"))
SEED = int(os.environ.get("SOURCE_ROUTING_SOAK_SEED", "0")) or random.SystemRandom().randrange(
    10**6
)
SOAKED = os.environ.get("SOURCE_ROUTING_SOAK_WORLDS", "bookworm-ifupdown").split()

LISTENS = (".socket", ".path")
# But for the shell that asks, and who answers it.
OURS = "ps -eo etimes=,args= | grep '[s]ource-routing' || :"
# What happens at random, on as many NICs as a lab has.
NICS = 4


class Size(NamedTuple):
    """What must not grow with time; that no rule or route is too many, `check` tells."""

    files: int
    kilobytes: int  # of files
    memory: int  # kilobytes of systemd and of network managers
    processes: tuple[str, ...]  # of ours, how long each has run and what it is
    units: frozenset[str]  # that systemd has loaded

    def __str__(self) -> str:
        numbers = ", ".join(f"{value} {name}" for name, value in zip(self._fields, self[:-2]))
        return f"{numbers}, {len(self.processes)} processes, {len(self.units)} units"


# Nothing of ours is in memory between two events.  What is left are those whom we
# have work to do, and their allocators: so much is no leak of an event each second.
VARIES = Size(files=0, kilobytes=8, memory=4096, processes=(), units=frozenset())
# What a hook has left in the background waits for the one before it for two minutes, and
# runs for as long at most.
BACKGROUND_SECONDS = 300.0


@pytest.fixture(scope="module", params=SOAKED)
def world(request: pytest.FixtureRequest) -> World:
    return dataclasses.replace(WORLDS[request.param], nics=NICS)


@pytest.fixture(scope="module")
def served(world: World, scratch: Path, progress: Progress) -> Iterator[Place]:
    with boot(world, bake.baked_root(world.recipe, progress), ON, scratch) as place:
        place.is_well()
        yield place


@pytest.mark.thorough("a minute of random events; ports that come and go, also while off")
def test_whatever_happens_in_whatever_order_all_is_well_again(
    served: Place, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(SEED)
    nics = [port.name for port in served.server.place.ports]
    events = everything(served)
    history: list[str] = []
    costs: dict[str, list[Cost]] = {name: [] for name in events}

    def happens(name: str, nic: str) -> None:
        history.append(f"{name} ({nic})")
        try:
            costs[name].append(happened(served, streams, events[name], nic))
        except AssertionError as error:
            told = f"seed {SEED}: after {history}: {error}"
            print(told, flush=True)  # it may be an hour until pytest does
            raise AssertionError(told) from error

    with Streams(served.server.place, served.addresses()) as streams:
        for name in events:
            happens(name, nics[-1])
        before = rested(served)
        until = time.monotonic() + SECONDS
        while time.monotonic() < until or len(costs[name]) < REPEAT:
            for name in chance.sample(list(events), len(events)):
                happens(name, chance.choice(nics))
    server = f"{served.world.name}, seed {SEED}"
    for name, cost in costs.items():
        record_property(*measured(server, name, cost).recorded())
    more = grown(served, before)
    print(f"{server}: {len(history)} events; {before} has become {size(served)}", flush=True)
    assert more == []
    served.is_well()


def everything(served: Place) -> dict[str, Callable[[str], object]]:
    """What can happen to a NIC of this server, and what others do; nothing twice."""
    found = happenings(served)
    for name, script in FOREIGN.items():
        found.setdefault(name, functools.partial(served.shell, script))
    if served.dhcp is None:
        found["an address moves"] = functools.partial(served.shell, MOVE_ADDRESS)
    else:
        del found["the lease is for the first one again"]
    return found


@pytest.mark.thorough("a minute of random events; ports that come and go, also while off")
def test_ports_that_come_and_go_leave_nothing_behind(
    served: Place, record_property: Callable[[str, object], None]
) -> None:
    with Streams(served.server.place, served.addresses()) as streams:
        comes_and_goes(served, streams, 1)
        before = rested(served)
        costs = [comes_and_goes(served, streams, 2 + number) for number in range(max(2, REPEAT))]
        assert grown(served, before) == []
    for name, cost in zip(("a port is plugged in", "a port is pulled out"), zip(*costs)):
        record_property(*measured(served.world.name, name, cost).recorded())
    served.is_well()


def comes_and_goes(served: Place, streams: Streams, number: int) -> tuple[Cost, Cost]:
    """From what has configured it until it answers; and from its end until nothing is left."""
    port = hot_port(number)
    ip = str(port.address4.ip)

    def cost(holds: Callable[[], bool]) -> Cost:
        begun = time.monotonic()
        healed = wait_until(holds, story=lambda: served.traces(port))
        streams.follow(served.addresses())
        outages = streams.outages(since=begun).values()
        silence = max(outage.seconds for outage in outages)
        return Cost(healed, silence, sum(outage.lost for outage in outages))

    served.server.place.plug(port, namespace_of(served))
    served.shell(hot(served, port))
    streams.follow([*served.addresses(), ip])
    plugged = cost(lambda: streams.first(ip) is not None)
    assert served.serves(port)
    served.server.place.pull(port)
    return plugged, cost(lambda: served.traces(port) == [])


@pytest.mark.thorough("a minute of random events; ports that come and go, also while off")
def test_a_port_that_goes_or_comes_back_while_the_server_is_off_is_right_at_once(
    served: Place,
) -> None:
    place = served.server.place
    *others, last = place.ports
    place.ports = tuple(others)
    served.server.reboot()
    place.pull(last)
    served.is_well()
    assert served.traces(last) == []
    place.ports = (*others, last)
    served.server.reboot()
    served.is_well()


def test_what_gives_no_event_is_found_by_the_timer_once_that_is_enabled(served: Place) -> None:
    asked = served.guest.run(["systemctl", "is-enabled", "source-routing.timer"])
    assert asked.stdout.strip() == "disabled"
    told = served.shell("systemctl list-units --plain --no-legend 'source-routing*'")
    listening = [name for line in told.splitlines() if (name := line.split()[0]).endswith(LISTENS)]
    sockets = " ".join(listening)
    # Nobody is told any more, and who was told has ended.
    services = " ".join(f"{name.rpartition('.')[0]}.service" for name in listening)
    served.shell(f"systemctl stop {sockets} {services}")
    served.shell(FLUSH_RULES)
    assert served.rules() == set()
    before = said(served)
    # The first time is a minute after the boot, which is less than that ago.
    sooner = "/run/systemd/system/source-routing.timer.d/sooner.conf"
    settings = "[Timer]\\nOnActiveSec=1\\nAccuracySec=100ms\\n"
    served.shell(f"mkdir -p {sooner.rpartition('/')[0]}; printf '{settings}' >{sooner}")
    served.shell("systemctl daemon-reload; systemctl enable --now source-routing.timer")
    wait_until(lambda: served.rules() == set(served.addresses()), story=served.story)
    # It says so once it has done all, which is after the last rule.
    wait_until(lambda: said(served) != before, story=served.story)
    served.shell("systemctl disable --now source-routing.timer")
    served.shell(f"systemctl start {sockets}")
    served.is_well()


def said(served: Place) -> str:
    return served.shell("journalctl -b -u source-routing.service -o cat --no-pager")


def rested(served: Place) -> Size:
    """Its size once nothing of ours runs: what an event has under way is no part of it."""
    sizes: list[Size] = []

    def rests() -> bool:
        sizes[:] = [size(served)]
        return not sizes[0].processes

    wait_until(rests, BACKGROUND_SECONDS, story=lambda: sizes[0].processes)
    return sizes[0]


def grown(served: Place, before: Size) -> list[str]:
    """What is more than before, once what runs in the background has ended.

    One look that finds nothing more is enough: what has begun since then is an event's,
    and ends, too.
    """
    more: list[str] = []

    def is_as_before() -> bool:
        more[:] = _more(size(served), before)
        return not more

    comes_true(is_as_before, BACKGROUND_SECONDS)
    return more


def _more(after: Size, before: Size) -> list[str]:
    more = [
        f"{name}: {now} instead of {then}"
        for name, now, then, varies in zip(Size._fields, after[:-2], before[:-2], VARIES)
        if now > then + varies
    ]
    if len(after.processes) > len(before.processes):
        more.append(f"processes: {after.processes} instead of {before.processes}")
    # One goes and another one comes of systemd's own.
    if len(after.units) > len(before.units):
        more.append(f"units: {sorted(after.units - before.units)}")
    return more


def size(served: Place) -> Size:
    def numbers(script: str) -> list[int]:
        return [int(word) for word in served.shell(script).split()]

    files = numbers("find /etc /run/source-routing -xdev -type f -printf '%s '")
    processes = served.shell(OURS).splitlines()
    units = served.shell("systemctl list-units --all --no-legend --plain | cut -d' ' -f1")
    memory = numbers("ps -C systemd,systemd-networkd,NetworkManager -o rss=")
    return Size(
        len(files),
        sum(files) // 1024,
        sum(memory),
        tuple(processes),
        frozenset(units.split()),
    )
