"""Show the user each step and its duration."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

_HEARTBEAT_SECONDS = 15.0  # without a terminal, to keep logs short


class Progress:
    """Prints each step with its seconds; on a terminal the seconds tick."""

    def __init__(self, stream: TextIO | None = None):
        self._stream = stream or sys.stderr
        self._tty = self._stream.isatty()
        self._start = time.monotonic()
        self._lock = threading.Lock()

    def _put(self, text: str, end: str = "\n") -> None:
        with self._lock:
            self._stream.write(f"\r\033[K{text}{end}" if self._tty else text + end)
            self._stream.flush()

    def say(self, text: str) -> None:
        """Print a separate line, with the seconds since the start."""
        self._put(f"[{time.monotonic() - self._start:5.0f} s] {text}")

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show when the step `text` begins, that it continues, and how long it took."""
        begun = time.monotonic()
        done = threading.Event()
        if not self._tty:
            self.say(f"{text} ...")

        def tick() -> None:
            while not done.wait(1.0 if self._tty else _HEARTBEAT_SECONDS):
                spent = time.monotonic() - begun
                if self._tty:
                    self._put(f"[{begun - self._start:5.0f} s] {text} ... {spent:.0f} s", end="")
                else:
                    self.say(f"{text} ... {spent:.0f} s")

        ticker = threading.Thread(target=tick, daemon=True)
        ticker.start()
        outcome = "failed after"
        try:
            yield
            outcome = "done in"
        finally:
            done.set()
            ticker.join()
            self.say(f"{text}: {outcome} {time.monotonic() - begun:.1f} s")


class Silent(Progress):
    """For callers that report progress themselves."""

    def _put(self, text: str, end: str = "\n") -> None:
        pass
