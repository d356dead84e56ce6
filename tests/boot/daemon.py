"""What runs in the router of a lab: one program, until it is stopped or we end."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from imagebuild.lab.network import Lab
from lab import wait_until

# $1 is the root.  Private mounts, so that nothing of it is left anywhere.
_ENTER = """
set -eu
root=$1
shift
mount --bind "$root" "$root"
mount -t tmpfs tmpfs "$root/run"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
exec chroot "$root" "$@"
"""


class Daemon:
    """For what its children do in the router, from a root of its own where there is a `tree`."""

    def __init__(self, lab: Lab, log: Path, tree: Path | None = None):
        self._lab, self._log, self._tree = lab, log, tree
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, program: Sequence[str], ready: str, stdin: str = "") -> None:
        """(Re)start it, until it has told that it is `ready`.

        What it reads from its standard input ends with `stdin`.
        """
        self.stop()
        before = self.told(ready)
        argv = [*self._lab.router.prefix(), "setpriv", "--pdeathsig", "KILL"]
        if self._tree is not None:
            argv += ["unshare", "--mount", "--propagation", "private"]
            argv += ["sh", "-c", _ENTER, "enter", str(self._tree)]
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [*argv, *program], stdin=subprocess.PIPE, stdout=log, stderr=log
            )
        assert self._process.stdin is not None
        self._process.stdin.write(stdin.encode())
        self._process.stdin.close()
        process = self._process
        wait_until(lambda: self.told(ready) > before or process.poll() is not None, story=self.log)
        if process.poll() is not None:
            raise RuntimeError(f"{program[0]} does not run: {self.log()}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def told(self, text: str) -> int:
        """How often it has told that."""
        return self._log.read_text(errors="replace").count(text) if self._log.exists() else 0

    def log(self) -> str:
        """The end of what it has told."""
        return self._log.read_text(errors="replace")[-2000:]
