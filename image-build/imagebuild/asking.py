"""Asking an image's own cloud-init, by a program that is sent into the image for it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Iterator

from .chroot import attempt_in
from .command import Completed

_HERE = Path(__file__).resolve().parent
_SENT = ("examine.py", "firstboot.py", "inside.py", "modulelist.py")


@contextlib.contextmanager
def sent(root: Path) -> Iterator[Path]:
    """A directory in the root's /tmp with `examine` and what it imports; gone at the end."""
    with tempfile.TemporaryDirectory(dir=root / "tmp", prefix="verify-") as name:
        for module in _SENT:
            shutil.copyfile(_HERE / module, Path(name) / module)
        yield Path(name)


def examine(root: Path, python: str, scratch: Path, *what: str) -> Completed:
    """Run it by the interpreter `python` of the root; the last line of its output is JSON."""
    return attempt_in(root, [python, "-B", f"/{scratch.relative_to(root)}/examine.py", *what])
