"""The root of a disk image, mounted: only in this process's own mount namespace.

Loop devices with an offset, since device-mapper and partition nodes are not
everywhere.  Whatever is mounted goes when the process ends, however it ends.
"""

from __future__ import annotations

import ctypes
import json
import os
from pathlib import Path
from typing import List, Mapping, NamedTuple

from .command import attempt, run
from .errors import BuildError

PROGRAMS: Mapping[str, str] = {
    "qemu-img": "qemu-utils",
    "sfdisk": "fdisk",
    "blkid": "util-linux",
    "mount": "mount",
}

_CLONE_NEWNS = 0x00020000
_SECTOR = 512
# What of the kernel's file systems the root of a server may be.
_ROOT_TYPES = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs"})


class Partition(NamedTuple):
    """Where a file system is in a disk, in bytes."""

    start: int
    size: int
    type: str


def private_mounts() -> None:
    """Let this process go on in a mount namespace of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        number = ctypes.get_errno()
        raise BuildError(f"no mount namespace to be had: {os.strerror(number)}")
    run(["mount", "--make-rprivate", "/"])


def image_format(image: Path) -> str:
    """Which format qemu-img takes it for; `BuildError` when it cannot be read."""
    with open(image, "rb"):
        pass  # the kernel's word on what is not there or not allowed
    done = attempt(["qemu-img", "info", "--output=json", image])
    if done.returncode != 0:
        raise BuildError(f"{image}: {_last_line(done.stderr)}")
    told = json.loads(done.stdout)
    if told.get("backing-filename"):
        raise BuildError(f"{image} needs another file, {told['backing-filename']}: flatten it")
    if told["virtual-size"] < 1 << 20:
        raise BuildError(f"{image} is no disk image: it has {told['virtual-size']} bytes")
    return str(told["format"])


def to_raw(image: Path, raw: Path) -> None:
    """A raw copy to work on, with holes where nothing is."""
    argv = ["qemu-img", "convert", "-f", image_format(image), "-O", "raw", image, raw]
    done = attempt(argv, timeout=1800)
    if done.returncode != 0:
        raise BuildError(f"{image}: {_last_line(done.stderr)}")


def mount_root(raw: Path, where: Path, *, read_only: bool) -> None:
    """Mount the root file system of `raw` at `where`: the one with /etc and a release file."""
    candidates = [part for part in _partitions(raw) if part.type in _ROOT_TYPES]
    where.mkdir(exist_ok=True)
    for part in sorted(candidates, key=lambda part: part.size, reverse=True):
        # noload, norecovery: a dirty journal is no reason to write.
        how = f"loop,offset={part.start},sizelimit={part.size}"
        how += (",ro,norecovery" if part.type == "xfs" else ",ro,noload") if read_only else ""
        how = how.replace(",noload", "") if part.type == "btrfs" else how
        done = attempt(["mount", "-t", part.type, "-o", how, raw, where])
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()[:1]  # the next is advice
            raise BuildError(f"{part.type} at byte {part.start}: {' '.join(said)}")
        if any((where / name).exists() for name in ("etc/os-release", "usr/lib/os-release")):
            return
        run(["umount", where])
    kinds = ", ".join(sorted({part.type for part in _partitions(raw)})) or "nothing known"
    raise BuildError(f"no root file system of a Linux is in it (found: {kinds})")


def _partitions(raw: Path) -> List[Partition]:
    """All file systems: of the partitions, or the one without a partition table."""
    done = attempt(["sfdisk", "--json", raw])
    whole = [(0, raw.stat().st_size)]
    if done.returncode == 0:
        table = json.loads(done.stdout)["partitiontable"]
        sector = table.get("sectorsize", _SECTOR)
        places = [(p["start"] * sector, p["size"] * sector) for p in table.get("partitions", [])]
    else:
        places = whole
    return [Partition(start, size, _type(raw, start, size)) for start, size in places or whole]


def _type(raw: Path, start: int, size: int) -> str:
    argv = ["blkid", "--probe", "--offset", str(start), "--size", str(size)]
    return attempt([*argv, "--match-tag", "TYPE", "--output", "value", raw]).stdout.strip()


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]
