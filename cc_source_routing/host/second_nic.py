"""A server with one NIC, to which a second one may come any day.

There is nothing to route, but the stanza is kept, and a socket unit of the package
listens for new links (``source-routing-second-nic.socket``): it is switched on by
`WAITING_PATH` alone, and costs no process.  At each boot cloud-init hands the same stanza
over again, so what was kept is compared with that before anything else is imported.
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
"""What cloud-init's handler was given when there was one NIC; empty by the command."""

UNIT = "source-routing-second-nic.socket"
UNIT_PATH = f"/usr/lib/systemd/system/{UNIT}"
START = ("systemctl", "--no-block", "start", UNIT)
STOP = ("systemctl", "--no-block", "stop", UNIT)


def is_waiting(root: Path) -> bool:
    """Whether the last run found one NIC, and kept the stanza for a second one."""
    return _noted(root) is not None


def note(value: Any) -> str:
    """What `WAITING_PATH` holds for a stanza as cloud-init gives it."""
    return json.dumps(value, sort_keys=True, default=str) + "\n"


def is_known(root: Path, value: Any) -> bool:
    """Whether `value` is what has been kept already."""
    return _noted(root) == note(value)


def files(root: Path, is_same: bool) -> tuple[ConfigFile, ...]:
    """What switches the listening on; what is noted stays for the same stanza as before."""
    from ..model import ConfigFile

    return (ConfigFile(WAITING_PATH, _noted(root) or "" if is_same else ""),)


def after(written: tuple[str, ...], removed: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """The commands that begin or end the listening; systemd finds out by itself at a boot."""
    if not Path(UNIT_PATH).exists():  # installed without its units, by pip alone
        return ()
    if WAITING_PATH in written:
        return (START,)
    return (STOP,) if WAITING_PATH in removed else ()


def keep(root: Path, value: Any) -> list[str]:
    """Save the stanza `value` as cloud-init gives it and begin to listen; the kernel is not read.

    Returns what failed; raises `StanzaError` for one that is wrong, and saves nothing then.
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
