"""What was measured, as a table: event x server, for the end of the run."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tabulate import tabulate

# How often each thing happens; the figures are then median and maximum.
REPEAT = int(os.environ.get("SOURCE_ROUTING_REPEAT", "1"))
KEY = "manager event"  # under which a test records a `Measured`

LEGEND = """\
healed: seconds until `check` is content and every address answers, from the end of the event
    or, where the network manager has to bring addresses back first, from when they can be used
silent: the longest time without a reply of any address, in seconds, the event included
lost elsewhere: packets lost by NICs that nothing happened to (one is sent each 20 ms)
"""


class Measured(NamedTuple):
    """What one event has cost one server, each time that it was made to happen.

    Where nobody has listened all the time, silence and loss are not known.
    """

    world: str
    event: str
    healed: Sequence[float]  # seconds
    silence: Sequence[float] = ()  # seconds
    lost_elsewhere: Sequence[int] = ()  # packets

    def recorded(self) -> tuple[str, str]:
        return KEY, json.dumps(self._asdict())

    def cells(self) -> tuple[str, ...]:
        lost = str(max(self.lost_elsewhere, default=""))
        return str(len(self.healed)), _told(self.healed), _told(self.silence), lost


def _told(times: Sequence[float]) -> str:
    if len(times) < 2:
        return "".join(f"{time:.1f}" for time in times)
    return f"{statistics.median(times):.1f}, at most {max(times):.1f}"


def measured(properties: Iterable[tuple[str, object]]) -> list[Measured]:
    return [Measured(**json.loads(str(value))) for key, value in properties if key == KEY]


def table(found: Iterable[Measured]) -> str:
    """A line each server and event, in the order in which they happened first."""
    lines: dict[tuple[str, str], Measured] = {}
    for one in found:
        before = lines.get(one[:2], Measured(*one[:2], ()))
        more = ([*had, *has] for had, has in zip(before[2:], one[2:]))
        lines[one[:2]] = Measured(*one[:2], *more)
    rows = [(one.world, one.event, *one.cells()) for one in lines.values()]
    headers = ("server", "event", "times", "healed", "silent", "lost elsewhere")
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)
