"""The release that wrote scripts and units for each network manager: tests upgrade from it.

``former.tar.xz`` has what an installation needs of version 0.1.0's source tree.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

SOURCES = Path(__file__).with_name("former.tar.xz")


def export(directory: Path) -> Path:
    """Write its tree into `directory`."""
    tree = directory / "former"
    with tarfile.open(SOURCES) as archive:
        archive.extractall(tree)
    return tree


def deb(tree: Path, directory: Path) -> Path:
    """Build its package with its own program."""
    argv = [sys.executable, tree / "image-build/deb", directory]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    (built,) = directory.glob("*.deb")
    return built
