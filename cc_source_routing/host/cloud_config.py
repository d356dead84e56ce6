"""Whether cloud-init's configuration of this boot still has the stanza that was once applied.

A stanza that disappears from user-data removes nothing: source routing stays on, and the user gets
a warning.  This module reads the files that cloud-init leaves, most of which only root can read.
Where they do not answer the question, the answer is "unknown".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import FileError, StanzaError
from ..files.read import list_names, read_file
from ..stanza import KEY

# The merged configuration of this boot, by cloud-init itself (stages.py, consume_data); 25.1 writes
# it, 22.4 does not.
_COMBINED = "/run/cloud-init/combined-cloud-config.json"
# Written at the end of the boot's last stage.
_RESULT = "/run/cloud-init/result.json"
# In older releases the parts of that configuration.  cloud-init writes this file at each boot, even
# if it is empty.
_USER_DATA = "/var/lib/cloud/instance/cloud-config.txt"
_SYSTEM = "/etc/cloud/cloud.cfg"
_DROP_INS = "/etc/cloud/cloud.cfg.d"
_COMMAND_LINE = "/proc/cmdline"
_UNKNOWN = object()


def still_asked(root: Path) -> bool | None:
    """Whether the configuration of this boot has the stanza; None if that is unknown."""
    value = _present(root)
    return None if value is _UNKNOWN else value is not None


def is_disabled(root: Path) -> bool:
    """Whether the configuration of this boot disables source routing."""
    value = _present(root)
    return value is False or (isinstance(value, dict) and value.get("enabled") is False)


def _present(root: Path) -> Any:
    """The key's value, None if it is absent or empty; `_UNKNOWN` if that cannot be determined.

    Where several documents are merged, this is the value in the one with the highest precedence,
    without the parts that it inherits from the others.
    """
    try:
        combined = read_file(root, _COMBINED)
        if combined is not None:
            return _value(json.loads(combined.data))
        if read_file(root, _RESULT) is None or read_file(root, _USER_DATA) is None:
            return _UNKNOWN  # cloud-init has not run, or has not finished
        command_line = read_file(root, _COMMAND_LINE)
        if command_line is not None and b"cc:" in command_line.data:
            return _UNKNOWN  # the kernel command line may contain a configuration
        for path in _in_order(root):
            document = _document(root, path)
            if path == _SYSTEM and "conf_d" in document:
                return _UNKNOWN
            # The first document that has the key decides, even if its value is empty.
            if KEY in document:
                return _value(document)
    except (FileError, ValueError, RecursionError, ImportError):
        return _UNKNOWN
    return None


def _in_order(root: Path) -> Iterator[str]:
    """The files that cloud-init merges, highest precedence first."""
    yield _USER_DATA
    yield "/var/lib/cloud/instance/vendor2-cloud-config.txt"
    yield "/var/lib/cloud/instance/vendor-cloud-config.txt"
    yield "/run/cloud-init/cloud.cfg"
    names = [name for name in list_names(root, _DROP_INS) if name.endswith(".cfg")]
    yield from (f"{_DROP_INS}/{name}" for name in sorted(names, reverse=True))
    yield _SYSTEM


def _document(root: Path, path: str) -> Any:
    from ..stanza.yaml_document import Yaml

    file = read_file(root, path)
    if file is None:
        return {}
    try:
        value = Yaml(file.data.decode("utf-8"), 0).whole()
    except StanzaError:
        return {}  # cloud-init ignores it, too
    return value if isinstance(value, dict) else {}


def _value(document: Any) -> Any:
    return document.get(KEY) if isinstance(document, dict) else None
