"""Clean a root tree of everything that belongs to one machine, so that it can be copied."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from . import asking, home, traces
from .chroot import run_in

# Globs below the root of further files of one machine or of the build, which nobody needs and
# which are no fault if present.
_FILES: tuple[str, ...] = (
    "etc/machine-info",
    "var/lib/systemd/credential.secret",
    "var/lib/dpkg/*-old",
    "var/cache/apt/*.bin",
    "var/cache/debconf/*-old",
    "var/log/*.log",
    "var/log/apt/*",
    "var/log/[bw]tmp",
    "var/log/lastlog",
    "var/log/faillog",
    "root/.ssh/authorized_keys",
)

# Directories that are emptied, but kept.
_EMPTIED: tuple[str, ...] = (
    "var/lib/apt/lists",
    "var/cache/apt/archives",
    "var/log/journal",
    "tmp",
    "var/tmp",
)


def source_date() -> int | None:
    """SOURCE_DATE_EPOCH (https://reproducible-builds.org/specs/source-date-epoch/), or None."""
    value = os.environ.get("SOURCE_DATE_EPOCH", "")
    return int(value) if value.isdigit() else None


def clamp_times(root: Path, date: int) -> None:
    """Set newer modification times to `date` (seconds since the epoch), to hide the build time."""
    for directory, subdirectories, files in os.walk(root, topdown=False):
        for name in (*files, *subdirectories, "."):
            path = os.path.join(directory, name)
            if os.lstat(path).st_mtime > date:
                os.utime(path, (date, date), follow_symlinks=False)


# The root's own shell runs this, so that a link in an image never leads to the host's files.
# machine-id is emptied, not removed: if it is missing, systemd assumes a factory reset and
# mounts /etc read-only in early boot on some setups; and a copied one would give every
# server the same DHCP client identity.
_SCRIPT = f"""
rm -f -- {" ".join(f"/{pattern}" for pattern in _FILES)}
{traces.removal(traces.FILES)}
for directory in {" ".join(f"/{name}" for name in _EMPTIED)}; do
    if [ -d "$directory" ] && [ ! -L "$directory" ]; then
        find "$directory" -xdev -mindepth 1 -delete
    fi
done
[ ! -L /etc/machine-id ] || rm -f /etc/machine-id
: >/etc/machine-id
if [ ! -L /var/lib/dbus/machine-id ]; then
    rm -f /var/lib/dbus/machine-id
fi
"""


def clean(root: Path) -> None:
    """Clean the root as operators expect it of a golden image."""
    where = home.find(root)
    # Where cloud-init would not write the network's files again, they are the image's own.
    own_network = asking.first_boot(root, where.python).own_network
    # cloud-init's own part first: its state, logs and seed, and the scripts that packages
    # install in /etc/cloud/clean.d.
    run_in(root, [where.program, "clean", "--logs", "--seed"])
    run_in(root, ["sh", "-euc", _SCRIPT])
    if not own_network:
        run_in(root, ["sh", "-euc", traces.removal(traces.NETWORK)])
    # While programs run in the root, a separate file system covers /run; so clean it here.
    run = root / "run"
    if run.is_dir() and not run.is_symlink():
        for entry in run.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
