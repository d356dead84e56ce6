"""Run an image's own programs in the image, isolated from the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .command import Argument, Completed, attempt, failure
from .errors import BuildError

# The environment of programs in an image or a guest, independent of the caller's.
ENVIRONMENT: Mapping[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
}
# Separate mounts and processes, which are gone when the program ends, however it ends.
UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private")

# $1 is the root.  The mount namespace ensures that nothing stays mounted, whatever
# happens.  Of /proc, /sys and /dev it has only what programs need.
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
    root: Path, argv: Sequence[Argument], *, timeout: float = 120, stdin: str | None = None
) -> Completed:
    """Run `argv` in `root`, or directly if that is ``/``.  A failing exit code is a result."""
    if root != Path("/"):
        argv = [*UNSHARE, "--net", "--", "sh", "-c", _ENTER, "enter", root.absolute(), *argv]
    # From the root directory, or Python would find a checkout's modules before the root's.
    return attempt(argv, timeout=timeout, stdin=stdin, env=ENVIRONMENT, cwd=Path("/"))


def run_in(
    root: Path, argv: Sequence[Argument], *, timeout: float = 120, stdin: str | None = None
) -> str:
    """Run `argv` in `root`; returns its standard output, and raises if it fails."""
    done = attempt_in(root, argv, timeout=timeout, stdin=stdin)
    if done.returncode != 0:
        raise BuildError(f"in {root}: {failure(argv, done)}")
    return done.stdout
