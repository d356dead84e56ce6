"""Follow the kernel's announcements, tell what they mean, and check when they settle.

Changes nothing, and needs no root to listen.
"""

from __future__ import annotations

import select
import time
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional

from .. import engine
from ..errors import SourceRoutingError
from ..model import Stanza
from .narrate import Known, Told

# A check comes when nothing was heard for so long, or at the latest so long after
# the first event: a routing daemon never is quiet.
QUIET_SECONDS = 1.0
PATIENCE_SECONDS = 5.0


class Line(NamedTuple):
    """What is said, and when."""

    moment: float  # seconds since the epoch
    about: str  # link, address, route, rule; check; watch
    what: str
    meaning: str = ""


def watch(
    stanza: Callable[[], Stanza],
    root: Path,
    say: Callable[[Line], None],
    seconds: Optional[float] = None,
    exact: bool = True,
) -> List[str]:
    """Say what happens, for ever or for `seconds`; the deviations at the end.

    `stanza` is asked before each check: an apply may have changed it; `exact` as in
    `engine.view`.
    Raises `DiscoveryError` when the kernel cannot be read.
    """
    from ..kernel.listen import Listener

    end = None if seconds is None else time.monotonic() + seconds
    with Listener() as listener:
        view, found = engine.check(stanza(), root, exact)
        listener.know(list(view.state.links))
        known = Known(view.state, view.plan)
        for line in _verdict(view, found, None):
            say(line)
        heard_first = heard_last = 0.0  # of what is not checked yet
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
                    known.plan(view.plan)
                    for line in _verdict(view, now_found, found):
                        say(line)
                    found = now_found
                    continue
            waits = [moment - now for moment in (due, end) if moment is not None]
            select.select([listener], [], [], min(waits) if waits else None)
            heard = listener.read()
            told = list(filter(None, map(known.hear, heard.changes)))
            for one in told:
                say(_line(one))
            if heard.overrun:
                say(Line(time.time(), "watch", "more came than could be read; some of it is lost"))
                view = engine.view(stanza(), root, exact=exact)
                listener.know(list(view.state.links))
                known.learn(view.state, view.plan)
            if told or heard.overrun:
                heard_last = time.monotonic()
                heard_first = heard_first or heard_last


def _line(told: Told) -> Line:
    return Line(time.time(), told.about, told.what, told.meaning)


def _verdict(view: engine.View, found: List[str], before: Optional[List[str]]) -> List[Line]:
    """What is wrong now that was not before, and whether all is well."""
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
        what = "what was told before" if lines else "it is as it was told before"
        lines.append(Line(moment, "check", f"{what}: {old} deviations"))
    return lines
