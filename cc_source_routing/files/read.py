"""Reading other people's files below a root, bounded and without surprises.

A root is the running system's ``/``, an image's tree or a test's.  Symbolic
links are followed as a process chrooted there would follow them: cloud-init's
``/var/lib/cloud/instance`` is an absolute link, and in an image's tree it must
not lead out to the builder's own file.  Nothing here writes.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import NamedTuple

from ..errors import FileError

MAX_BYTES = 4 * 1024 * 1024
MAX_NAMES = 4096
MAX_LINKS = 40  # as the kernel has it, path_resolution(7)

_ABSENT = (errno.ENOENT, errno.ENOTDIR)


class RootFile(NamedTuple):
    """A file's bytes, with the path by which it was asked for within the root."""

    path: str
    data: bytes
    mtime: float


def resolve(root: Path, path: str) -> Path:
    """The real place of `path` (absolute within the root), no link leading out of it.

    Raises `OSError` with ELOOP when links go round; what does not exist is
    returned as it stands.
    """
    pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    done: list[str] = []
    links = 0
    while pending:
        part = pending.pop()
        if part == "..":
            del done[-1:]
            continue
        try:
            target = os.readlink(root.joinpath(*done, part))
        except OSError:  # no link, or not there: opening it will tell
            done.append(part)
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if target.startswith("/"):
            done.clear()
        pending.extend(piece for piece in reversed(target.split("/")) if piece not in ("", "."))
    return root.joinpath(*done)


def read_file(root: Path, path: str, limit: int = MAX_BYTES) -> RootFile | None:
    """The file at `path` within the root; None when there is none.

    Raises `FileError`, a sentence naming the file, when it cannot be read, is
    no regular file (a pipe would block for ever) or is larger than `limit`.
    """
    try:
        descriptor = os.open(
            resolve(root, path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        )
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _ABSENT:
            return None
        raise FileError(f"{path} cannot be read: {_why(error)}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileError(f"{path} is not a regular file; ignored")
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {_why(error)}") from error
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise FileError(f"{path} has more than {limit} bytes; ignored")
    return RootFile(path, data, status.st_mtime)


def list_names(root: Path, path: str) -> list[str]:
    """The sorted names in a directory within the root; [] when there is none.

    Raises `FileError` when it cannot be read; reads at most `MAX_NAMES` names.
    """
    names: list[str] = []
    try:
        with os.scandir(resolve(root, path)) as entries:
            for entry in entries:
                if len(names) >= MAX_NAMES:
                    break
                names.append(entry.name)
    except OSError as error:
        if error.errno in _ABSENT:
            return []
        raise FileError(f"{path} cannot be read: {_why(error)}") from error
    return sorted(names)


def _why(error: Exception) -> str:
    strerror = getattr(error, "strerror", None)
    return str(strerror or error)
