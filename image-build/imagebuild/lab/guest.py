"""The interface to a booted guest, for containers and virtual machines alike."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ..command import Completed
from ..errors import BuildError
from .config_drive import ConfigDrive

# The commands whose output is collected from every guest, for failed tests and the demo.
QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "cloud-init status": ("cloud-init", "status", "--format", "json"),
    "ip rule": ("ip", "rule"),
    "ip -6 rule": ("ip", "-6", "rule"),
    "ip route show table all": ("ip", "route", "show", "table", "all"),
    "ip -6 route show table all": ("ip", "-6", "route", "show", "table", "all"),
    "ip addr": ("ip", "addr"),
    "source-routing check": ("source-routing", "check"),
    "failed units": ("systemctl", "--failed", "--no-legend", "--plain"),
    "journal": ("journalctl", "-b", "--no-pager", "-o", "short-monotonic"),
    "cloud-init log": ("tail", "-c", "200000", "/var/log/cloud-init.log"),
}


class Guest(Protocol):
    """A booted image: a container or a virtual machine."""

    drive: ConfigDrive

    @property
    def patience(self) -> float:
        """The factor by which timeouts exceed those of a fast machine."""

    def run(self, argv: Sequence[str], *, timeout: float = 60) -> Completed:
        """Run a command as root in the guest."""

    def start(self) -> None:
        """Power on."""

    def responds(self) -> bool:
        """Whether it can run commands yet."""

    def reboot(self) -> None:
        """Restart the guest with its current disk; returns once it has gone down."""

    def stop(self) -> None:
        """Stop it and discard what it has written."""

    def alive(self) -> bool:
        """Whether its process is still running."""

    def console(self) -> str:
        """The end of its console output."""


_AnyGuest = TypeVar("_AnyGuest", bound=Guest)


@contextlib.contextmanager
def running(guest: _AnyGuest) -> Iterator[_AnyGuest]:
    """Start a guest, and stop it at the end."""
    try:
        guest.start()
        yield guest
    finally:
        guest.stop()


@dataclass(frozen=True)
class Boot:
    """The result of a boot, as the guest reports it."""

    status: dict[str, Any]  # cloud-init status --format json
    status_code: int
    seconds: float


def wait_for_boot(guest: Guest) -> Boot:
    """Wait until cloud-init has finished all stages of this boot; returns the result.

    A boot takes seconds, or minutes if it is emulated or the machine is busy; only a boot
    that hangs is an error.
    """
    begun = time.monotonic()
    timeout = max(300.0, 90 * guest.patience)
    until = begun + timeout
    while True:
        if not guest.alive():
            raise BuildError(f"the guest is gone; its console said:\n{guest.console()}")
        if time.monotonic() > until:
            raise BuildError(f"not booted after {timeout:.0f} s{_what_it_waits_for(guest)}")
        if guest.responds() and _finished(guest):
            break
        time.sleep(1)
    done = guest.run(QUESTIONS["cloud-init status"])
    try:
        status = json.loads(done.stdout)
    except ValueError:
        status = {"unreadable": done.stdout + done.stderr}
    return Boot(status, done.returncode, time.monotonic() - begun)


def _finished(guest: Guest) -> bool:
    # cloud-init's last stage writes this file in /run, so it belongs to this boot;
    # `status --wait` would occupy the guest's only command channel for minutes.
    if guest.run(["test", "-e", "/run/cloud-init/result.json"]).returncode != 0:
        return False
    identity = guest.run(["cat", "/var/lib/cloud/data/instance-id"]).stdout.strip()
    if identity != guest.drive.uuid:
        raise BuildError(
            f"the guest thinks it is instance {identity or 'unknown'}, not {guest.drive.uuid}: "
            "cloud-init did not take its ConfigDrive"
        )
    return True


def _what_it_waits_for(guest: Guest) -> str:
    text = ""
    if guest.responds():
        for argv in (("systemctl", "list-jobs", "--no-pager"), QUESTIONS["failed units"]):
            text += f"\n$ {' '.join(argv)}\n{guest.run(argv).stdout}"
    else:
        text += "; no command can be run in it"
    return f"{text}\nIts console said:\n{guest.console()}"


def collect(
    guest: Guest, questions: Mapping[str, Sequence[str]] = QUESTIONS
) -> dict[str, Completed]:
    """The results of all `questions` in a guest; a failed one has its failure as the result."""
    found = {}
    for title, argv in questions.items():
        try:
            found[title] = guest.run(list(argv), timeout=60)
        except BuildError as error:
            found[title] = Completed(-1, "", str(error))
    return found


def report(guest: Guest) -> str:
    """The results of `collect` as a text."""
    parts = []
    for title, answer in collect(guest).items():
        parts.append(f"===== {title} (exit code {answer.returncode})")
        parts.append(answer.stdout + answer.stderr)
    parts.append(f"===== console\n{guest.console()}")
    return "\n".join(parts)
