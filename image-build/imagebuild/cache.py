"""What was built once and can be used again, kept by a key of all that went into it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from pathlib import Path
from typing import Callable, Iterator, Optional

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


def remembered(
    name: str, make: Callable[[Path], None], *, root: Optional[Path] = None, refresh: bool = False
) -> Path:
    """The cached file or directory `name`, built by ``make(path)`` where it is missing.

    `make` fills a path beside it that is renamed at the end, so what has the
    name is whole.  One builder at a time: a second one waits and then finds it.
    """
    where = root or directory()
    where.mkdir(parents=True, exist_ok=True)
    os.chmod(where, 0o700)  # it holds root trees with set-uid programs
    target = where / name
    with _locked(where / f".{name}.lock"):
        if refresh:
            discard(target)
        if not target.exists():
            unfinished = where / f".{name}.unfinished"
            discard(unfinished)
            try:
                make(unfinished)
                if not unfinished.exists():
                    raise BuildError(f"building {name} left nothing behind")
                os.replace(unfinished, target)
            finally:
                discard(unfinished)
    return target


def discard(path: Path) -> None:
    """Remove a file or a whole tree; one that is not there is fine."""
    if path.is_dir() and not path.is_symlink():
        if any(line.split()[4].startswith(f"{path}/") for line in _mounts()):
            raise BuildError(f"{path}: something is mounted inside, so it is not removed")
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def _mounts() -> Iterator[str]:
    with open("/proc/self/mountinfo", encoding="utf-8") as lines:
        yield from lines


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
