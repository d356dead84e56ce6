"""Running an image's own programs in it, without letting them see the host."""

from __future__ import annotations

from pathlib import Path
from typing import Mapping, Optional, Sequence

from .command import Argument, Completed, attempt, failure
from .errors import BuildError

# What a program in an image or in a guest finds, whatever the caller's own environment.
ENVIRONMENT: Mapping[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
}
# Mounts and processes of its own, of which nothing is left when it ends, however it ends.
UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private")

# $1 is the root.  A mount namespace, so that nothing stays mounted whatever
# happens; no /proc and /sys of the host's beyond what programs insist on.
_ENTER = """
set -eu
root=$1
shift
mount --rbind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom; do
    : >"$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
exec chroot "$root" "$@"
"""


def attempt_in(
    root: Path, argv: Sequence[Argument], *, timeout: float = 120, stdin: Optional[str] = None
) -> Completed:
    """Run `argv` in `root`; in ``/`` itself directly.  A failing exit code is an answer."""
    if root != Path("/"):
        argv = [*UNSHARE, "--net", "--", "sh", "-c", _ENTER, "enter", root, *argv]
    return attempt(argv, timeout=timeout, stdin=stdin, env=ENVIRONMENT)


def run_in(
    root: Path, argv: Sequence[Argument], *, timeout: float = 120, stdin: Optional[str] = None
) -> str:
    """Run `argv` in `root`, where it has to succeed; its standard output."""
    done = attempt_in(root, argv, timeout=timeout, stdin=stdin)
    if done.returncode != 0:
        raise BuildError(f"in {root}: {failure(argv, done)}")
    return done.stdout
