"""A root tree to spoil: an overlay over a cached one, seen only by the command that runs in it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from imagebuild.command import Completed, attempt

# $1 lower, $2 the overlay's own directory; the rest is run with ROOT set.
_MOUNT = """
set -eu
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
export ROOT="$2/root"
shift 2
exec "$@"
"""

# As far as maintainer scripts and cloud-init look; no network, nothing of the host's.
_ENTER = """
mount -t proc proc "$ROOT/proc"
mount -t tmpfs -o mode=755 tmpfs "$ROOT/dev"
mount -t tmpfs -o mode=755 tmpfs "$ROOT/run"
for node in null zero full random urandom; do
    : >"$ROOT/dev/$node"
    mount --bind "/dev/$node" "$ROOT/dev/$node"
done
exec unshare --net chroot "$ROOT" sh -euc "$0"
"""

# Written at each change, whatever the change; dpkg's own backups and logs among it.
VOLATILE = (
    "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/status",
    "var/lib/dpkg/status-old",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/triggers/File",
    "var/log/dpkg.log",
    "var/log/alternatives.log",
)


class Overlay:
    """What is done in it is done in `upper`; the tree below stays as it is."""

    def __init__(self, lower: Path, scratch: Path):
        self.lower, self.scratch = lower, scratch
        self.upper = scratch / "upper"
        for name in ("upper", "work", "root"):
            (scratch / name).mkdir(parents=True)
        self.upper.chmod(0o755)  # it is the root's own

    def host(self, script: str, *, timeout: float = 1800) -> Completed:
        """Run a shell script of the host's with the mounted root as $ROOT."""
        enter = ["unshare", "--mount", "--pid", "--fork", "--propagation", "private"]
        enter += ["sh", "-c", _MOUNT, "overlay", str(self.lower), str(self.scratch)]
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
        }
        return attempt([*enter, "sh", "-euc", script], timeout=timeout, env=environment)

    def inside(self, script: str, *, timeout: float = 1800) -> Completed:
        """Run a shell script in the root."""
        return self.host(f"exec sh -euc '{_quote(_ENTER)}' '{_quote(script)}'", timeout=timeout)

    def must(self, script: str) -> str:
        done = self.inside(script)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def write(self, path: str, text: str | bytes, mode: int = 0o644) -> None:
        target = self.upper / path
        for parent in reversed(Path(path).parents[:-1]):
            if not (self.upper / parent).is_dir():
                (self.upper / parent).mkdir()
                if (self.lower / parent).is_dir():
                    (self.upper / parent).chmod((self.lower / parent).stat().st_mode & 0o7777)
        target.write_bytes(text.encode() if isinstance(text, str) else text)
        target.chmod(mode)

    def read(self, path: str) -> str:
        here = self.upper / path
        return (here if here.exists() else self.lower / path).read_text(encoding="utf-8")

    def traces(self) -> list[str]:
        """Each path that is other than in the tree below: by kind, mode, owner and content."""
        found = []
        for path in sorted(self.upper.rglob("*")):
            name = str(path.relative_to(self.upper))
            if name not in VOLATILE and not self._same(path, self.lower / name):
                found.append(name)
        return found

    def _same(self, here: Path, there: Path) -> bool:
        if not (there.is_symlink() or there.exists()):
            return False
        mine, theirs = here.lstat(), there.lstat()
        if (mine.st_mode, mine.st_uid, mine.st_gid) != (
            theirs.st_mode,
            theirs.st_uid,
            theirs.st_gid,
        ):
            return False
        if stat.S_ISREG(mine.st_mode):
            return here.read_bytes() == there.read_bytes()
        if stat.S_ISLNK(mine.st_mode):
            return here.readlink() == there.readlink()
        return stat.S_ISDIR(mine.st_mode)


def _quote(text: str) -> str:
    return text.replace("'", "'\\''")


def listed_modules(root: Overlay) -> list[str]:
    """The module list of the network stage, by cloud-init's own reading."""
    told = root.must(
        "python3 -c 'import json; from cloudinit import util; "
        'print(json.dumps(util.read_conf_with_confd("/etc/cloud/cloud.cfg")'
        '["cloud_init_modules"]))\''
    )
    return [entry if isinstance(entry, str) else entry[0] for entry in json.loads(told)]
