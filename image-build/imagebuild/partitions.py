"""Find the partitions of a raw disk, and those that the image mounts below its root."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .command import attempt
from .errors import BuildError

# The file systems supported for the root of a server, and those for its other mounts.
LINUX = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs"})
MOUNTABLE = LINUX | {"vfat"}

# The directories that baking writes to or runs programs from, and that an image may have on
# separate file systems.
NEEDED = ("/usr", "/etc", "/var")
_NEEDED_PLACES = re.compile(
    "/usr|/usr/(?:bin|sbin|lib|lib64|share)(?:/.*)?|/etc(?:/.*)?"
    "|/var|/var/lib|/var/lib/(?:cloud|dpkg|rpm)"
)

_SECTOR, _LARGE_SECTOR = 512, 4096
_GPT = b"EFI PART"  # in the second sector (UEFI specification, "GPT Header")

# Only the first disk is examined, under the names that hypervisors give it.
_FIRST_DISK = re.compile(r"/dev/(?:(?:s|v|xv)da|nvme0n1p|mmcblk0p)(\d+)")
_BY_LINK = re.compile(r"/dev/disk/by-(uuid|label|partuuid|partlabel)/(.+)")
_PLACE = re.compile(r"(?:/(?!\.\.?(?:/|$))[\w.@+-]+)+")
_SUBVOLUME = re.compile(r"(?:^|,)subvol=([\w./@+-]+)")


class Partition(NamedTuple):
    """The position of a file system in a disk, in bytes, and the names it may have in fstab."""

    start: int
    size: int
    number: int  # 0: without a partition table
    type: str = ""
    names: dict[str, str] = {}  # by UUID, LABEL, PARTUUID, PARTLABEL


class Entry(NamedTuple):
    """A line of fstab(5) for a block device mounted below the root."""

    device: str
    place: str
    subvolume: str  # of btrfs

    @property
    def needed(self) -> bool:
        """Whether baking would be incomplete without it."""
        return _NEEDED_PLACES.fullmatch(self.place) is not None


def of(raw: Path) -> list[Partition]:
    """All partitions, or the single file system of a disk without a partition table."""
    done = attempt(["sfdisk", "--json", raw])
    with open(raw, "rb") as disk:
        head = disk.read(_LARGE_SECTOR + len(_GPT))
    if head.endswith(_GPT) and head[_SECTOR : _SECTOR + len(_GPT)] != _GPT:
        raise BuildError(
            "its partition table is for disks with sectors of 4096 bytes: attach it "
            "(`losetup --sector-size 4096 --partscan`), mount its root and use install-into"
        )
    found = []
    if done.returncode == 0:
        table = json.loads(done.stdout)["partitiontable"]
        sector = table.get("sectorsize", _SECTOR)
        for entry in table.get("partitions", []):
            number = int(re.findall(r"\d+$", entry["node"])[0])
            names = {"PARTUUID": entry.get("uuid", ""), "PARTLABEL": entry.get("name", "")}
            if table.get("label") == "dos":
                names = {"PARTUUID": f"{table.get('id', '')[2:]}-{number:02x}"}
            found.append(
                Partition(entry["start"] * sector, entry["size"] * sector, number, "", names)
            )
    found = found or [Partition(0, raw.stat().st_size, 0)]
    return [_probed(raw, part) for part in found]


def _probed(raw: Path, part: Partition) -> Partition:
    argv = ["blkid", "--probe", "--offset", str(part.start), "--size", str(part.size)]
    said = attempt([*argv, "--output", "export", raw]).stdout.splitlines()
    tags = dict(line.split("=", 1) for line in said if "=" in line)
    # Values are escaped for a shell; in practice no name needs it.
    names = {name: tags[name] for name in ("UUID", "LABEL") if name in tags}
    return part._replace(type=tags.get("TYPE", ""), names={**part.names, **names})


def meant(device: str, there: list[Partition]) -> Partition | None:
    """The partition that fstab names `device`; None if it is not on this disk."""
    link = _BY_LINK.fullmatch(device)
    kind, name = (link[1].upper(), link[2]) if link else device.partition("=")[::2]
    first = _FIRST_DISK.fullmatch(device)
    for part in there:
        known = part.names.get(kind, "")
        same = known.lower() == name.lower() if kind in ("UUID", "PARTUUID") else known == name
        if (known and same) or (first is not None and part.number == int(first[1])):
            return part
    return None


def fstab(root: Path) -> list[Entry]:
    """The mounts below the root at boot, outer ones first."""
    path = root / "etc/fstab"
    if inside(root, "/etc") is None or path.is_symlink() or not path.is_file():
        return []
    entries = list(_entries(path.read_text(encoding="utf-8", errors="replace")))
    return sorted(entries, key=lambda entry: entry.place.count("/"))


def _entries(text: str) -> Iterator[Entry]:
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if len(words) < 3:
            continue
        device, place, kind = (word.strip("\"'") for word in words[:3])
        options = words[3] if len(words) > 3 else ""
        if kind == "swap" or "noauto" in options.split(",") or not _PLACE.fullmatch(place):
            continue
        if device.startswith(("UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=", "/dev/")):
            subvolume = _SUBVOLUME.search(options)
            yield Entry(device.replace('"', ""), place, subvolume[1] if subvolume else "")


def inside(root: Path, place: str) -> Path | None:
    """The directory `place` of the root; None if it is missing, or if a link leads to it.

    A link in an image may lead to this machine's own directories.
    """
    path = root
    for name in place.strip("/").split("/"):
        path = path / name
        if path.is_symlink() or not path.is_dir():
            return None
    return path


def mounts_below(directory: Path) -> list[str]:
    """Mount points below a directory, outer ones first, for its own file systems."""
    found = set()
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            words, kind = line.split(), line.split(" - ")[1].split()[0]
            path = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), words[4]))
            if kind in MOUNTABLE and directory in path.parents:
                found.add(str(path.relative_to(directory)))
    return sorted((name for name in found if _PLACE.fullmatch(f"/{name}")), key=_depth)


def _depth(name: str) -> int:
    return name.count(os.sep)
