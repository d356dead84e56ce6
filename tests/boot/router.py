"""The lab's router as hosts see it: real radvd from a root of its own."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from imagebuild.lab import Lab

from ..daemons.routers import Advertisement, router_tree

# $1 is the root, $2 the configuration.  Private mounts, so that nothing is left anywhere.
_ENTER = """
set -eu
root=$1
mount --bind "$root" "$root"
mount -t tmpfs tmpfs "$root/run"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
printf '%s' "$2" >"$root/run/radvd.conf"
exec chroot "$root" radvd --nodaemon -C /run/radvd.conf -p /run/radvd.pid -m stderr
"""


class Router:
    """Advertises itself on the ports of a lab, as it is told."""

    def __init__(self, lab: Lab, scratch: Path):
        self._lab, self._tree, self._log = lab, router_tree(), scratch / "radvd.log"
        self._process: subprocess.Popen[bytes] | None = None

    def says(self, *advertisements: Advertisement) -> None:
        """(Re)start it with other words, without a goodbye of the old ones."""
        self.stop()
        argv = [
            *self._lab.router.prefix(),
            *("setpriv", "--pdeathsig", "KILL"),
            *("unshare", "--mount", "--propagation", "private"),
            *("sh", "-c", _ENTER, "enter", str(self._tree)),
            "".join(one.conf() for one in advertisements),
        ]
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        time.sleep(0.3)
        if self._process.poll() is not None:
            raise RuntimeError(f"radvd does not run: {self.log()}")

    def leaves(self) -> None:
        """End it in order: it says goodbye, which is an advertisement with lifetime 0."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=10)
            self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]
