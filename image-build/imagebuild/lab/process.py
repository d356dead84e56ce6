"""Start programs in the background that end with this process."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..command import Argument

PROGRAMS: Mapping[str, str] = {"setpriv": "util-linux"}


def start(
    argv: Sequence[Argument],
    *,
    log: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program; its output is appended to `log`, or discarded.

    The kernel kills it when this process dies.  It runs in its own session, so that the
    terminal's Ctrl-C reaches only this process, which then stops it in order.
    """
    with open(log or os.devnull, "ab") as output:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            start_new_session=True,
        )


def end_of(log: Path) -> str:
    """The last 8000 characters of a log; "" if there is none."""
    with contextlib.suppress(FileNotFoundError):
        return log.read_text(encoding="utf-8", errors="replace")[-8000:]
    return ""
