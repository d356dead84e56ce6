"""Query an image's own cloud-init, with a program that is copied into the image."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .chroot import attempt_in
from .errors import BuildError

_HERE = Path(__file__).resolve().parent
_SENT = ("examine.py", "firstboot.py", "inside.py", "modulelist.py")


class Findings(NamedTuple):
    """The findings about an image, a sentence each."""

    faults: list[str]  # its servers would not work, or not all in the same way
    warnings: list[str]  # possibly intended
    own_network: bool = False  # cloud-init leaves the network to the image


@contextlib.contextmanager
def sent(root: Path) -> Iterator[Path]:
    """A temporary directory in the root's /tmp with `examine` and its imports."""
    with tempfile.TemporaryDirectory(dir=root / "tmp", prefix="verify-") as name:
        for module in _SENT:
            shutil.copyfile(_HERE / module, Path(name) / module)
        yield Path(name)


def examine(root: Path, python: str, scratch: Path, *what: str) -> Findings:
    """Run `examine` with the root's interpreter `python`; `BuildError` if it fails."""
    place = f"/{scratch.relative_to(root)}/examine.py"
    done = attempt_in(root, [python, "-B", place, *what])
    if done.returncode != 0:
        raise BuildError(f"asking the cloud-init of {root}: {done.reason}")
    return Findings(**json.loads(done.stdout.splitlines()[-1]))


def first_boot(root: Path, python: str) -> Findings:
    """Whether cloud-init would run and query its cloud, with or without our module."""
    with sent(root) as scratch:
        return examine(root, python, scratch, "first-boot")
