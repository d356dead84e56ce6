"""`source-routing follow` in the background: what it says, and how it is told to look."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .command import REPOSITORY, SourceRouting
from .netns import Lab
from .waiting import PATIENCE_SECONDS

# As systemd hands a pipe over, sd_listen_fds(3): a shell knows the number of the process
# that it becomes.
_HAND_OVER = 'exec 3<>"$0"; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'


def flush_rules(lab: Lab) -> None:
    for family in ("-4", "-6"):
        lab.ip("S", family, "rule", "flush", "protocol", "83")


class Follower:
    """A `follow` that runs in the server, and what it has said."""

    def __init__(self, process: subprocess.Popen[str], pipe: Path):
        self.process, self._pipe = process, pipe

    def line(self) -> str:
        """The next line; the follower ends after minutes by itself."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def look(self) -> None:
        """Have it look, as hooks and path units do."""
        self._pipe.write_text("look\n")

    def ends(self) -> tuple[int, str]:
        """Its exit code and what else it has said, once it has ended."""
        out, _err = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, out


@contextlib.contextmanager
def following(command: SourceRouting, idle: float = 120, begun: bool = True) -> Iterator[Follower]:
    """Run one; from the moment on at which it is known to follow, where it has `begun`."""
    command.configure(None)
    pipe = command.root.with_name(f"{command.root.name}.look")
    if not pipe.exists():
        os.mkfifo(pipe)
    process = command.lab.popen(
        command.netns,
        *("sh", "-c", _HAND_OVER, str(pipe), sys.executable, "-m", "cc_source_routing"),
        *command.argv("follow", "--idle", str(idle)),
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    follower = Follower(process, pipe)
    try:
        if begun:
            # It says nothing of a first look that finds all well.
            flush_rules(command.lab)
            assert "change" in follower.line()
        yield follower
    finally:
        process.kill()
        process.wait()
