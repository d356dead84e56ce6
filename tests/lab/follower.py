"""`source-routing follow` in the background: started by hand, or by sockets as systemd does it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from .command import REPOSITORY, SourceRouting
from .netns import Lab
from .waiting import PATIENCE_SECONDS, wait_until

SOCKET_UNIT = Path(__file__).with_name("socket_unit.py")
LOOK_PATH = "run/source-routing/look"
# As systemd hands a pipe over, sd_listen_fds(3): a shell knows the number of the process
# that it becomes.
HAND_OVER = 'exec 3<>"$0"; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'


def flush_rules(lab: Lab) -> None:
    """Take all rules of ours away, as a network manager does that knows nothing of them."""
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

    def lines_until(self, text: str) -> list[str]:
        """The lines up to one that has `text` in it."""
        lines = [self.line()]
        while text not in lines[-1]:
            assert lines[-1], f"it has ended: {lines}"
            lines.append(self.line())
        return lines

    def look(self) -> None:
        """Have it look, as hooks and path units do."""
        self._pipe.write_text("look\n")

    def ends(self) -> tuple[int, str]:
        """Its exit code and what else it has said, once it has ended."""
        out, _err = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, out

    @property
    def cpu_seconds(self) -> float:
        """What it has taken of a CPU so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def resident_bytes(self) -> int:
        """Its memory now, proc_pid_statm(5)."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def following(command: SourceRouting, idle: float = 120, begun: bool = True) -> Iterator[Follower]:
    """Run one; from the moment on at which it is known to follow, where it has `begun`."""
    command.configure(None)
    pipe = command.root.with_name(f"{command.root.name}.look")
    if not pipe.exists():
        os.mkfifo(pipe)
    process = command.lab.popen(
        command.netns,
        *("sh", "-c", HAND_OVER, str(pipe), sys.executable, "-m", "cc_source_routing"),
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


class SocketUnit:
    """Starts a `follow` whenever there is something to read, as systemd does (`socket_unit.py`).

    A context manager: it listens within, and no `follow` is left afterwards.
    """

    def __init__(self, command: SourceRouting, idle: float, receive_bytes: int = 0):
        self._command, self._idle, self._receive_bytes = command, idle, receive_bytes
        self._pipe = command.root / LOOK_PATH
        self.lines: list[str] = []

    def __enter__(self) -> SocketUnit:  # noqa: PYI034 - Self is not in Python 3.9
        command = self._command
        command.configure(None)
        follow = command.argv("follow", "--idle", str(self._idle))
        self._process = command.lab.popen(
            command.netns,
            sys.executable,
            str(SOCKET_UNIT),
            str(self._pipe),
            str(self._receive_bytes),
            *(sys.executable, "-m", "cc_source_routing", *follow),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_until(lambda: self.lines, story=self.story)
        return self

    def __exit__(self, *_exc: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=PATIENCE_SECONDS)
        self._reader.join(timeout=PATIENCE_SECONDS)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip())

    def ring(self) -> None:
        """Say "look", as hooks do: opened for reading too, so that it needs no reader."""
        pipe = os.open(self._pipe, os.O_RDWR)
        os.write(pipe, b"look\n")
        os.close(pipe)

    @property
    def started(self) -> list[int]:
        """The process ids of the runs so far."""
        return [int(line.split()[1]) for line in self.lines if line.startswith("started ")]

    @property
    def ended(self) -> list[int]:
        """The exit codes of the runs so far."""
        return [int(line.split()[1]) for line in self.lines if line.startswith("ended ")]

    @property
    def rests(self) -> bool:
        """Whether no run is under way and nothing is there to start one."""
        return self.lines[-1] == "listening"

    def story(self) -> str:
        return "\n".join(self.lines)
