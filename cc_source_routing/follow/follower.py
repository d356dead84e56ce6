"""The one event path: listen, wait for quiet, restore or look, and leave when idle."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from .. import engine
from ..errors import CommandError, SourceRoutingError
from .doorbell import Doorbell
from .flaps import Flaps
from .networkd import Mender
from .networkd_state import apply_remedy, networkd_links
from .pace import Pace
from .repeats import Repeats

if TYPE_CHECKING:
    from ..kernel.netlink import Kernel

# Who asks for a look may be about to write: ifupdown2 runs a stanza's own commands after its
# hooks, and what changes while systemd still starts the asker is not asked for again.
ONCE_MORE_SECONDS = 1.0
# Severities of syslog(3).
ERROR, WARNING, NOTICE = 3, 4, 5
# Between two tries to end.
ENDS_LATER_SECONDS = 1.0
# Failures that are said once; they take less than half a minute.
FEW_FAILURES = 4

Say = Callable[[int, str], None]
# One line on what an apply has done, for people.
Tell = Callable[[engine.Outcome], str]


def follow(root: Path, say: Say, tell: Tell, idle: float) -> None:
    """Keep the saved stanza applied until nothing has happened for `idle` seconds.

    Looks once at the beginning: whoever starts this has a reason.  Ends early when nothing is
    saved (any more) or on SIGTERM, after an apply that has begun.  `say` gets a severity and a
    line for each event that changed something.  Raises `DiscoveryError` when it cannot listen.
    """
    from ..kernel.netlink import Kernel

    with Doorbell() as bell, Kernel() as kernel:
        _Follower(root, say, tell, bell, kernel).run(idle)


class _Follower:
    def __init__(self, root: Path, say: Say, tell: Tell, bell: Doorbell, kernel: Kernel) -> None:
        self._root, self._say, self._tell = root, say, tell
        self._bell, self._kernel = bell, kernel
        now = time.monotonic()
        self._cpu = _cpu_seconds()
        self._mattered_at = now  # when it has done something last
        self._pace, self._flaps, self._mender = Pace(now), Flaps(), Mender()
        self._pace.ask_for_look(now)
        self._seen: engine.View | None = None  # of the last look that took all away
        self._grace: float | None = None  # until when the last look has taken nothing away
        self._repeats = Repeats()
        self._error = ""  # of the last look
        self._complaint = ""  # the last error that was said, while it is not well again
        self._complained_at = 0  # that many failures in a row

    def run(self, idle: float) -> None:
        self._mattered_at = time.monotonic()
        while True:
            now = time.monotonic()
            self._pace.spent(now, self._cpu_taken())
            ends_at = self._mattered_at + idle
            if now >= ends_at and self._pace.may_end(now):
                return
            until = self._pace.next_at
            if until is None:
                until = ends_at if now < ends_at else now + ENDS_LATER_SECONDS
            rung = self._bell.wait(max(0.0, until - now), self._kernel.port, self._kernel.is_far)
            now = time.monotonic()
            if rung.heard.changed or rung.look:
                self._pace.hear(now)
            if rung.look:
                self._pace.ask_for_look(now + ONCE_MORE_SECONDS)
            if rung.heard.missing:
                self._pace.hear(now, missing=True)
            if rung.stop:
                if self._pace.next_at is not None:
                    self._bell.ring()
                return
            if _is_due(self._pace.look_at, now):
                if not self._look():
                    self._bell.drain()
                    return
            elif _is_due(self._pace.restore_at, now):
                self._restore()

    def _look(self) -> bool:
        """One apply; whether there is something to follow."""
        manner = engine.Manner(exact=False, kernel=self._kernel, keeps=self._is_flapping)
        try:
            outcome = engine.apply_again(self._root, manner)
        except SourceRoutingError as error:
            in_force = error.view if isinstance(error, engine.NotWritten) else None
            taken = self._cpu_taken()
            self._pace.failed(time.monotonic(), taken, in_vain=in_force is None)
            self._report_failure(error)
            if in_force is not None:
                self._remember(in_force)
            self._mattered_at = time.monotonic()
            return True
        if outcome is None:
            return False
        self._pace.looked(time.monotonic(), self._cpu_taken())
        if self._grace is None:
            self._report_success()
            self._remember(outcome.view)
        else:
            # What was planned before stays in force, and is not restored by a plan without it.
            self._pace.ask_for_look(self._grace)
        if outcome.changed:
            line = self._tell(outcome)
            # How many changes it takes is different each time that somebody undoes some.
            self._report(line.partition("; ")[2], line)
        if self._mend(outcome.view) or outcome.changed:
            self._mattered_at = time.monotonic()
        return True

    def _cpu_taken(self) -> float:
        """The CPU seconds that have been taken since this was asked last."""
        before, self._cpu = self._cpu, _cpu_seconds()
        return self._cpu - before

    def _remember(self, view: engine.View) -> None:
        """The plan of `view` is in force, and is restored from now on."""
        # Restoring needs nothing of the routes of others, which may be many.
        slim = replace(view.state, routes=(), neighbours=())
        self._seen = replace(view, state=slim)
        self._flaps.applied(view.plan, view.state)

    def _mend(self, view: engine.View) -> bool:
        """Do what systemd-networkd leaves undone; whether there was something to do."""
        names = {nic.name for nic in view.plan.nics} | set(view.plan.reserved_tables)
        links = networkd_links(self._root, view.state, names)
        remedies, again = self._mender.examine(time.monotonic(), links)
        for remedy in remedies:
            self._say(WARNING, f"{remedy.name}: {remedy.reason}")
            try:
                apply_remedy(remedy)
            except CommandError as error:
                self._say(WARNING, f"{remedy.name}: {error}")
        if again is not None:
            self._pace.ask_for_look(again)
        return bool(remedies)

    def _is_flapping(self, view: engine.View) -> bool:
        self._grace = self._flaps.grace(time.monotonic(), view.plan, view.state)
        return self._grace is not None

    def _restore(self) -> None:
        """Bring back what is ours and missing."""
        self._pace.spent(time.monotonic(), self._cpu_taken())
        operations = None
        if self._seen is not None:
            try:
                operations = engine.restore(self._seen, self._root, self._kernel)
            except SourceRoutingError:
                # A link is gone, or more has changed than that: a look says what is wrong.
                pass
        now = time.monotonic()
        self._pace.restored(now, self._cpu_taken(), changed=bool(operations))
        if operations is None:
            self._pace.hear(now)
        elif operations:
            self._mattered_at = now
            count = len(operations)
            changes = "1 change" if count == 1 else f"{count} changes"
            self._report(
                "restored", f"{changes}; routes or rules of ours were missing and are back"
            )

    def _report(self, kind: str, line: str) -> None:
        more = self._repeats.worth_saying(kind, time.monotonic())
        if more is not None:
            self._say(NOTICE, line + more)

    def _report_failure(self, error: SourceRoutingError) -> None:
        """Once, and then each time that the failures in a row have doubled."""
        line, failures = str(error), self._pace.failures
        more: str | None = None
        if line != self._error:
            # One kind has many texts, as with who holds a lock.
            more = self._repeats.worth_saying(type(error).__name__, time.monotonic())
        elif failures >= 2 * max(self._complained_at, FEW_FAILURES):
            more = f" ({failures} times in a row)"
        self._error = line
        if more is not None:
            self._complaint, self._complained_at = line, failures
            self._say(ERROR, line + more)

    def _report_success(self) -> None:
        if self._complaint:
            self._say(NOTICE, f"well again after: {self._complaint}")
        self._error = self._complaint = ""


def _cpu_seconds() -> float:
    """What this process and the commands that it has run have taken of a CPU."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def _is_due(moment: float | None, now: float) -> bool:
    return moment is not None and moment <= now
