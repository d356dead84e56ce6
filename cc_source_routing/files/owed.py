"""Changes of files that no manager has been told of yet, for when a run is killed in between.

They are in /run, since at a boot the managers read all their files.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from ..errors import FileError
from ..model import ConfigFile
from .write import FileChanges, read_text, write_files

OWED_PATH = "/run/source-routing/owed.json"


def read_owed(root: Path) -> FileChanges:
    """What an earlier run has changed and told nobody; nothing if the file is damaged."""
    try:
        document = json.loads(read_text(root, OWED_PATH) or "{}")
        return FileChanges(*(_paths(document[key]) for key in ("written", "unchanged", "removed")))
    except (ValueError, RecursionError, LookupError, TypeError, FileError):
        return FileChanges()


def save_owed(root: Path, changes: FileChanges) -> None:
    """Write them down; where that fails, all goes well unless the run is killed."""
    file = ConfigFile(OWED_PATH, json.dumps(changes._asdict()) + "\n")
    with contextlib.suppress(FileError):
        write_files(root, (file,), ())


def forget_owed(root: Path) -> None:
    """All managers have been told."""
    with contextlib.suppress(FileError):
        write_files(root, (), (OWED_PATH,))


def _paths(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(path, str) for path in value):
        raise TypeError("no list of paths")
    return tuple(value)
