"""Whether cloud-init's configuration of this boot still has the stanza that was once applied.

A stanza that is gone from user-data is no order to take anything away: what is on
stays on.  But then somebody should be told.  Reads what cloud-init has left, of
which only root may read most, and knows nothing better than to say that it does not know.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Iterator, Optional

from ..errors import FileError
from ..files.read import list_names, read_file
from ..stanza.gathering import KEY
from ..stanza.yaml_document import Unbounded, Unreadable, Yaml

# All of it merged, at this boot and by cloud-init itself (stages.py, consume_data): 25.1 writes it,
# 22.4 does not.
_COMBINED = "/run/cloud-init/combined-cloud-config.json"
# There when the boot's last stage is through.
_RESULT = "/run/cloud-init/result.json"
# Before, what it was merged of.  Written at each boot, also where there is nothing in it.
_USER_DATA = "/var/lib/cloud/instance/cloud-config.txt"
_SYSTEM = "/etc/cloud/cloud.cfg"
_DROP_INS = "/etc/cloud/cloud.cfg.d"
_COMMAND_LINE = "/proc/cmdline"
_UNKNOWN = object()


def still_asked(root: Path) -> Optional[bool]:
    """Whether anything asks for source routing at this boot; None where that cannot be known."""
    value = _present(root)
    return None if value is _UNKNOWN else value is not None


def is_told_off(root: Path) -> bool:
    """Whether what decides at this boot says that source routing shall be off."""
    value = _present(root)
    return value is False or (isinstance(value, dict) and value.get("enabled") is False)


def _present(root: Path) -> Any:
    """The value of the key, None without one or any; `_UNKNOWN` where that cannot be known.

    Where several documents are merged, that of the one that wins: what it leaves to others
    is not in it.
    """
    try:
        combined = read_file(root, _COMBINED)
        if combined is not None:
            return _value(json.loads(combined.data))
        if read_file(root, _RESULT) is None or read_file(root, _USER_DATA) is None:
            return _UNKNOWN  # it has not run, or is not through
        command_line = read_file(root, _COMMAND_LINE)
        if command_line is not None and b"cc:" in command_line.data:
            return _UNKNOWN  # a kernel's command line may have a configuration, too
        for path in _in_order(root):
            document = _document(root, path)
            if path == _SYSTEM and "conf_d" in document:
                return _UNKNOWN
            # The first that has it decides; one without a value, too.
            if KEY in document:
                return _value(document)
    except (FileError, ValueError, RecursionError, ImportError, Unbounded):
        return _UNKNOWN
    return None


def _in_order(root: Path) -> Iterator[str]:
    """The files that a configuration is merged of, the one that wins first."""
    yield _USER_DATA
    yield "/var/lib/cloud/instance/vendor2-cloud-config.txt"
    yield "/var/lib/cloud/instance/vendor-cloud-config.txt"
    yield "/run/cloud-init/cloud.cfg"
    names = [name for name in list_names(root, _DROP_INS) if name.endswith(".cfg")]
    yield from (f"{_DROP_INS}/{name}" for name in sorted(names, reverse=True))
    yield _SYSTEM


def _document(root: Path, path: str) -> Any:
    file = read_file(root, path)
    if file is None:
        return {}
    try:
        value = Yaml(file.data.decode("utf-8"), 0).whole()
    except Unreadable:
        return {}  # cloud-init drops it, too
    return value if isinstance(value, dict) else {}


def _value(document: Any) -> Any:
    return document.get(KEY) if isinstance(document, dict) else None
