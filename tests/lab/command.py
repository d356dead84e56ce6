"""Run the command under test in a namespace with its own root.

`SourceRouting` runs it as a user does, in a new process each time.  `Driver` keeps one
process and calls `main` repeatedly, for tests with many applies.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .netns import Lab, LabError
from .waiting import PATIENCE_SECONDS

REPOSITORY = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).with_name("driver.py")


class Result(NamedTuple):
    code: int
    out: str
    err: str
    fault: str = ""
    """At which operation a planted fault has struck; "" when it had fewer."""

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def __str__(self) -> str:
        return f"exit {self.code}\n{self.out}{self.err}"


Files = dict[str, tuple[int, bytes]]


def files_below(root: Path) -> Files:
    """Every file below a root, path to (mode, content), except the lock in /run.

    The lock is never deleted, since a process may wait for it; a reboot clears /run.
    """
    return {
        str(path.relative_to(root)): (path.stat().st_mode, path.read_bytes())
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def be_instance(root: Path, instance: str) -> None:
    """Set cloud-init's instance-id below `root` to `instance`."""
    path = root / "var/lib/cloud/data/instance-id"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{instance}\n")


class SourceRouting:
    """`source-routing` in namespace `netns` of `lab`, with files below `root`."""

    def __init__(self, lab: Lab, netns: str, root: Path):
        self.lab, self.netns, self.root = lab, netns, root
        self.config: Path | None = None

    def configure(self, document: Mapping[str, Any] | None, name: str = "user-data") -> None:
        """Set the user-data document (JSON is YAML); None: use the saved stanza."""
        if document is None:
            self.config = None
            return
        self.config = self.root.parent / f"{self.root.name}.{name}.yaml"
        self.config.write_text(json.dumps(document))

    def argv(self, *argv: str) -> list[str]:
        configured = ["--config", str(self.config)] if self.config else []
        return ["--root", str(self.root), *configured, *argv]

    def run(self, *argv: str, timeout: float = 120) -> Result:
        done = self.lab.run(
            self.netns,
            sys.executable,
            "-m",
            "cc_source_routing",
            *self.argv(*argv),
            check=False,
            timeout=timeout,
            env={"PYTHONPATH": str(REPOSITORY)},
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def popen(self, *argv: str, **options: Any) -> subprocess.Popen[Any]:
        """Run it in the background; the lab ends it when it closes."""
        return self.lab.popen(
            self.netns,
            sys.executable,
            "-m",
            "cc_source_routing",
            *self.argv(*argv),
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            **options,
        )

    def ok(self, *argv: str) -> str:
        """Run a command that must succeed; returns its output."""
        result = self.run(*argv)
        assert result.code == 0, f"source-routing {' '.join(argv)}: {result}"
        return result.out

    def ip_with_names(self, *argv: str) -> str:
        """Run `ip ARGV` as a user on that server does: with the root's table names.

        iproute2 reads /etc/iproute2, so the root's directory is mounted over it, for
        this process only.
        """
        names = self.root / "etc/iproute2"
        script = 'mount --bind "$0" /etc/iproute2 && exec ip "$@"'
        return self.lab.run(
            self.netns, "unshare", "--mount", "sh", "-c", script, str(names), *argv
        ).stdout

    def files(self) -> Files:
        """Every file below the root, path to (mode, content), except the lock in /run."""
        return files_below(self.root)


class Driver:
    """One Python inside the namespace that calls the command's `main` on demand."""

    def __init__(self, lab: Lab, netns: str):
        self._process = lab.popen(
            netns,
            sys.executable,
            str(DRIVER),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        # Only now it is certainly in its namespaces, including the mount namespace.
        if self._process.stdout.readline() != "ready\n":
            raise LabError("the driver did not start")

    def __enter__(self) -> Driver:  # noqa: PYI034 - Self is not in Python 3.9
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=PATIENCE_SECONDS)

    def __call__(self, *argv: str) -> Result:
        return self._ask({"argv": argv})

    def faulty(self, where: str, at: int, *argv: str, number: int | None = None) -> Result:
        """Run it in a child whose operation `at` of a kind (`faults`) fails with errno `number`.

        If `number` is None, the child is killed there instead, with exit code -9.
        """
        return self._ask({"argv": argv, "where": where, "at": at, "errno": number})

    def tell_to_end(self) -> None:
        """Send SIGTERM to the command that runs in it now, which catches it."""
        self._process.terminate()

    def inside(self, *argv: str) -> str:
        """Run `argv` in the driver's mount namespace; returns its output."""
        pid = str(self._process.pid)
        done = subprocess.run(
            ["nsenter", "--mount", "--target", pid, *argv],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise LabError(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def seen(self, path: Path) -> Path:
        """The file at `path` in the driver's mount namespace."""
        return Path(f"/proc/{self._process.pid}/root{path}")

    def _ask(self, request: dict[str, Any]) -> Result:
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise LabError("the driver died")
        return Result(**json.loads(line))
