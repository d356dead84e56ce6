"""What was built once and can be used again, kept by a key of all that went into it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import time
from pathlib import Path
from typing import IO, Callable, Iterator, List

from .errors import BuildError


def directory() -> Path:
    """The cache: SOURCE_ROUTING_CACHE, else the XDG cache directory."""
    named = os.environ.get("SOURCE_ROUTING_CACHE")
    if named:
        return Path(named).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base).absolute() / "source-routing"


def key(*parts: str) -> str:
    """A short name for all that `parts` say; another text gives another key."""
    digest = hashlib.sha256()
    for part in parts:
        # Lengths in between: ("ab", "c") is not ("a", "bc").
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()[:12]


# Locks of what this process uses, held until it ends.
_in_use: List[IO[str]] = []


def remembered(
    family: str,
    identity: str,
    make: Callable[[Path], None],
    *,
    suffix: str = "",
    refresh: bool = False,
    keep_days: float = 0,
) -> Path:
    """The cached file or tree of `family` that has `identity`, built by ``make(path)`` if missing.

    `make` fills a path beside it that is renamed at the end, so what has the
    name is whole.  One builder at a time: a second one waits and then finds it.
    Others of the family that nobody uses are removed when older than `keep_days`.
    """
    where = directory()
    where.mkdir(parents=True, exist_ok=True)
    os.chmod(where, 0o700)  # it holds root trees with set-uid programs
    name = f"{family}-{identity}{suffix}"
    target = where / name
    lock = open(where / f".{name}.lock", "w", encoding="utf-8")  # noqa: SIM115
    fcntl.flock(lock, fcntl.LOCK_SH)
    if refresh or not target.exists():
        # Who uses it holds the shared lock, and has it; so this waits for builders only.
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
    """A path beside `target` to write to; it takes its place at the end, if nothing fails."""
    unfinished = target.with_name(f".{target.name}.unfinished")
    discard(unfinished)
    try:
        yield unfinished
        os.replace(unfinished, target)
    finally:
        discard(unfinished)


def _prune(where: Path, family: str, current: str, keep_days: float) -> None:
    # Nothing of a family whose name only begins the same.
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
    """Remove a file or a whole tree; one that is not there is fine."""
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
