"""Cache build results under a key of all their inputs."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Callable

from .errors import BuildError


def directory() -> Path:
    """The cache: SOURCE_ROUTING_CACHE, else the XDG cache directory."""
    named = os.environ.get("SOURCE_ROUTING_CACHE")
    if named:
        return Path(named).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base).absolute() / "source-routing"


def key(*parts: str) -> str:
    """A short hash of `parts`."""
    digest = hashlib.sha256()
    for part in parts:
        # With the lengths, so that ("ab", "c") differs from ("a", "bc").
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()[:12]


# Locks on the entries that this process uses, held until it ends.
_in_use: list[IO[str]] = []


def remembered(
    family: str,
    identity: str,
    make: Callable[[Path], None],
    *,
    suffix: str = "",
    refresh: bool = False,
    keep_days: float = 0,
) -> Path:
    """The cached file or tree of `family` with `identity`, built by ``make(path)`` if missing.

    `make` fills a path beside it, which is renamed at the end, so that the entry is
    complete.  Only one process builds at a time; a second one waits and then finds it.
    Unused entries of the family are removed when they are older than `keep_days`.
    """
    where = directory()
    where.mkdir(parents=True, exist_ok=True)
    os.chmod(where, 0o700)  # it holds root trees with set-uid programs
    name = f"{family}-{identity}{suffix}"
    target = where / name
    lock = open(where / f".{name}.lock", "w", encoding="utf-8")  # noqa: SIM115
    fcntl.flock(lock, fcntl.LOCK_SH)
    if refresh or not target.exists():
        # A user of the entry holds the shared lock and needs no build, so this waits only for
        # builders.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if refresh:
            discard(target)
        if not target.exists():
            with replacing(target) as unfinished:
                make(unfinished)
                if not unfinished.exists():
                    raise BuildError(f"building {name} left nothing behind")
        fcntl.flock(lock, fcntl.LOCK_SH)
        _prune(where, family, name, keep_days)
    _in_use.append(lock)
    return target


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path beside `target` to write to; it replaces `target` at the end, if nothing fails."""
    unfinished = target.with_name(f".{target.name}.unfinished")
    discard(unfinished)
    try:
        yield unfinished
        os.replace(unfinished, target)
    finally:
        discard(unfinished)


def _prune(where: Path, family: str, current: str, keep_days: float) -> None:
    # Not a family whose name only begins in the same way.
    member = re.compile(rf"{re.escape(family)}-[0-9a-f]{{12}}(\..*)?")
    for path in where.iterdir():
        if not member.fullmatch(path.name):
            continue
        if path.name == current or time.time() - path.stat().st_mtime < keep_days * 86400:
            continue
        lock_path = where / f".{path.name}.lock"
        with open(lock_path, "w", encoding="utf-8") as lock:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                discard(path)
                lock_path.unlink()


def discard(path: Path) -> None:
    """Remove a file or a whole tree, if it exists."""
    if path.is_dir() and not path.is_symlink():
        if any(line.split()[4].startswith(f"{path}/") for line in _mounts()):
            raise BuildError(f"{path}: something is mounted inside, so it is not removed")
        for pause in (0.1, 0.5, 1.0):
            # A builder that was just killed may still be writing its last files.
            with contextlib.suppress(OSError):
                shutil.rmtree(path)
                return
            time.sleep(pause)
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def _mounts() -> Iterator[str]:
    with open("/proc/self/mountinfo", encoding="utf-8") as lines:
        yield from lines
