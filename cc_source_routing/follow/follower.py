"""The one event path: listen, wait for quiet, restore or look, and leave when idle."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from .. import engine
from ..errors import ApplyError, CommandError, SourceRoutingError
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
        self._cpu = time.process_time()
        self._pace, self._flaps, self._mender = Pace(now), Flaps(), Mender()
        self._pace.ask_for_look(now)
        self._seen: engine.View | None = None  # of the last look that took all away
        self._grace: float | None = None  # until when the last look has taken nothing away
        self._repeats = Repeats()
        self._error = ""  # the last one, which is said once

    def run(self, idle: float) -> None:
        mattered = time.monotonic()
        while True:
            now = time.monotonic()
            self._pace.spent(now, self._cpu_taken())
            next_at = self._pace.next_at
            ends_at = mattered + idle
            if next_at is None and now >= ends_at:
                return
            until = ends_at if next_at is None else next_at
            rung = self._bell.wait(max(0.0, until - now), self._kernel.port, self._kernel.is_far)
            if rung.stop:
                return
            now = time.monotonic()
            if rung.heard.changed or rung.look:
                self._pace.hear(now)
            if rung.look:
                self._pace.ask_for_look(now + ONCE_MORE_SECONDS)
            if rung.heard.missing:
                self._pace.hear(now, missing=True)
            if _is_due(self._pace.look_at, now):
                changed = self._look()
                if changed is None:
                    return
                if changed:
                    mattered = time.monotonic()
            elif _is_due(self._pace.restore_at, now) and self._restore():
                mattered = time.monotonic()

    def _look(self) -> bool | None:
        """One apply; whether it changed something, None when there is nothing to follow."""
        manner = engine.Manner(exact=False, kernel=self._kernel, keeps=self._is_flapping)
        try:
            outcome = engine.apply_again(self._root, manner)
        except SourceRoutingError as error:
            now = time.monotonic()
            self._pace.failed(now, self._cpu_taken())
            self._report_failure(str(error))
            return True
        if outcome is None:
            return None
        if self._error:
            self._say(NOTICE, f"well again after: {self._error}")
            self._error = ""
        now = time.monotonic()
        self._pace.looked(now, self._cpu_taken())
        view = outcome.view
        if self._grace is None:
            # Restoring needs nothing of the routes of others, which may be many.
            slim = replace(view.state, routes=(), neighbours=())
            self._seen = replace(view, state=slim)
            self._flaps.applied(view.plan, view.state)
        else:
            # What was planned before stays in force, and is not restored by a plan without it.
            self._pace.ask_for_look(self._grace)
        if outcome.changed:
            line = self._tell(outcome)
            self._report(line, line)
        return self._mend(view) or outcome.changed

    def _cpu_taken(self) -> float:
        """The CPU seconds that the process has taken since this was asked last."""
        before, self._cpu = self._cpu, time.process_time()
        return self._cpu - before

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

    def _restore(self) -> bool:
        """Bring back what is ours and missing; whether something was."""
        if self._seen is None:
            self._pace.restored(time.monotonic(), changed=False)
            return False
        try:
            operations = engine.restore(self._seen, self._root, self._kernel)
        except ApplyError:
            # A link is gone, or more has changed than that.
            operations = None
        now = time.monotonic()
        self._pace.restored(now, changed=bool(operations))
        if operations is None:
            self._seen = None
            self._pace.ask_for_look(now)
            return True
        if operations:
            count = len(operations)
            changes = "1 change" if count == 1 else f"{count} changes"
            self._report(
                "restored", f"{changes}; routes or rules of ours were missing and are back"
            )
        return bool(operations)

    def _report(self, kind: str, line: str) -> None:
        more = self._repeats.worth_saying(kind, time.monotonic())
        if more is not None:
            self._say(NOTICE, line + more)

    def _report_failure(self, error: str) -> None:
        """Once, and then each time that the failures in a row have doubled."""
        failures = self._pace.failures
        if error != self._error:
            self._say(ERROR, error)
        elif failures & (failures - 1) == 0:
            self._say(ERROR, f"{error} (for the {failures}th time in a row)")
        self._error = error


def _is_due(moment: float | None, now: float) -> bool:
    return moment is not None and moment <= now
