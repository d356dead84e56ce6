"""What a disk does to files: little ones that are soon full, and files that are half written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from .command import Files

LITTLE = 1 << 20  # bytes
FEW = 64  # files and directories
PAGE = os.sysconf("SC_PAGE_SIZE")
TEMPORARY = ".source-routing-"
OWED = "run/source-routing/owed.json"


def little_disk(place: Path) -> list[str]:
    """The command that mounts an empty one."""
    return ["mount", "-t", "tmpfs", "-o", f"size={LITTLE},nr_inodes={FEW}", "tmpfs", str(place)]


def fill(ballast: Path, room: int) -> None:
    """Write until the little disk has `room` pages left."""
    with ballast.open("wb", buffering=0) as stream:
        for _page in range(2 * LITTLE // PAGE):
            try:
                stream.write(b"\0" * PAGE)
            except OSError as error:
                assert error.errno == errno.ENOSPC, error
                break
        else:
            raise AssertionError(f"{ballast} is on no little disk")
        stream.truncate(stream.tell() - room * PAGE)


def torn(seen: Files, *whole: Files) -> list[str]:
    """Files that are as none of the whole states has them.

    Aside from what is there only while a run is under way: files that wait for their rename, and
    the note of what services have still to be told.
    """
    return [
        path
        for path, content in seen.items()
        if TEMPORARY not in path
        and path != OWED
        and all(state.get(path) != content for state in whole)
    ]


def begun(seen: Files) -> list[str]:
    """Files that still wait for their rename."""
    return [path for path in seen if TEMPORARY in path]
