"""`source-routing watch`: what happens in the kernel, as it happens, in words."""

from __future__ import annotations

import contextlib
import functools
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lab import PATIENCE_SECONDS, Lab, SourceRouting

pytestmark = pytest.mark.kernel


class Watcher:
    """A `watch --json` that runs in the server, and what it has said."""

    def __init__(self, process: subprocess.Popen[str]):
        self.process = process

    def until(self, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """The lines up to the one that is `wanted`; the watcher ends after minutes by itself."""
        heard = []
        assert self.process.stdout is not None
        for text in self.process.stdout:
            heard.append(json.loads(text))
            if wanted(heard[-1]):
                return heard
        raise AssertionError(f"it ended: {heard}")

    def verdict(self) -> list[dict[str, Any]]:
        return self.until(lambda line: line["about"] == "check")


@contextlib.contextmanager
def watching(command: SourceRouting, *options: str) -> Iterator[Watcher]:
    process = command.popen(
        "watch",
        "--json",
        "--seconds",
        "300",
        *options,
        stdout=subprocess.PIPE,
        text=True,
        # A shell has whoever it runs in the background ignore Ctrl-C, and that is inherited.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler),
    )
    try:
        yield Watcher(process)
    finally:
        process.kill()
        process.wait()


def test_it_begins_with_how_things_are(served: SourceRouting):
    with watching(served) as watcher:
        (line,) = watcher.verdict()
    assert line["what"].startswith("all is well: 4 managed addresses")


def test_a_rule_that_somebody_deletes_is_told_with_what_it_breaks(served, lab: Lab):
    with watching(served) as watcher:
        watcher.verdict()
        lab.ip("S", "rule", "del", "priority", "5030", "from", "10.13.96.161")
        told, *found = watcher.verdict()
        assert told["about"] == "rule"
        assert told["what"] == "from 10.13.96.161 lookup 501 priority 5030 is gone"
        assert told["meaning"] == "replies of 10.13.96.161 may leave by another NIC than ens4"
        assert found[0]["what"].startswith("missing or different: rule from 10.13.96.161")
        served.ok("apply")
        told = watcher.until(lambda line: "all is well again" in line["what"])
        assert "from 10.13.96.161 lookup 501 priority 5030 is there" in [
            line["what"] for line in told
        ]


def test_a_flap_is_told_as_what_the_kernel_did(served, lab: Lab):
    with watching(served) as watcher:
        watcher.verdict()
        lab.ip("S", "link", "set", "ens4", "down")
        lines = {line["what"]: line["meaning"] for line in watcher.verdict()}
        assert lines["ens4 is down"] == "the kernel takes its routes along"
        gone = "default via fd00:96::1 dev ens4 table 501 is gone"
        assert lines[gone] == "fd00:96::161 cannot go by it"
        # Of IPv4's nobody tells, so that they are back is news.
        lab.ip("S", "link", "set", "ens4", "up")
        served.ok("apply")
        back = "default via 10.13.96.1 dev ens4 table 501 is there"
        watcher.until(lambda line: line["what"] == back)
        watcher.until(lambda line: "all is well again" in line["what"])


def test_addresses_and_links_come_and_go(served, lab: Lab):
    with watching(served) as watcher:
        watcher.verdict()
        lab.ip("S", "address", "add", "10.13.96.77/19", "dev", "ens4")
        told = watcher.until(lambda line: line["about"] == "address")[-1]
        assert told["what"] == "10.13.96.77/19 is on ens4"
        assert told["meaning"] == "not in the plan yet"
        lab.ip("S", "link", "add", "br9", "type", "bridge")
        lab.ip("S", "link", "set", "br9", "name", "br10")
        told = watcher.until(lambda line: line["what"] == "br9 is called br10 now")[-1]
        assert told["meaning"] == "rules and files bear the old name until the next apply"
        lab.ip("S", "link", "del", "br10")
        watcher.until(lambda line: line["what"] == "br10 is gone")


def test_what_is_the_same_as_before_is_not_told(served, lab: Lab):
    """A replaced route is announced, and so is each flag of a link."""
    with watching(served) as watcher:
        watcher.verdict()
        for _time in range(3):
            lab.ip("S", "route", "replace", "203.0.113.0/24", "via", "10.13.96.9")
        lab.ip("S", "link", "set", "ens4", "allmulticast", "on")
        lab.ip("S", "rule", "add", "from", "192.0.2.9", "lookup", "main", "priority", "100")
        lines = watcher.until(lambda line: line["about"] == "rule")
        routes = [line["what"] for line in lines if line["about"] == "route"]
        assert routes == ["203.0.113.0/24 via 10.13.96.9 dev ens4 table 254 is there"]
        assert not [line for line in lines if line["about"] == "link"]
        assert lines[-1]["meaning"] == "it is asked before ours"


def test_when_more_comes_than_can_be_read_it_says_so_and_looks_anew(served, lab: Lab):
    batch = "".join(f"route add 203.{n // 256}.{n % 256}.0/24 dev ens4\n" for n in range(20_000))
    with watching(served) as watcher:
        watcher.verdict()
        watcher.process.send_signal(signal.SIGSTOP)
        lab.run("S", "ip", "-batch", "-", stdin=batch)
        lab.run("S", "ip", "route", "flush", "root", "203.0.0.0/8")
        lab.ip("S", "rule", "del", "priority", "5030", "from", "10.13.96.161")
        watcher.process.send_signal(signal.SIGCONT)
        watcher.until(lambda line: "some of it is lost" in line["what"])
        watcher.until(lambda line: "rule from 10.13.96.161" in line["what"])


def test_it_ends_as_a_check_would(served, lab: Lab):
    assert served.run("watch", "--seconds", "0.5").code == 0
    lab.ip("S", "rule", "del", "priority", "5030", "from", "10.13.96.161")
    result = served.run("watch", "--seconds", "0.5")
    assert result.code == 1
    assert "  check    missing or different: rule from 10.13.96.161" in result.out


def test_ctrl_c_is_how_it_ends_otherwise(served):
    with watching(served) as watcher:
        watcher.verdict()
        watcher.process.send_signal(signal.SIGINT)
        assert watcher.process.wait(timeout=PATIENCE_SECONDS) == 0
