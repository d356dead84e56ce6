"""Packets: pings in bulk, the kernel's route lookup, and a meter for lost packets."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from .netns import Lab, LabError
from .waiting import PATIENCE_SECONDS

AT_ONCE = 24
ECHO = Path(__file__).with_name("udp_echo.py")


class Ping(NamedTuple):
    """One echo request from a namespace; `source` is an address or a device."""

    netns: str
    destination: str
    source: str | None = None
    mark: int = 0
    """What the sending socket marks its packets with."""

    def __str__(self) -> str:
        origin = f"{self.netns} from {self.source}" if self.source else self.netns
        origin += f" marked {self.mark:#x}" if self.mark else ""
        return f"{origin} -> {self.destination}"


def ping(lab: Lab, netns: str, destination: str, source: str | None = None) -> bool:
    """Whether an echo reply comes back."""
    return not pings(lab, [Ping(netns, destination, source)])


def pings(lab: Lab, wanted: Iterable[Ping], tries: int = 2) -> list[Ping]:
    """Send them all at once; returns those without an answer.

    A lost one is repeated, so that a busy machine does not cause a failure.
    """
    left = list(wanted)
    if not left:
        raise LabError("no pings: the matrix is empty")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _attempt in range(tries):
            answered = list(pool.map(lambda one: _ping(lab, one), left))
            left = [one for one, well in zip(left, answered) if not well]
            if not left:
                break
    return left


def _ping(lab: Lab, one: Ping) -> bool:
    argv = ["ping", "-n", "-q", "-c1", "-W1"]
    if one.source:
        argv += ["-I", one.source]
    if one.mark:
        argv += ["-m", str(one.mark)]
    done = lab.run(one.netns, *argv, one.destination, check=False, timeout=PATIENCE_SECONDS)
    return done.returncode == 0


class Lookup(NamedTuple):
    """The kernel's answer to ip-route(8) `get`."""

    dev: str = ""
    gateway: str = ""
    table: str = "main"
    error: str = ""


def route_get(lab: Lab, netns: str, *argv: str) -> Lookup:
    """`ip route get ARGV`."""
    family = ["-6"] if ":" in argv[0] else ["-4"]
    done = subprocess.run(
        ["ip", "-n", lab.name(netns), *family, "-j", "-N", "route", "get", *argv],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    if done.returncode:
        return Lookup(error=done.stderr.strip())
    return _lookup(json.loads(done.stdout)[0])


def routes_get(lab: Lab, netns: str, asked: Sequence[Sequence[str]]) -> list[Lookup]:
    """Run many `ip route get` in one process; returns the answers in order."""
    script = "".join(f"route get {' '.join(argv)}\n" for argv in asked)
    done = subprocess.run(
        ["ip", "-n", lab.name(netns), "-j", "-N", "-force", "-batch", "-"],
        input=script,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # With -j each successful command prints one array on a separate line; a failed one
    # prints an empty array or nothing, and an error with its line number.
    parsed = (json.loads(line) for line in done.stdout.splitlines() if line.strip())
    answers = [_lookup(answer[0]) for answer in parsed if answer]
    errors = {}
    complaint = ""
    for line in done.stderr.splitlines():
        if failed := re.match(r"Command failed -:(\d+)", line):
            errors[int(failed[1])] = Lookup(error=complaint)
        else:
            complaint = line.strip()
    if len(answers) + len(errors) != len(asked):
        return [route_get(lab, netns, *argv) for argv in asked]
    following = iter(answers)
    return [errors.get(number) or next(following) for number in range(1, len(asked) + 1)]


def _lookup(answer: dict[str, str]) -> Lookup:
    if answer.get("type") in ("unreachable", "blackhole", "prohibit"):
        return Lookup(error=str(answer["type"]))
    return Lookup(
        answer.get("dev", ""), answer.get("gateway", ""), str(answer.get("table", "main"))
    )


def rules_without_a_default(lab: Lab, netns: str) -> list[str]:
    """Our rules that look up a table without a default route in their family."""
    bad = []
    for family in ("-4", "-6"):
        text = lab.ip(netns, "-N", "-j", family, "route", "show", "table", "all")
        defaults = {r["table"] for r in json.loads(text) if r["dst"] == "default" and "table" in r}
        for line in lab.ip(netns, "-N", "-d", family, "rule").splitlines():
            words = line.split()
            table = words[words.index("lookup") + 1]
            if "proto 83" in line and table not in ("254", *defaults):
                bad.append(line)
    return bad


class Loss(NamedTuple):
    sent: int
    received: int
    longest_gap_ms: float

    @property
    def lost(self) -> int:
        return self.sent - self.received


class UdpEcho:
    """A stream of numbered datagrams that are echoed while something else happens.

    The server is bound to the address, so its answers have that source::

        with UdpEcho(lab, "R", "S", "10.13.96.161") as meter:
            ...
        assert meter.loss.lost == 0
    """

    def __init__(
        self,
        lab: Lab,
        sender: str,
        server: str,
        address: str,
        interval_ms: float = 1,
        port: int = 7007,
    ):
        self._lab, self._sender, self._server = lab, sender, server
        self._address, self._port, self._interval = address, str(port), str(interval_ms)
        self.loss = Loss(0, 0, 0)

    def __enter__(self) -> UdpEcho:  # noqa: PYI034 - Self is not in Python 3.9
        self._echo = self._start(self._server, "server", self._address, self._port)
        self._stream = self._start(
            self._sender, "sender", self._address, self._port, self._interval
        )
        return self

    def __exit__(self, *exc: object) -> None:
        self._stream.stdin.close()
        printed = self._stream.stdout.read()
        self._stream.wait(timeout=PATIENCE_SECONDS)
        self._echo.stdin.close()
        self._echo.wait(timeout=PATIENCE_SECONDS)
        if not printed:
            raise LabError("the UDP sender died")
        self.loss = Loss(**json.loads(printed))

    def _start(self, netns: str, *argv: str) -> subprocess.Popen[str]:
        process = self._lab.popen(
            netns,
            sys.executable,
            str(ECHO),
            *argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if process.stdout.readline().strip() != "ready":
            raise LabError(f"the UDP {argv[0]} in {netns} did not start")
        return process
