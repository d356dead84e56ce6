"""What runs in the router of a lab: one program, until it is stopped or we end."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from imagebuild.lab import Lab

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

    settling = 0.3  # seconds in which it would fail, if it does

    def __init__(self, lab: Lab, log: Path, tree: Path | None = None):
        self._lab, self._log, self._tree = lab, log, tree
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, program: Sequence[str], stdin: str = "") -> None:
        """(Re)start it; what it reads from its standard input ends with `stdin`."""
        self.stop()
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
        time.sleep(self.settling)
        if self._process.poll() is not None:
            raise RuntimeError(f"{program[0]} does not run: {self.log()}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def log(self) -> str:
        """The end of what it has told."""
        return self._log.read_text(errors="replace")[-2000:]
