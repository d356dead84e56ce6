"""When to act on events: after a moment of quiet, within a budget, and slower when in vain.  Pure.

There are two kinds of work.  To *restore* is to compare what is ours in the kernel with the
last plan; it is cheap on any host.  To *look* is a whole apply, which goes through all routes
of the host.  Moments are seconds of a monotonic clock that the caller reads.
"""

from __future__ import annotations

# An event is seldom alone: a link that comes up brings addresses and routes.
QUIET_SECONDS = 0.05
# A routing daemon is never quiet.
PATIENCE_SECONDS = 1.0
# The share of one CPU that each kind of work may take in the long run, and what it may take
# at once: a minute's share.  Listening counts as looking.
CPU_SHARE = 0.05
CPU_ALLOWANCE_SECONDS = 60 * CPU_SHARE
# After a failure, and between restores that do not last.
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
# Restores in a row that cost no pause: a network manager that is restarted flushes its
# rules more than once.
RESTORES_WITHOUT_PAUSE = 5
# What was restored and has stayed for so long is not undone by a program that answers each
# restore: two of those would keep each other busy.  One that comes by each second costs little.
LASTING_SECONDS = 0.2


class Pause:
    """A pause that doubles with each time in a row, up to `LONGEST_PAUSE_SECONDS`."""

    def __init__(self, free: int = 0) -> None:
        self._free = free
        self.times = 0

    def next(self) -> float:
        """The pause after one more time."""
        self.times += 1
        doublings = self.times - 1 - self._free
        if doublings < 0:
            return 0.0
        return min(FIRST_PAUSE_SECONDS * 2.0 ** min(doublings, 16), LONGEST_PAUSE_SECONDS)

    def reset(self) -> None:
        self.times = 0


class Budget:
    """CPU seconds that may be spent: `CPU_SHARE` of the time that passes."""

    def __init__(self, now: float) -> None:
        self._left = CPU_ALLOWANCE_SECONDS
        self._since = now

    def spend(self, now: float, seconds: float) -> None:
        earned = (now - self._since) * CPU_SHARE
        self._left = min(self._left + earned, CPU_ALLOWANCE_SECONDS) - seconds
        self._since = now

    def is_ample(self, now: float) -> bool:
        """Whether at least half of the allowance is there."""
        return self._left + (now - self._since) * CPU_SHARE >= CPU_ALLOWANCE_SECONDS / 2

    @property
    def free_at(self) -> float:
        """From when on there is something to spend."""
        return self._since + max(0.0, -self._left / CPU_SHARE)


class Quiet:
    """When a burst of events counts as over."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._last = 0.0

    def hear(self, now: float) -> None:
        if self._first is None:
            self._first = now
        self._last = now

    def clear(self) -> None:
        self._first = None

    @property
    def over_at(self) -> float | None:
        """None when nothing has been heard."""
        if self._first is None:
            return None
        return min(self._last + QUIET_SECONDS, self._first + PATIENCE_SECONDS)


class Pace:
    """The moments of the next restore and the next look."""

    def __init__(self, now: float) -> None:
        self._missing, self._changed = Quiet(), Quiet()
        self._look_budget, self._restore_budget = Budget(now), Budget(now)
        self._failures, self._undone = Pause(), Pause(RESTORES_WITHOUT_PAUSE)
        self._restored_at = now - LASTING_SECONDS
        self._restore_from = self._look_from = self._next_attempt = now
        self._asked_for: float | None = None

    # -- what happens ----------------------------------------------------------

    def hear(self, now: float, missing: bool = False) -> None:
        """Something has changed that plans depend on, or, with `missing`, what is ours is gone."""
        if not missing:
            self._changed.hear(now)
            return
        if self._missing.over_at is None and now - self._restored_at >= LASTING_SECONDS:
            self._undone.reset()
        self._missing.hear(now)

    def ask_for_look(self, moment: float) -> None:
        """Look at `moment` at the latest, whether or not anything happens until then."""
        if self._asked_for is None or moment < self._asked_for:
            self._asked_for = moment

    def spent(self, now: float, cpu_seconds: float) -> None:
        """So much CPU time has gone into something else than looks and restores."""
        self._look_budget.spend(now, cpu_seconds)

    def restored(self, now: float, cpu_seconds: float, changed: bool) -> None:
        """A restore is done; `changed` when something was missing."""
        self._restore_budget.spend(now, cpu_seconds)
        self._missing.clear()
        if not changed:
            return
        self._restored_at = now
        self._restore_from = now + self._undone.next()

    def looked(self, now: float, cpu_seconds: float) -> None:
        """A look has ended well, at the cost of so much CPU time."""
        self._settle(now, cpu_seconds)
        self._failures.reset()
        self._look_from = self._next_attempt = now

    def failed(self, now: float, cpu_seconds: float, in_vain: bool = True) -> None:
        """A look has failed: the event is not forgotten.

        New events wait for the next attempt too, where this one has served nobody; else one
        that an event has brought about is none of those that have their time.
        """
        self._settle(now, cpu_seconds)
        if now >= self._next_attempt:
            self._next_attempt = now + self._failures.next()
        again = max(self._next_attempt, self._look_budget.free_at)
        self._look_from = again if in_vain else now
        self.ask_for_look(again)

    def _settle(self, now: float, cpu_seconds: float) -> None:
        self._look_budget.spend(now, cpu_seconds)
        self._changed.clear()
        self._missing.clear()
        if self._asked_for is not None and self._asked_for <= now:
            self._asked_for = None

    # -- what is next ----------------------------------------------------------

    @property
    def restore_at(self) -> float | None:
        over = self._missing.over_at
        if over is None:
            return None
        return max(over, self._restore_from, self._restore_budget.free_at)

    @property
    def look_at(self) -> float | None:
        over = self._changed.over_at
        moments = [] if over is None else [max(over, self._look_from, self._look_budget.free_at)]
        if self._asked_for is not None:
            moments.append(self._asked_for)
        return min(moments, default=None)

    @property
    def next_at(self) -> float | None:
        """The moment of whichever comes first; None when there is nothing to do."""
        moments = [moment for moment in (self.restore_at, self.look_at) if moment is not None]
        return min(moments, default=None)

    def may_end(self, now: float) -> bool:
        """Whether there is nothing to do, and a process that begins anew would gain nothing."""
        budgets = self._look_budget, self._restore_budget
        return self.next_at is None and all(budget.is_ample(now) for budget in budgets)

    @property
    def failures(self) -> int:
        """How many attempts in a row have failed."""
        return self._failures.times
