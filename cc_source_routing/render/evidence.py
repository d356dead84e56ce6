"""The evidence for a root's network manager: installed programs, units, versions.

Read-only, never outside the root; what cannot be read counts as absent.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import FileError
from ..files.read import list_names, read_file, resolve

PROGRAM_DIRECTORIES = (
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/usr/local/sbin",
    "/usr/lib/systemd",
    "/lib/systemd",
)
# By descending priority, systemd.unit(5); links made by generators count as enabled too.
UNIT_DIRECTORIES = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/run/systemd/generator.late",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
_SHARED_LIBRARY = re.compile(r"libsystemd-shared-([0-9]{1,4})\b.*\.so")
_DPKG_VERSION = re.compile(r"^Package: systemd\n(?:.+\n)*?Version: (?:[0-9]+:)?([0-9]{1,4})", re.M)


class Unit(NamedTuple):
    """Whether a systemd unit is started at boot, and the link that shows it."""

    enabled: bool
    masked: bool
    link: str


def program(root: Path, name: str) -> str | None:
    """The path of the installed program `name`, or None."""
    for directory in PROGRAM_DIRECTORIES:
        if os.access(_place(root, f"{directory}/{name}"), os.X_OK):
            return f"{directory}/{name}"
    return None


def unit(root: Path, name: str) -> Unit:
    """The state of the unit `name` in the root, from its links like `systemctl is-enabled`."""
    for directory in UNIT_DIRECTORIES[:2]:
        path = f"{directory}/{name}"
        with contextlib.suppress(OSError):
            if os.readlink(_place(root, directory) / name) == "/dev/null":
                return Unit(False, True, path)
    for directory in UNIT_DIRECTORIES:
        for wanting in names(root, directory):
            if not wanting.endswith((".wants", ".requires")):
                continue
            path = f"{directory}/{wanting}/{name}"
            if os.path.lexists(_place(root, f"{directory}/{wanting}") / name):
                return Unit(True, False, path)
    return Unit(False, False, "")


def systemd_version(root: Path) -> int | None:
    """The systemd release in the root, from its library's name or dpkg; None if unknown.

    Running the program itself would execute an image's code on the build host.
    """
    found = [int(match[1]) for match in map(_SHARED_LIBRARY.fullmatch, _libraries(root)) if match]
    if found:
        return max(found)
    status = text(root, "/var/lib/dpkg/status")
    match = _DPKG_VERSION.search(status)
    return int(match[1]) if match else None


def names(root: Path, path: str) -> "list[str]":
    """The sorted names in a directory of the root; [] if it cannot be read."""
    try:
        return list_names(root, path)
    except FileError:
        return []


def text(root: Path, path: str) -> str:
    """A file of the root as text; "" if it cannot be read."""
    try:
        found = read_file(root, path, limit=16 * 1024 * 1024)
    except FileError:
        return ""
    return found.data.decode("utf-8", "replace") if found else ""


def _libraries(root: Path) -> Iterator[str]:
    for base in ("/usr/lib", "/usr/lib64", "/lib"):
        yield from names(root, f"{base}/systemd")
        for architecture in names(root, base):
            if architecture.endswith("-linux-gnu") or "-linux-gnu" in architecture:
                yield from names(root, f"{base}/{architecture}/systemd")


def _place(root: Path, path: str) -> Path:
    try:
        return resolve(root, path)
    except OSError:  # a loop of links
        return root / "nowhere"
