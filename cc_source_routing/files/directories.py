"""Walk the directories below a root by descriptor, so that no symbolic link leads out.

Path components are opened one at a time (openat(2) with O_NOFOLLOW), and links are
resolved here as in a process chrooted to the root.  A link created meanwhile cannot
redirect a descriptor that is already open.
"""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from pathlib import Path

from .read import MAX_LINKS


class RootDirectory:
    """The directories below a root, each opened once and kept open until `stack` closes."""

    def __init__(self, stack: ExitStack, root: Path):
        self._stack = stack
        self.made: list[tuple[int, str]] = []  # (parent descriptor, name), in creation order
        self._known: dict[str, int] = {}
        self._root = self._keep(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def _keep(self, descriptor: int) -> int:
        self._stack.callback(os.close, descriptor)
        return descriptor

    def open(self, path: str, create: bool = False) -> int:
        """A descriptor of the directory `path`; creates missing directories if `create`."""
        if path not in self._known:
            self._known[path] = self._walk(path, create)
        return self._known[path]

    def exists(self, path: str) -> bool:
        """Whether `path` exists; a dangling link counts."""
        folder, name = os.path.split(path)
        try:
            os.lstat(name, dir_fd=self.open(folder))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def rmdir(self, path: str) -> None:
        """Remove the directory `path` if it exists and is empty."""
        folder, name = os.path.split(path)
        try:
            # List it first: on a read-only file system every rmdir(2) fails.
            if os.listdir(self.open(path)):
                return
            os.rmdir(name, dir_fd=self.open(folder))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                return
            raise
        self._known.pop(path, None)

    def _walk(self, path: str, create: bool) -> int:
        pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        opened = [self._root]
        links = 0
        while pending:
            part = pending.pop()
            if part == "..":
                if len(opened) == 1:
                    raise OSError(errno.EXDEV, "a symbolic link there leads out of the root")
                opened.pop()
                continue
            try:
                target: str | None = os.readlink(part, dir_fd=opened[-1])
            except OSError as error:
                if error.errno == errno.ENOENT and create:
                    self._make(opened[-1], part)
                elif error.errno not in (errno.EINVAL, errno.ENOENT):
                    raise
                target = None
            if target is None:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                opened.append(self._keep(os.open(part, flags, dir_fd=opened[-1])))
                continue
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            if target.startswith("/"):
                opened = [self._root]
            pending.extend(piece for piece in reversed(target.split("/")) if piece not in ("", "."))
        return opened[-1]

    def _make(self, parent: int, name: str) -> None:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            return
        os.chmod(name, 0o755, dir_fd=parent)  # regardless of the umask
        self.made.append((parent, name))
