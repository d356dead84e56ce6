"""A server with one NIC, which may get a second one at any time.

There is nothing to route yet, but the stanza is saved, and a socket unit of the package
(``source-routing-second-nic.socket``) listens for new links.  The existence of `WAITING_PATH`
enables it, and no process runs.  At each boot cloud-init passes the same stanza again, so the
module compares it with the saved one before it imports anything else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FileError
from ..files.read import read_file

if TYPE_CHECKING:
    from ..model import ConfigFile

WAITING_PATH = "/etc/source-routing/one-nic"
"""The stanza that cloud-init's handler got with one NIC; empty if the command wrote the file."""

UNIT = "source-routing-second-nic.socket"
UNIT_PATH = f"/usr/lib/systemd/system/{UNIT}"
START = ("systemctl", "--no-block", "start", UNIT)
STOP = ("systemctl", "--no-block", "stop", UNIT)


def is_waiting(root: Path) -> bool:
    """Whether the last run found one NIC and saved the stanza for a second one."""
    return _noted(root) is not None


def note(value: Any) -> str:
    """The content of `WAITING_PATH` for a stanza as cloud-init passes it."""
    return json.dumps(value, sort_keys=True, default=str) + "\n"


def is_known(root: Path, value: Any) -> bool:
    """Whether `value` is the stanza that is already saved."""
    return _noted(root) == note(value)


def files(root: Path, is_same: bool) -> tuple[ConfigFile, ...]:
    """The file that enables the socket; for the same stanza as before its content stays."""
    from ..model import ConfigFile

    return (ConfigFile(WAITING_PATH, _noted(root) or "" if is_same else ""),)


def after(written: tuple[str, ...], removed: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """The commands that start or stop the socket; at a boot systemd decides by the file."""
    if not Path(UNIT_PATH).exists():  # installed without its units, by pip alone
        return ()
    if WAITING_PATH in written:
        return (START,)
    return (STOP,) if WAITING_PATH in removed else ()


def keep(root: Path, value: Any) -> list[str]:
    """Save a stanza as cloud-init passes it and start the socket, without reading the kernel.

    Returns what failed; raises `StanzaError` for an invalid stanza, and saves nothing then.
    """
    from ..files.notify import notify
    from ..files.write import lock, write_files
    from ..model import ConfigFile
    from ..stanza.parse import parse_stanza
    from .saved_stanza import saved_files

    stanza = parse_stanza(value)
    with lock(root):
        wanted = (*saved_files(root, stanza), ConfigFile(WAITING_PATH, note(value)))
        changes = write_files(root, wanted, ())
        return notify(root, after(changes.written, changes.removed))


def _noted(root: Path) -> str | None:
    try:
        found = read_file(root, WAITING_PATH)
    except FileError:
        return None
    return None if found is None else found.data.decode("utf-8", "replace")
