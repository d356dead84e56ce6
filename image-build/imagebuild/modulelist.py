"""Write the drop-in that adds our module to the image's own list of the network stage.

Part of the installer, and shipped to images beside `register`: the standard
library alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MODULE = "source_routing"
CONFD = "/etc/cloud/cloud.cfg.d"
# The names sort after the numbers that distributions and tools use, so that none of
# their drop-ins replaces our list unnoticed.
MODULES_DROP_IN = "95_source_routing.cfg"
DEFAULT_DROP_IN = "96_source_routing_default.cfg"

# Each list of the network stage has one of these; a list without them is another one.
_ANCHORS = frozenset({"users_groups", "ssh", "set_hostname"})

_HEADER = """\
# Written by /usr/lib/source-routing/register: run that again rather than editing this.
#
# cloud-init replaces the whole list by what a drop-in says, so this is the image's own
# list with source_routing added.  It stands last: by then everything that other modules
# of this stage set up (users, SSH keys) is done, and no fault here can cost it.
cloud_init_modules:
"""


class RegistrationError(Exception):
    """The module cannot be registered with the installed cloud-init; one sentence."""


def drop_in(entries: Any) -> str | None:
    """The image's own list with our module appended; None if it is already listed."""
    if not isinstance(entries, list) or not entries:
        raise RegistrationError("the cloud-init configuration has no cloud_init_modules")
    names = [name(entry) for entry in entries]
    if MODULE in names:
        return None
    if not _ANCHORS & set(names):
        raise RegistrationError(
            "cloud_init_modules is not the list of a network stage, it has none of "
            f"{', '.join(sorted(_ANCHORS))}: {', '.join(names)}"
        )
    # JSON is valid YAML, with the necessary quotes.
    lines = [f"  - {json.dumps(entry)}\n" for entry in [*entries, MODULE]]
    return _HEADER + "".join(lines)


def name(entry: Any) -> str:
    """A module's name from any form that cloud-init accepts: str, list or mapping."""
    if isinstance(entry, Mapping):
        entry = entry.get("name", entry.get("mod", ""))
    elif isinstance(entry, list):
        entry = entry[0] if entry else ""
    text = str(entry).strip().lower().replace("-", "_")
    text = text[:-3] if text.endswith(".py") else text
    return text[3:] if text.startswith("cc_") else text
