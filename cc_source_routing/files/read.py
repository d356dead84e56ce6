"""Read untrusted files below a root, with limits on size and type.  Read-only.

A root is ``/`` of the running system, an image's tree or a test directory.  Symbolic
links are followed as in a process chrooted to it: cloud-init's
``/var/lib/cloud/instance`` is an absolute link, and in an image's tree it must not
lead to a file of the build host.
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
MAX_LINKS = 40  # the kernel's limit, path_resolution(7)

_ABSENT = (errno.ENOENT, errno.ENOTDIR)


class RootFile(NamedTuple):
    """The content of a file, with its requested path (absolute within the root)."""

    path: str
    data: bytes
    mtime: float


def resolve(root: Path, path: str) -> Path:
    """Resolve the links of `path` (absolute within the root) without leaving the root.

    Raises `OSError` with ELOOP on a loop of links; components that do not exist are
    kept unchanged.
    """
    pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    resolved: list[str] = []
    links = 0
    while pending:
        part = pending.pop()
        if part == "..":
            del resolved[-1:]
            continue
        try:
            target = os.readlink(root.joinpath(*resolved, part))
        except OSError:  # not a link, or missing: the caller's open() reports that
            resolved.append(part)
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if target.startswith("/"):
            resolved.clear()
        pending.extend(piece for piece in reversed(target.split("/")) if piece not in ("", "."))
    return root.joinpath(*resolved)


def read_file(root: Path, path: str, limit: int = MAX_BYTES) -> RootFile | None:
    """Read the file at `path` within the root; None if it does not exist.

    Raises `FileError`, which names the file, if it cannot be read, is not a regular
    file (a pipe would block forever) or is larger than `limit` bytes.
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
    """The sorted names in a directory within the root; [] if it does not exist.

    Reads at most `MAX_NAMES` names.  Raises `FileError` if it cannot be read.
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
