"""Load a stanza from a file: user-data of any type, a cloud.cfg.d drop-in, or bare options.

cloud-init determines the type of a user-data file by its first line (its ``user_data.py``
and "User-data formats" in its documentation).  This module does the same for one file, and
reports when cloud-init would ignore or drop it.  It validates only the stanza, not the rest
of a cloud-config.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import Fault, FileError, StanzaError, stanza_error
from ..model import Stanza
from ..text.names import shown
from . import KEY, parts
from .gathering import Gathering
from .yaml_document import Yaml

_NEAR_HEADER = re.compile(r"^\s*#.*cloud.?conf", re.IGNORECASE | re.MULTILINE)
# The types, as cloud-init determines them, that contain no stanza.
_OTHER_KINDS = {
    "text/x-shellscript": "is a script",
    "text/cloud-boothook": "is a boothook",
    parts.PART_HANDLER: "is a part handler",
    **dict.fromkeys(parts.INCLUDES, "is a list of URLs, whose content cannot be known here"),
}

# A mapping without a header is a bare stanza unless it has one of these.
_CONFIG_KEYS = frozenset(
    f"""{KEY} << apt autoinstall bootcmd chpasswd cloud_config_modules cloud_final_modules
    cloud_init_modules datasource datasource_list disable_root disk_setup final_message fqdn
    fs_setup groups growpart hostname locale manage_etc_hosts merge_how mounts network ntp output
    package_update package_upgrade packages password phone_home power_state preserve_hostname
    random_seed resize_rootfs resolv_conf rsyslog runcmd snap ssh ssh_authorized_keys ssh_pwauth
    swap system_info timezone user users vendor_data version wireguard write_files yum_repos zypper
    """.split()
)


@dataclass(frozen=True)
class LoadedStanza:
    """The content of a file; `stanza` is None if it has no ``source_routing`` key."""

    path: str
    stanza: Stanza | None
    kind: str  # user-data, a drop-in valid only in cloud.cfg.d, or a bare stanza
    warnings: tuple[str, ...]
    handed: Any = None
    """The key's value as cloud-init passes it to the module, if this file is its only input."""
    unknown: tuple[str, ...] = ()
    """Reasons why that value is unknown from this file alone; empty if it is known."""


def load_stanza_file(path: str | Path) -> LoadedStanza:
    """Read a file of user-data, a drop-in of cloud.cfg.d, or the bare options of a stanza.

    Raises `FileError` if it cannot be read and `StanzaError` for any fault in its content.
    """
    name = str(path) if str(path).isprintable() else shown(str(path))
    try:
        with open(path, "rb") as stream:
            data = stream.read(parts.MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(f"{name}: cannot be read: {reason}") from None
    gathering = Gathering()
    try:
        kind = _gather(gathering, parts.text_of(data))
        stanza = gathering.stanza()
    except StanzaError as error:
        raise StanzaError(error.faults, name) from None
    except RecursionError:
        raise StanzaError([Fault("", "is nested too deeply")], name) from None
    handed = None if stanza is None or kind == "stanza" else gathering.value
    unknown = tuple(dict.fromkeys(gathering.unknown))
    return LoadedStanza(name, stanza, kind, tuple(gathering.warnings), handed, unknown)


def _gather(gathering: Gathering, text: str) -> str:
    """Gather the stanza from all parts of the file; returns the kind of file."""
    kind = parts.kind_of(text)
    if parts.is_mime(text):
        for part in parts.of_mime(text):
            gathering.take(part)
        if not gathering.documents and not gathering.unknown:
            gathering.warnings.append("no part of this MIME file is a cloud-config")
    elif re.match(r"\s*content-type: *multipart/", text, re.IGNORECASE):
        warning = "has no MIME-Version header: cloud-init ignores this as user-data"
        gathering.warnings.append(warning)
    elif kind == parts.UNKNOWN:
        return _gather_plain(gathering, text)
    elif kind in _OTHER_KINDS:
        raise stanza_error(f"{_OTHER_KINDS[kind]}; it is no cloud-config", 1)
    else:
        gathering.take(parts.Part(text, kind))
        if kind == parts.TEMPLATE and not gathering.documents:
            message = "is a Jinja template that cannot be checked before cloud-init has rendered it"
            hint = "run `cloud-init devel render` on the server and check what it prints"
            raise stanza_error(f"{message}; {hint}", 1)
        if kind == parts.TEMPLATE:
            warning = "is a Jinja template; its stanza has no expressions and was checked"
            gathering.warnings.append(warning)
    return "user-data"


def _gather_plain(gathering: Gathering, text: str) -> str:
    """Gather from a file that is not user-data: a drop-in of cloud.cfg.d, or bare options."""
    document = Yaml(text, 0)
    if document.is_empty:
        raise stanza_error(f"is empty; it needs at least a line such as {KEY}: true")
    if _CONFIG_KEYS.isdisjoint(document.keys):
        gathering.take_options(document)
        return "stanza"
    if KEY in document.keys and (len(document.keys) > 1 or _NEAR_HEADER.search(text)):
        gathering.warnings.append(
            "the first line must be #cloud-config and nothing else, else cloud-init ignores this "
            "as user-data (a file in cloud.cfg.d needs none)"
        )
    gathering.take_config(document, parts.Part(text, parts.CONFIG))
    return "drop-in"
