"""How long boots took, for a table at the end of the run."""

from __future__ import annotations

from typing import NamedTuple

from tabulate import tabulate


class BootTime(NamedTuple):
    """One boot, until cloud-init's last stage was over."""

    server: str
    what: str  # first boot, reboot
    seconds: float


NOTED: list[BootTime] = []


def note(server: str, what: str, seconds: float) -> None:
    NOTED.append(BootTime(server, what, seconds))


def hand_over(workeroutput: dict[str, object]) -> None:
    """From a worker of pytest-xdist to the process that reports."""
    workeroutput[__name__] = [list(time) for time in NOTED]


def take_over(workeroutput: dict[str, list[list]]) -> None:
    NOTED.extend(BootTime(*time) for time in workeroutput.get(__name__, ()))


def table(times: list[BootTime]) -> str:
    """A line each server and kind of boot: how many, the shortest and the longest, in seconds."""
    rows = []
    for server, what in dict.fromkeys((time.server, time.what) for time in times):
        took = [time.seconds for time in times if (time.server, time.what) == (server, what)]
        rows.append((server, what, len(took), round(min(took)), round(max(took))))
    return tabulate(rows, ("server", "boot", "times", "shortest", "longest"), tablefmt="github")
