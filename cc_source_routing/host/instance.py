"""Which instance the saved state belongs to, by cloud-init's instance-id.

A server that is created from a snapshot inherits the files of the original server.  Its instance-id
differs, and then the inherited state does not count.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import FileError
from ..files.read import read_file

INSTANCE_PATH = "/etc/source-routing/instance-id"
"""The instance that the saved files belong to; absent if it was unknown."""

# Written before any module runs (cloudinit/stages.py, _reflect_cur_instance).
CURRENT_PATH = "/var/lib/cloud/data/instance-id"
# The id of the datasource None: no metadata was found, so the instance is unknown.
NO_DATASOURCE = "iid-datasource-none"
MAX_BYTES = 1024


def current_instance(root: Path) -> str | None:
    """The instance-id of the server in `root`; None if it is unknown."""
    instance = _read(root, CURRENT_PATH)
    return instance if instance != NO_DATASOURCE else None


def instance_to_save(root: Path) -> str | None:
    """The server's instance-id, or the saved one if it is unknown now."""
    return current_instance(root) or _read(root, INSTANCE_PATH)


def is_of_another(root: Path) -> bool:
    """Whether the saved state belongs to another server."""
    saved = _read(root, INSTANCE_PATH)
    current = current_instance(root)
    return saved is not None and current is not None and saved != current


def _read(root: Path, path: str) -> str | None:
    try:
        found = read_file(root, path, MAX_BYTES)
    except FileError:
        return None
    text = found.data.decode("utf-8", "replace").strip() if found is not None else ""
    return text or None
