"""A server to which random things happen, one after the other, while everybody pings it.

A minute of it, or as long as `SOURCE_ROUTING_SOAK_SECONDS` says.  What happens
follows from a seed, which the table at the end tells; `SOURCE_ROUTING_SOAK_SEED` repeats a run.
"""

from __future__ import annotations

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

from ..story import ON, hot_port
from .results import Measured
from .test_managers import WITHIN_SECONDS, Place, boot, happened, hot, network, within
from .worlds import FLUSH_RULES, FOREIGN, MOVE_ADDRESS, WORLDS, World

pytestmark = pytest.mark.boot

SECONDS = float(os.environ.get("SOURCE_ROUTING_SOAK_SECONDS", "60"))
SEED = int(os.environ.get("SOURCE_ROUTING_SOAK_SEED", "0")) or random.SystemRandom().randrange(
    10**6
)
SOAKED = os.environ.get("SOURCE_ROUTING_SOAK_WORLDS", "bookworm-ifupdown").split()


class Size(NamedTuple):
    """What must not grow with time; that no rule or route is too many, `check` tells."""

    files: int
    processes: int  # of ours


@pytest.fixture(scope="module", params=SOAKED)
def world(request: pytest.FixtureRequest) -> World:
    return WORLDS[request.param]


@pytest.fixture(scope="module")
def served(world: World, scratch: Path, progress: Progress) -> Iterator[Place]:
    with boot(world, bake.baked_root(world.recipe, progress), ON, scratch) as place:
        place.is_well()
        yield place


def test_whatever_happens_in_whatever_order_all_is_well_again(
    served: Place, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(SEED)
    nics = [port.name for port in served.server.place.ports]
    events = {**served.world.events, **FOREIGN, "an address moves": MOVE_ADDRESS}
    history: list[str] = []
    costs: dict[str, list[tuple[float, float, int]]] = {name: [] for name in events}

    def happens(name: str, nic: str) -> None:
        history.append(f"{name} ({nic})")
        event = functools.partial(served.shell, events[name], nic)
        try:
            costs[name].append(happened(served, event, nic))
        except AssertionError as error:
            raise AssertionError(f"seed {SEED}: after {history}: {error}") from error

    for name in events:
        happens(name, nics[-1])
    before = size(served)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        happens(chance.choice(list(events)), chance.choice(nics))
    for name, cost in costs.items():
        server = f"{served.world.name}, seed {SEED}"
        record_property(*Measured(server, name, *zip(*cost)).recorded())
    assert grown(served, before) == []
    served.is_well()


def test_ports_that_come_and_go_leave_nothing_behind(served: Place) -> None:
    def comes_and_goes(number: int) -> None:
        port = hot_port(number)
        served.server.place.plug(port, network(served))
        served.shell(hot(served, port))
        assert served.serves(port)
        served.server.place.pull(port)
        assert within(WITHIN_SECONDS, lambda: served.traces(port) == []), served.traces(port)

    comes_and_goes(1)
    before = size(served)
    for number in (2, 3):
        comes_and_goes(number)
    assert grown(served, before) == []
    served.is_well()


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
    told = served.shell("systemctl list-units --plain --no-legend 'source-routing*.socket'")
    sockets = " ".join(line.split()[0] for line in told.splitlines())
    # Nobody is told any more, and who was told has ended.
    services = sockets.replace(".socket", ".service")
    served.shell(f"systemctl stop {sockets} {services}")
    served.shell(FLUSH_RULES)
    assert served.rules() == set()
    # The first time is a minute after the boot, which is less than that ago.
    sooner = "/run/systemd/system/source-routing.timer.d/sooner.conf"
    settings = "[Timer]\\nOnActiveSec=1\\nAccuracySec=100ms\\n"
    served.shell(f"mkdir -p {sooner.rpartition('/')[0]}; printf '{settings}' >{sooner}")
    served.shell("systemctl daemon-reload; systemctl enable --now source-routing.timer")
    assert within(WITHIN_SECONDS, lambda: served.rules() == set(served.addresses()))
    journal = served.shell("journalctl -b -u source-routing.service -o cat --no-pager")
    assert "rule add" in journal
    served.shell("systemctl disable --now source-routing.timer")
    served.shell(f"systemctl start {sockets}")
    served.is_well()


def grown(served: Place, before: Size) -> list[str]:
    """What is more than before, once what runs in the background has ended."""
    within(4 * WITHIN_SECONDS, lambda: not _more(size(served), before))
    return _more(size(served), before)


def _more(after: Size, before: Size) -> list[str]:
    return [
        f"{name}: {getattr(after, name)} instead of {getattr(before, name)}"
        for name in Size._fields
        if getattr(after, name) > getattr(before, name)
    ]


def size(served: Place) -> Size:
    def count(script: str) -> int:
        return int(served.shell(script))

    return Size(
        # One for each NIC that networkd has given up may come, and stays.
        files=count("find /etc /run/source-routing -xdev -type f ! -name 'revived.*' | wc -l"),
        processes=count("pgrep -fc source-routing || :"),
    )
