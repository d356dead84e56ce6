"""The command under test, run inside a namespace with a root of its own.

`SourceRouting` runs it as a user does, a process each time.  `Driver` keeps
one process and calls `main` over and over, for tests of many applies.
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

REPOSITORY = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).with_name("driver.py")


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def __str__(self) -> str:
        return f"exit {self.code}\n{self.out}{self.err}"


class SourceRouting:
    """`source-routing` in namespace `netns` of `lab`, with files below `root`."""

    def __init__(self, lab: Lab, netns: str, root: Path):
        self.lab, self.netns, self.root = lab, netns, root
        self.config: Path | None = None

    def configure(self, document: Mapping[str, Any] | None, name: str = "user-data") -> None:
        """Give it a user-data document (JSON is YAML); None: what it saved itself."""
        if document is None:
            self.config = None
            return
        self.config = self.root.parent / f"{self.root.name}.{name}.yaml"
        self.config.write_text(json.dumps(document))

    def argv(self, *argv: str) -> list[str]:
        configured = ["--config", str(self.config)] if self.config else []
        return ["--root", str(self.root), *configured, *argv]

    def run(self, *argv: str, timeout: float = 60) -> Result:
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

    def ok(self, *argv: str) -> str:
        """Run what must succeed; its output."""
        result = self.run(*argv)
        assert result.code == 0, f"source-routing {' '.join(argv)}: {result}"
        return result.out

    def ip_with_names(self, *argv: str) -> str:
        """`ip ARGV` as a person on that server runs it: with the root's names of tables.

        iproute2 reads /etc/iproute2, so the root's one is mounted over it, seen by
        this one process only.
        """
        names = self.root / "etc/iproute2"
        script = 'mount --bind "$0" /etc/iproute2 && exec ip "$@"'
        return self.lab.run(
            self.netns, "unshare", "--mount", "sh", "-c", script, str(names), *argv
        ).stdout

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Every file below the root, path to (mode, content); without the lock in /run.

        A lock that somebody may wait for is never deleted; /run forgets it.
        """
        return {
            str(path.relative_to(self.root)): (path.stat().st_mode, path.read_bytes())
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and path.name != "lock"
        }


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

    def __enter__(self) -> Driver:  # noqa: PYI034 - Self is not in Python 3.9
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=20)

    def __call__(self, *argv: str) -> Result:
        return self._ask({"argv": argv})

    def killed(self, die_at: int, *argv: str) -> Result:
        """Run it in a child that is killed before its operation number `die_at`.

        The exit code is -9 then, and the command's own when it had fewer operations.
        """
        return self._ask({"argv": argv, "die_at": die_at})

    def _ask(self, request: dict[str, Any]) -> Result:
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        told = self._process.stdout.readline()
        if not told:
            raise LabError("the driver died")
        return Result(**json.loads(told))
