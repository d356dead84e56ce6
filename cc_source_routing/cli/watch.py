"""Follow the kernel's notifications, report what they mean, and check once they settle.

Changes nothing, and needs no root privileges to listen.
"""

from __future__ import annotations

import select
import time
from pathlib import Path
from typing import Callable, NamedTuple

from .. import engine
from ..errors import SourceRoutingError
from ..model import Stanza
from .narrate import Event, Narrator

# A check runs once no event has come for QUIET_SECONDS, or at the latest PATIENCE_SECONDS
# after the first event, since a routing daemon is never quiet.
QUIET_SECONDS = 1.0
PATIENCE_SECONDS = 5.0


class Line(NamedTuple):
    """One line of output and its time."""

    moment: float  # seconds since the epoch
    about: str  # link, address, route, rule; check; watch
    what: str
    meaning: str = ""


def watch(
    stanza: Callable[[], Stanza],
    root: Path,
    say: Callable[[Line], None],
    seconds: float | None = None,
    exact: bool = True,
) -> list[str]:
    """Report events without end or for `seconds`; returns the deviations at the end.

    `stanza` is called before each check, since an apply may have changed it; `exact` as in
    `engine.view`.  Raises `DiscoveryError` when the kernel cannot be read.
    """
    from ..kernel.listen import Listener

    end = None if seconds is None else time.monotonic() + seconds
    with Listener() as listener:
        view, found = engine.check(stanza(), root, exact)
        listener.know(list(view.state.links))
        narrator = Narrator(view.state, view.plan)
        for line in _verdict(view, found, None):
            say(line)
        heard_first = heard_last = 0.0  # events not checked yet
        while True:
            now = time.monotonic()
            if end is not None and now >= end:
                return found
            due = None
            if heard_first:
                due = min(heard_last + QUIET_SECONDS, heard_first + PATIENCE_SECONDS)
                if now >= due:
                    heard_first = 0.0
                    try:
                        view, now_found = engine.check(stanza(), root, exact)
                    except SourceRoutingError as error:
                        say(Line(time.time(), "check", str(error)))
                        continue
                    narrator.set_plan(view.plan)
                    for line in _verdict(view, now_found, found):
                        say(line)
                    found = now_found
                    continue
            waits = [moment - now for moment in (due, end) if moment is not None]
            select.select([listener], [], [], min(waits) if waits else None)
            heard = listener.read()
            events = list(filter(None, map(narrator.describe, heard.changes)))
            for event in events:
                say(_line(event))
            if heard.overrun:
                say(Line(time.time(), "watch", "more came than could be read; some of it is lost"))
                view = engine.view(stanza(), root, exact, all_routes=True)
                listener.know(list(view.state.links))
                narrator.reset(view.state, view.plan)
            if events or heard.overrun:
                heard_last = time.monotonic()
                heard_first = heard_first or heard_last


def _line(event: Event) -> Line:
    return Line(time.time(), event.about, event.what, event.meaning)


def _verdict(view: engine.View, found: list[str], before: list[str] | None) -> list[Line]:
    """The deviations that are new since `before`, or a line that all is well."""
    moment = time.time()
    if not found:
        count = sum(len(nic.addresses) for nic in view.plan.nics)
        again = " again" if before else ""
        what = f"all is well{again}: {count} managed addresses answer by their own NIC"
        if not count:
            what = f"nothing is managed here: {view.plan.reason}"
        return [Line(moment, "check", what, "")]
    lines = [Line(moment, "check", text) for text in found if text not in (before or ())]
    old = len(found) - len(lines)
    if old:
        what = "reported before" if lines else "unchanged"
        lines.append(Line(moment, "check", f"{what}: {old} deviations"))
    return lines
