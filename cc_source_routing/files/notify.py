"""Notify the services of the running system of changed files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import CommandError
from .commands import run

SYSTEMD_RUNS = Path("/run/systemd/system")
NOTIFY_SECONDS = 5.0


def notify(root: Path, commands: Iterable[Sequence[str]]) -> list[str]:
    """Run `commands`, which must not block; returns one sentence for each failure.

    Does nothing unless `root` is the running system's: no service runs in an image or
    a test directory.
    """
    # sd_booted(3): in a chroot or without systemd there is no service to notify either.
    if root.resolve() != Path("/") or not SYSTEMD_RUNS.is_dir():
        return []
    failures = []
    for command in commands:
        try:
            run(command, timeout=NOTIFY_SECONDS)
        except CommandError as error:
            failures.append(f"a service was not notified of its new files: {error}")
    return failures
