"""Telling the services of the running system that files have changed."""

from __future__ import annotations

from pathlib import Path
from typing import Iterable, List, Sequence

from ..errors import CommandError
from .commands import run

SYSTEMD_RUNS = Path("/run/systemd/system")
NOTIFY_SECONDS = 5.0


def notify(root: Path, commands: Iterable[Sequence[str]]) -> List[str]:
    """Run `commands`, none of which waits for anything; returns what failed.

    Only on the system that runs: an image or a test's tree has nobody to tell.
    """
    # sd_booted(3): in a chroot or without systemd nobody listens either.
    if root.resolve() != Path("/") or not SYSTEMD_RUNS.is_dir():
        return []
    failures = []
    for command in commands:
        try:
            run(command, timeout=NOTIFY_SECONDS)
        except CommandError as error:
            failures.append(f"a service was not told of its new files: {error}")
    return failures
