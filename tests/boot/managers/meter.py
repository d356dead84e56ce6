"""Streams of pings from the remote host while something happens, and what became of them."""

from __future__ import annotations

import bisect
import re
import subprocess
import threading
import time
from collections.abc import Iterable
from typing import NamedTuple

from imagebuild.lab.network import Lab
from lab import PATIENCE_SECONDS

INTERVAL_SECONDS = 0.02
HALF = 1 << 15  # of the numbers that an echo request can have
_REPLY = re.compile(r"bytes from .*icmp_seq=(\d+)")


class Reply(NamedTuple):
    number: int
    moment: float  # by the monotonic clock


class Outage(NamedTuple):
    """What one address's stream has missed from one reply to its last one."""

    lost: int  # packets
    seconds: float  # the longest time without a reply


class Streams:
    """A stream of pings to each address for as long as the block runs::

    with Streams(lab, ["10.13.96.161"]) as streams:
        ...
    assert streams.outages()["10.13.96.161"].lost == 0
    """

    def __init__(self, lab: Lab, addresses: Iterable[str], interval: float = INTERVAL_SECONDS):
        self._lab, self._interval = lab, interval
        self._followed = set(addresses)
        self._replies: dict[str, list[Reply]] = {}
        self._processes: list[subprocess.Popen[str]] = []
        self._readers: list[threading.Thread] = []

    def __enter__(self) -> Streams:  # noqa: PYI034 - Self is not in Python 3.9
        self.follow(self._followed)
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self._processes:
            process.kill()
        for reader in self._readers:
            reader.join(timeout=PATIENCE_SECONDS)
        for process in self._processes:
            process.wait()

    def follow(self, addresses: Iterable[str]) -> None:
        """From now on these count and no others; a new one gets a stream."""
        self._followed = set(addresses)
        for address in self._followed - set(self._replies):
            self._replies[address] = []
            process = subprocess.Popen(
                [*self._lab.remote.prefix(), "ping", "-n", f"-i{self._interval}", address],
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
            )
            reader = threading.Thread(target=self._read, args=(address, process))
            self._processes.append(process)
            self._readers.append(reader)
            reader.start()

    def outages(self, since: float = 0.0) -> dict[str, Outage]:
        """Of each address that counts, from its last reply before `since` on.

        By the monotonic clock.
        """
        return {address: _outage(self._replies[address], since) for address in self._followed}

    def answering_since(self, moment: float) -> bool:
        """Whether every address has answered after `moment`, by the monotonic clock."""
        return not self.silent_since(moment)

    def silent_since(self, moment: float) -> list[str]:
        return [
            address
            for address in sorted(self._followed)
            if not (replies := self._replies[address]) or replies[-1].moment <= moment
        ]

    def first(self, address: str) -> float | None:
        """When `address` has answered for the first time, by the monotonic clock."""
        replies = self._replies[address]
        return replies[0].moment if replies else None

    def _read(self, address: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        number = 0
        for line in process.stdout:
            if match := _REPLY.search(line):
                # 16 bits on the wire: the reply is one of those about the last one.
                step = (int(match.group(1)) - number + HALF) % (2 * HALF) - HALF
                number += step
                self._replies[address].append(Reply(number, time.monotonic()))


def _outage(replies: list[Reply], since: float) -> Outage:
    moments = [reply.moment for reply in replies]
    seen = replies[max(0, bisect.bisect_left(moments, since) - 1) :]
    if not seen:
        return Outage(0, float("inf"))
    numbers = {reply.number for reply in seen}
    gaps = (after.moment - before.moment for before, after in zip(seen, seen[1:]))
    return Outage(max(numbers) - min(numbers) + 1 - len(numbers), max(gaps, default=0.0))
