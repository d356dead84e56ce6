"""`source-routing follow`, started by its sockets: no event is lost, whatever it is at."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import time
from collections.abc import Iterator

import pytest
from lab import Lab, SocketUnit, SourceRouting, flush_rules, snapshot, wait_until

pytestmark = pytest.mark.kernel

TINY = 1  # bytes of a receive buffer: the kernel takes its minimum
FOREIGN = [f"rule {deed} to 192.0.2.1 priority 99" for deed in ("add", "del")] * 1000
MANY = pytest.mark.thorough("a hundred events while it is started by sockets")
HOW_MANY = pytest.mark.parametrize(
    "events", [pytest.param(5, id="some"), pytest.param(100, id="many", marks=MANY)]
)


def rests(unit: SocketUnit) -> None:
    wait_until(lambda: unit.rests, story=unit.story)


@contextlib.contextmanager
def held_up(command: SourceRouting) -> Iterator[None]:
    """Another process holds the lock, so a look that begins within goes on afterwards."""
    with (command.root / "run/source-routing/lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture()
def whole(served: SourceRouting, lab: Lab):
    """Waits until all is as it was applied, with the story of a unit if it never is."""
    before = snapshot(lab, "S")

    def wait(unit: SocketUnit) -> None:
        wait_until(lambda: before.difference(snapshot(lab, "S")) == "", story=unit.story)

    return wait


def test_it_is_started_once_for_each_ring_and_ends_when_idle(served: SourceRouting):
    with SocketUnit(served, idle=0.2) as unit:
        for run in range(1, 4):
            unit.ring()
            wait_until(lambda: len(unit.ended) == run, story=unit.story)  # noqa: B023
        rests(unit)
        assert unit.ended == [0, 0, 0], unit.story()


@HOW_MANY
def test_an_event_at_any_moment_of_its_runs_is_served(
    served: SourceRouting, lab: Lab, whole, events: int
):
    """While it starts, looks, and ends."""
    moments = random.Random(events)
    with SocketUnit(served, idle=0) as unit:
        for _event in range(events):
            flush_rules(lab)
            whole(unit)
            time.sleep(moments.uniform(0, 1))
        rests(unit)
        assert set(unit.ended) == {0}, unit.story()


@HOW_MANY
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_event_that_it_has_heard_when_it_is_ended_is_served_by_the_next_run(
    served: SourceRouting, lab: Lab, whole, number: signal.Signals, events: int
):
    moments = random.Random(events)
    with SocketUnit(served, idle=60) as unit:
        for _event in range(events):
            unit.ring()
            wait_until(lambda: len(unit.started) > len(unit.ended), story=unit.story)
            time.sleep(moments.uniform(0, 1))
            flush_rules(lab)
            time.sleep(moments.uniform(0, 0.05))
            os.kill(unit.started[-1], number)
            whole(unit)


def test_what_is_lost_in_an_overrun_while_it_runs_is_served(served: SourceRouting, lab: Lab, whole):
    default = lab.ip("S", "route", "show", "table", "501", "default").strip()
    # Routes of our protocol that others set ask for nothing, and fill the buffer.
    filling = [f"route replace {default} table 501 {more}" for more in ("mtu 1400", "")] * 500
    with SocketUnit(served, idle=60, receive_bytes=TINY) as unit:
        unit.ring()
        flush_rules(lab)
        whole(unit)
        for _time in range(3):
            os.kill(unit.started[-1], signal.SIGSTOP)
            lab.batch("S", [*filling, "rule flush protocol 83"])
            os.kill(unit.started[-1], signal.SIGCONT)
            whole(unit)
        assert len(unit.started) == 1, unit.story()


def test_an_overrun_between_two_runs_is_served_and_no_error(served: SourceRouting, lab: Lab, whole):
    """systemd gives a socket up that has an error while nobody reads it."""
    with SocketUnit(served, idle=0, receive_bytes=TINY) as unit:
        for _time in range(3):
            unit.ring()
            wait_until(lambda: unit.started, story=unit.story)
            rests(unit)
            lab.batch("S", [*FOREIGN, "rule flush protocol 83"])
            whole(unit)
        rests(unit)
        assert "failed" not in unit.story()


def test_where_nothing_is_saved_it_takes_what_has_come_and_ends(served: SourceRouting, lab: Lab):
    """Else it would be started for that again, and find nothing to do again."""
    served.ok("remove")
    with SocketUnit(served, idle=60) as unit:
        with held_up(served):
            unit.ring()
            wait_until(lambda: waits_for_lock(unit), story=unit.story)
            lab.batch("S", FOREIGN * 5)
            for _time in range(100):
                unit.ring()
        wait_until(lambda: unit.ended, story=unit.story)
        rests(unit)
        assert unit.ended == [0], unit.story()


def waits_for_lock(unit: SocketUnit) -> bool:
    """Whether its last run has the lock's file open."""
    try:
        opened = os.scandir(f"/proc/{unit.started[-1]}/fd")
        return any(os.readlink(entry.path).endswith("/lock") for entry in opened)
    except (IndexError, OSError):
        return False


def test_what_comes_while_it_looks_is_looked_at_too(served: SourceRouting, lab: Lab, whole):
    with SocketUnit(served, idle=0) as unit:
        with held_up(served):
            unit.ring()
            wait_until(lambda: waits_for_lock(unit), story=unit.story)
            flush_rules(lab)
        whole(unit)
        rests(unit)
        flush_rules(lab)
        whole(unit)
