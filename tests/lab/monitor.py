"""Record netlink events while something runs: `ip monitor` between two marks."""

from __future__ import annotations

import subprocess
import threading

from .netns import Lab
from .waiting import PATIENCE_SECONDS, wait_until

# A blackhole route, added and deleted, shows that the monitor listens, and later that it
# has seen all earlier events.
BEGIN, END = "192.0.2.251", "192.0.2.252"
MARK_TABLE = "7777777"


class Monitor:
    """Collects the netlink events of links, addresses, routes and rules of a namespace.

    ::

        with Monitor(lab, "S") as monitor:
            ...
        assert monitor.events == []
    """

    def __init__(self, lab: Lab, netns: str):
        self._lab, self._netns = lab, netns
        self._lines: list[str] = []
        self.events: list[str] = []

    def __enter__(self) -> Monitor:  # noqa: PYI034 - Self is not in Python 3.9
        argv = ("ip", "-N", "-o", "monitor", "link", "address", "route", "rule")
        self._process = self._lab.popen(
            self._netns, *argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._mark(BEGIN)
        return self

    def __exit__(self, *exc: object) -> None:
        self._mark(END)
        self._process.terminate()
        self._process.wait(timeout=PATIENCE_SECONDS)
        self._reader.join(timeout=PATIENCE_SECONDS)
        first = max(i for i, line in enumerate(self._lines) if BEGIN in line)
        last = min(i for i, line in enumerate(self._lines) if END in line)
        self.events = self._lines[first + 1 : last]

    def _read(self) -> None:
        for line in self._process.stdout:
            self._lines.append(line.rstrip())

    def heard(self, text: str) -> int:
        """The number of events with this text so far; it keeps listening."""
        return sum(text in line for line in list(self._lines))

    def _mark(self, address: str) -> None:
        mark = ("blackhole", f"{address}/32", "table", MARK_TABLE)

        def is_heard() -> bool:
            if not self.heard(address):
                self._lab.ip(self._netns, "route", "add", *mark)
                self._lab.ip(self._netns, "route", "del", *mark)
            return self.heard(address) > 0

        wait_until(is_heard, story=lambda: "ip monitor hears nothing")
