"""The only writer of files; the table names in rt_tables; the lock.

Every path is walked component by component with directory descriptors
(`RootDirectory`), so that no symbolic link, in an image or created meanwhile, leads a
write out of the root.  A set of files is first written completely, under temporary
names beside the targets, and only then renamed into place.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Callable, NamedTuple

from ..errors import ApplyError, FileError
from ..model import ConfigFile
from .directories import RootDirectory
from .read import list_names, read_file

TABLE_NAMES_PATH = "/etc/iproute2/rt_tables.d/source-routing.conf"
LOCK_PATH = "/run/source-routing/lock"
# Directories that belong to this package or that it may have created.  They are removed
# when empty, innermost first.
OUR_DIRECTORIES = (
    "/etc/source-routing/nics",
    "/etc/source-routing",
    # iproute2 6.9 and later have their own in /usr/share.
    "/etc/iproute2/rt_tables.d",
    "/etc/iproute2/rt_protos.d",
    "/etc/iproute2",
)
DROP_IN_SUFFIXES = (".network.d", ".service.d", ".target.d")

# Prefix for a NIC's name that cannot name a table itself; longer than any interface name.
LONG_NAME = "source-routing-"
TABLE_NAME_FILES = ("/usr/lib/iproute2", "/usr/share/iproute2", "/etc/iproute2")


class FileChanges(NamedTuple):
    """What `write_files` did, as paths within the root."""

    written: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return bool(self.written or self.removed)

    def then(self, later: FileChanges) -> FileChanges:
        """What has changed after both."""
        written = {*self.written, *later.written} - {*later.removed}
        removed = {*self.removed, *later.removed} - {*later.written}
        return FileChanges(tuple(sorted(written)), (), tuple(sorted(removed)))


class LockTimeout(ApplyError):
    """Another process has held the lock for too long."""


class _Pending(NamedTuple):
    """A file that is written under a temporary name and not yet renamed."""

    path: str
    parent: int
    temporary: str
    name: str


# -- writing -------------------------------------------------------------------


def write_files(
    root: Path,
    files: Iterable[ConfigFile],
    owned: Iterable[str],
    announce: Callable[[FileChanges], None] = lambda _changes: None,
) -> FileChanges:
    """Write `files` below `root`, and remove those of `owned` that are not among them.

    Files that are already right are not touched.  `announce` is called with what is about
    to change, before anybody can see it.  Raises `FileError`, which names the file;
    everything written before is undone, unless a rename itself failed.
    """
    wanted = tuple(files)
    surplus = sorted(set(owned) - {file.path for file in wanted})
    with ExitStack() as stack:
        directory = _open_root(stack, root)
        pending: list[_Pending] = []
        unchanged: list[str] = []
        try:
            for file in wanted:
                with _naming(file.path):
                    _check_path(file.path)
                    parent = directory.open(os.path.dirname(file.path), create=True)
                    name = os.path.basename(file.path)
                    _remove_leftovers(parent, name)
                    if _difference(parent, file) is None:
                        unchanged.append(file.path)
                        continue
                    temporary = f"{_stem(name)}{secrets.token_hex(4)}"
                    pending.append(_Pending(file.path, parent, temporary, name))
                    _write(parent, temporary, file)
            expected = FileChanges(
                tuple(item.path for item in pending),
                removed=tuple(path for path in surplus if _exists(directory, path)),
            )
            if expected.changed:
                announce(expected)
            written = _rename_all(pending)
        except BaseException:
            _roll_back(pending, directory.made)
            raise
        removed = [path for path in surplus if _remove(directory, path)]
        if surplus:
            for folder in OUR_DIRECTORIES:
                with _naming(folder):
                    directory.rmdir(folder)
        return FileChanges(tuple(written), tuple(unchanged), tuple(removed))


def file_deviations(root: Path, files: Iterable[ConfigFile], owned: Iterable[str]) -> list[str]:
    """One sentence for each file that differs from `files` or should be gone; [] if none."""
    wanted = tuple(files)
    deviations = []
    with ExitStack() as stack:
        directory = _open_root(stack, root)
        for file in wanted:
            try:
                parent = directory.open(os.path.dirname(file.path))
                difference = _difference(parent, file)
            except OSError as error:
                missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
                difference = "is missing" if missing else f"cannot be read: {_why(error)}"
            if difference is not None:
                deviations.append(f"{file.path} {difference}")
        for path in sorted(set(owned) - {file.path for file in wanted}):
            with _naming(path, "read"):
                if directory.exists(path):
                    deviations.append(f"{path} is left over")
    return deviations


def _open_root(stack: ExitStack, root: Path) -> RootDirectory:
    with _naming(str(root)):
        return RootDirectory(stack, root)


def _check_path(path: str) -> None:
    name = os.path.basename(path)
    if not path.startswith("/") or "\0" in path or ".." in path.split("/") or name in ("", "."):
        raise FileError(f"{path!r} is no absolute path of a file within the root")


def _difference(parent: int, file: ConfigFile) -> str | None:
    """How the file in the directory `parent` differs from `file`; None if it is the same."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    name = os.path.basename(file.path)
    try:
        status = os.lstat(name, dir_fd=parent)
    except FileNotFoundError:
        return "is missing"
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    content = file.content.encode()
    if status.st_size != len(content):
        return "differs from what the plan renders"
    with os.fdopen(os.open(name, flags, dir_fd=parent), "rb") as stream:
        if stream.read(len(content) + 1) != content:
            return "differs from what the plan renders"
    mode = stat.S_IMODE(status.st_mode)
    return None if mode == file.mode else f"has mode {mode:04o} instead of {file.mode:04o}"


