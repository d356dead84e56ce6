"""Mount the root of a disk image in this process's own mount namespace.

It uses loop devices with an offset, since device-mapper and partition nodes are not
available everywhere.  Other partitions of the image are mounted as its fstab says
(`partitions`).  All mounts end with the process, however it ends.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from . import partitions
from .command import Argument, attempt, run
from .errors import BuildError
from .partitions import Partition

PROGRAMS: Mapping[str, str] = {
    "qemu-img": "qemu-utils",
    "sfdisk": "fdisk",
    "blkid": "util-linux",
    "mount": "mount",
}

_HEAD = 104  # bytes of a qcow2 header
_QCOW = b"QFI\xfb"
_EXTERNAL_DATA = 1 << 2  # of qcow2's incompatible features
# The offset and bytes by which a file shows its format.
_OTHER_FORMATS = (
    (0, b"KDMV", "a VMDK"),
    (0, b"COWD", "a VMDK"),
    (0, b"# Disk DescriptorFile", "a VMDK"),
    (0, b"vhdxfile", "a VHDX"),
    (0, b"conectix", "a VHD"),
    (64, b"\x7f\x10\xda\xbe", "a VDI"),
    (0, b"QED\0", "a QED image"),
    (0, b"LUKS\xba\xbe", "a LUKS container"),
    (0, b"WithoutFreeSpace", "a Parallels image"),
    (0, b"WithouFreSpacExt", "a Parallels image"),
)
_CLONE_NEWNS = 0x00020000
# Files of a root; all but the first exist even if /usr is a separate partition.
_OF_A_ROOT = ("usr/lib/os-release", "etc/os-release", "etc/fstab")


def private_mounts() -> None:
    """Move this process into its own mount namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        number = ctypes.get_errno()
        raise BuildError(f"no mount namespace to be had: {os.strerror(number)}")
    run(["mount", "--make-rprivate", "/"])


class DiskImage(NamedTuple):
    """A disk image that consists of a single file."""

    format: str  # "raw" or "qcow2"
    size: int  # of the disk, in bytes


def inspect(image: Path) -> DiskImage:
    """The format of a file; `BuildError` for all but raw and self-contained qcow2.

    Other formats, and qcow2 with a backing or data file, name files of this machine, which
    qemu-img would read as root and copy into the output (CVE-2022-47951, CVE-2024-32498).
    So the format is determined here from the first bytes and always passed to qemu-img,
    whose own detection would open the files that an image names.
    """
    with open(image, "rb") as content:  # raises OSError if it is missing or not permitted
        head = content.read(_HEAD)
    kind = "qcow2" if head.startswith(_QCOW) else "raw"
    if kind == "qcow2":
        _check_qcow2(image, head)
    else:
        _check_raw(image, head)
    done = attempt(["qemu-img", "info", "-f", kind, "--output=json", _plain(image)])
    if done.returncode != 0:
        raise BuildError(f"{image}: {done.reason}")
    info = json.loads(done.stdout)
    specific = info.get("format-specific", {}).get("data", {})
    for other in (info.get("backing-filename"), specific.get("data-file")):
        if other:
            raise BuildError(f"{image} needs another file, {other}: flatten it")
    if info["virtual-size"] < 1 << 20:
        raise BuildError(f"{image} is no disk image: it has {info['virtual-size']} bytes")
    return DiskImage(kind, int(info["virtual-size"]))


def _check_qcow2(image: Path, head: bytes) -> None:
    """Refuse what qemu-img must not even open (docs/interop/qcow2.txt in QEMU)."""
    if len(head) < _HEAD:
        raise BuildError(f"{image} is cut off: it has not even a qcow2 header")
    version, backing_offset, backing_length = struct.unpack_from(">IQI", head, 4)
    (encryption,) = struct.unpack_from(">I", head, 32)
    (incompatible,) = struct.unpack_from(">Q", head, 72)
    if version not in (2, 3):
        raise BuildError(f"{image} is qcow{version}, not qcow2: `qemu-img convert -O qcow2` it")
    if encryption:
        raise BuildError(f"{image} is encrypted; nothing can be baked into it")
    if backing_offset:
        with open(image, "rb") as content:
            content.seek(backing_offset)
            other = content.read(min(backing_length, 1023)).decode(errors="replace")
        raise BuildError(f"{image} needs another file, {other}: flatten it")
    if version == 3 and incompatible & _EXTERNAL_DATA:
        raise BuildError(f"{image} has its data in another file: flatten it")


