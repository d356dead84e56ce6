"""Whose the saved state is: the instance as cloud-init names it.

A server that is made from a snapshot of another one brings that one's files along.  Its
instance-id is another one, and then nothing of what they say counts.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import FileError
from ..files.read import read_file

INSTANCE_PATH = "/etc/source-routing/instance-id"
"""The instance that our saved files are of; not there where nobody knew."""

# Written before any module runs (cloudinit/stages.py, _reflect_cur_instance).
CURRENT_PATH = "/var/lib/cloud/data/instance-id"
# Of the datasource None: no metadata was to be had, which says nothing of who we are.
NOBODY = "iid-datasource-none"
LONGEST = 1024


def current_instance(root: Path) -> str | None:
    """The instance-id of the server below `root`; None where nobody knows it."""
    told = _read(root, CURRENT_PATH)
    return told if told != NOBODY else None


def instance_to_save(root: Path) -> str | None:
    """The server's instance-id, or the one that is saved where nobody knows it just now."""
    return current_instance(root) or _read(root, INSTANCE_PATH)


def is_of_another(root: Path) -> bool:
    """Whether what is saved was saved on another server than this one."""
    saved = _read(root, INSTANCE_PATH)
    current = current_instance(root)
    return saved is not None and current is not None and saved != current


def _read(root: Path, path: str) -> str | None:
    try:
        found = read_file(root, path, LONGEST)
    except FileError:
        return None
    text = found.data.decode("utf-8", "replace").strip() if found is not None else ""
    return text or None