def leftovers(root: Path, path: str) -> list[str]:
    """The temporary files that a killed writer left beside the file `path`."""
    folder, name = os.path.split(path)
    try:
        names = list_names(root, folder)
    except FileError:
        return []
    return [f"{folder}/{found}" for found in names if found.startswith(_stem(name))]


def target_name(name: str) -> str:
    """`name`, or the target's name if `name` is a temporary file of this writer."""
    return _TEMPORARY.sub(r"\1", name)


_TEMPORARY = re.compile(r"\A\.(.+)\.source-routing-[0-9a-f]{8}\Z")


def _stem(name: str) -> str:
    # The readers of the target directories ignore names with a leading dot and without
    # the suffix they expect: run-parts, *.conf, dhclient's run-parts --list.
    return f".{name}.source-routing-"


def _remove_leftovers(parent: int, name: str) -> None:
    """Remove the temporary files that a killed writer left beside the file."""
    for leftover in os.listdir(parent):
        if leftover.startswith(_stem(name)):
            os.unlink(leftover, dir_fd=parent)


def _write(parent: int, name: str, file: ConfigFile) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, 0o600, dir_fd=parent), "wb") as stream:
        stream.write(file.content.encode())
        stream.flush()
        os.fchmod(stream.fileno(), file.mode)
        os.fsync(stream.fileno())


def _rename_all(pending: Sequence[_Pending]) -> list[str]:
    written = []
    for item in pending:
        with _naming(item.path):
            os.rename(item.temporary, item.name, src_dir_fd=item.parent, dst_dir_fd=item.parent)
        written.append(item.path)
    for parent, item in {item.parent: item for item in pending}.items():
        with _naming(item.path):
            os.fsync(parent)
    return written


def _roll_back(pending: Sequence[_Pending], made: Sequence[tuple[int, str]]) -> None:
    for item in pending:
        with contextlib.suppress(OSError):
            os.unlink(item.temporary, dir_fd=item.parent)
    for parent, name in reversed(made):
        with contextlib.suppress(OSError):  # not empty: another process uses it now
            os.rmdir(name, dir_fd=parent)


def _exists(directory: RootDirectory, path: str) -> bool:
    with _naming(path):
        _check_path(path)
        return directory.exists(path)


def _remove(directory: RootDirectory, path: str) -> bool:
    """Remove a file and a killed writer's leftovers; returns whether the file existed."""
    folder, name = os.path.split(path)
    with _naming(path):
        _check_path(path)
        try:
            parent = directory.open(folder)
        except (FileNotFoundError, NotADirectoryError):
            return False
        _remove_leftovers(parent, name)
        existed = directory.exists(path)
        if existed:
            os.unlink(name, dir_fd=parent)
            os.fsync(parent)
        if folder.endswith(DROP_IN_SUFFIXES):
            directory.rmdir(folder)
    return existed