def _check_raw(image: Path, head: bytes) -> None:
    """Raise for a file of another known format, which would be useless as a raw disk."""
    for place, magic, name in _OTHER_FORMATS:
        if head[place:].startswith(magic):
            raise BuildError(
                f"{image} is {name}, which may name other files of this machine; "
                "convert it to qcow2 where it comes from"
            )


def _plain(image: Path) -> Path:
    """A path that qemu-img takes only for a path (it reads `a:b` as a protocol)."""
    return image.absolute()


def to_raw(image: Path, raw: Path) -> None:
    """Write a sparse raw copy to work on."""
    argv: list[Argument] = ["qemu-img", "convert", "-f", inspect(image).format, "-O", "raw"]
    done = attempt([*argv, _plain(image), raw], timeout=1800)
    if done.returncode != 0:
        raise BuildError(f"{image}: {done.reason}")


def mount_root(raw: Path, where: Path, *, read_only: bool) -> None:
    """Mount the root file system of `raw` at `where`, and below it what its fstab lists.

    Raises `BuildError` if there is none, or if a part that a baked image needs cannot be
    mounted.
    """
    there = partitions.of(raw)
    candidates = [part for part in there if part.type in partitions.LINUX]
    where.mkdir(exist_ok=True)
    for part in sorted(candidates, key=lambda part: part.size, reverse=True):
        _mount(raw, part, where, read_only=read_only)
        if any(os.path.lexists(where / name) for name in _OF_A_ROOT):
            try:
                _mount_below(raw, there, where, read_only=read_only)
            except BuildError:
                run(["umount", "--recursive", where])
                raise
            return
        run(["umount", where])
    kinds = ", ".join(sorted({part.type for part in there} - {""})) or "nothing known"
    raise BuildError(f"no root file system of a Linux is in it (found: {kinds})")


def _mount(
    raw: Path, part: Partition, where: Path, *, read_only: bool, subvolume: str = ""
) -> None:
    how = f"loop,nosuid,nodev,offset={part.start},sizelimit={part.size}"
    how += f",subvol={subvolume}" if subvolume else ""
    if read_only:
        # Do not write even to replay a dirty journal.
        how += {"xfs": ",ro,norecovery", "btrfs": ",ro", "vfat": ",ro"}.get(part.type, ",ro,noload")
    done = attempt(["mount", "-t", part.type, "-o", how, raw, where])
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[:1]  # the next line is advice
        raise BuildError(f"{part.type} at byte {part.start}: {' '.join(said)}")


def _mount_below(raw: Path, there: list[Partition], root: Path, *, read_only: bool) -> None:
    for entry in partitions.fstab(root):
        part = partitions.meant(entry.device, there)
        if part is None or part.type not in partitions.MOUNTABLE:
            if entry.needed:
                kind = f" ({part.type})" if part is not None and part.type else ""
                raise BuildError(
                    f"its fstab has {entry.place} on {entry.device}{kind}, which cannot be mounted "
                    "here: `--way virt-customize`, or install-into the mounted root"
                )
            continue
        target = partitions.inside(root, entry.place)
        if target is None:
            if entry.needed:
                raise BuildError(f"its fstab has {entry.place}, where its root has no directory")
            continue
        try:
            _mount(raw, part, target, read_only=read_only, subvolume=entry.subvolume)
        except BuildError:
            if entry.needed:
                raise
    for name in partitions.NEEDED:
        if (root / name[1:]).is_dir() and not any((root / name[1:]).iterdir()):
            raise BuildError(
                f"its {name} is empty: it is on another file system, which its fstab does not name"
            )