@contextmanager
def _naming(path: str, action: str = "written") -> Iterator[None]:
    """Turn an `OSError` into a `FileError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise FileError(f"{path} cannot be {action}: {_why(error)}") from error


def _why(error: OSError) -> str:
    return error.strerror or str(error)


# -- reading -------------------------------------------------------------------


def read_text(root: Path, path: str, limit: int = 1024 * 1024) -> str | None:
    """Read the text file at `path` within the root; None if it does not exist.

    Bytes that are not UTF-8 become U+FFFD.  Raises `FileError` if it is unreadable,
    not a regular file or larger than `limit` bytes.
    """
    found = read_file(root, path, limit)
    return None if found is None else found.data.decode("utf-8", "replace")


_TABLE_LINE = re.compile(r"\s*(0[xX][0-9a-fA-F]{1,8}|[0-9]{1,10})\s+([^\s#]+)")


class TableName(NamedTuple):
    """A line of rt_tables."""

    path: str
    table: int
    name: str


def table_names(root: Path) -> Iterator[TableName]:
    """The names of routing tables that iproute2 knows below `root`, including our own.

    As iproute2 reads them (rtnl_rttable_initialize): the first rt_tables file that
    exists, and every ``rt_tables.d/*.conf``.  Ids may be hexadecimal; malformed lines
    are skipped.  An unreadable file counts as absent: names are only a convenience, the
    kernel uses ids.
    """
    for folder in TABLE_NAME_FILES:
        paths = [f"{folder}/rt_tables"]
        with contextlib.suppress(FileError):
            names = list_names(root, f"{folder}/rt_tables.d")
            paths += [f"{folder}/rt_tables.d/{name}" for name in names if name.endswith(".conf")]
        for path in paths:
            yield from _read_table_names(root, path)


def saved_tables(names: Iterable[TableName]) -> dict[str, int]:
    """The table ids in `names` that an earlier run of this package assigned, by NIC."""
    own = (line for line in names if line.path == TABLE_NAMES_PATH)
    return {
        line.name[len(LONG_NAME) :]
        if line.name.startswith(LONG_NAME) and line.name != LONG_NAME
        else line.name: line.table
        for line in own
    }


def foreign_tables(names: Iterable[TableName]) -> dict[int, str]:
    """The table names in `names` that others assigned, by id."""
    return {line.table: line.name for line in names if line.path != TABLE_NAMES_PATH}


def _read_table_names(root: Path, path: str) -> Iterator[TableName]:
    try:
        text = read_text(root, path) or ""
    except FileError:
        return
    for line in text.splitlines():
        match = _TABLE_LINE.match(line)
        if match is None:
            continue
        number = int(match[1], 0 if match[1][:2].lower() == "0x" else 10)
        if number < 2**32:
            yield TableName(path, number, match[2])


# -- locking -------------------------------------------------------------------


@contextmanager
def lock(root: Path, timeout: float = 30.0, path: str = LOCK_PATH) -> Iterator[None]:
    """Hold the lock below `root`; raises `LockTimeout`, which names the holder.

    The file contains its holder and is otherwise empty.  It is root's alone: whoever may open
    a file may lock it.
    """
    with ExitStack() as stack:
        directory = _open_root(stack, root)
        with _naming(path):
            parent = directory.open(os.path.dirname(path), create=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(os.path.basename(path), flags, 0o600, dir_fd=parent)
            stack.callback(os.close, descriptor)
            os.fchmod(descriptor, 0o600)  # one of an earlier release
        _acquire(descriptor, path, timeout)
        try:
            # The process name, not its arguments: they may be confidential.
            holder = f"{os.getpid()} {_process_name(os.getpid())}\n"
            # A full /run must not prevent the apply.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, holder.encode("utf-8", "replace"), 0)
            yield
        finally:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)


def _acquire(descriptor: int, path: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EINTR):
                raise FileError(f"{path} cannot be locked: {_why(error)}") from error
        if time.monotonic() >= deadline:
            content = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
            pid, _, name = content.partition(" ")
            holder = f"process {pid} ({name})" if pid.isdigit() else "another process"
            raise LockTimeout(
                f"{holder} holds {path} for more than {timeout:g} s; nothing was changed",
                errno.ETIMEDOUT,
            )
        time.sleep(0.02)


def _process_name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    return "unknown"
