"""The event path under networkd: ``source-routing apply`` after each of its changes.

networkd runs no hooks.  It rewrites its state files whenever a link or a lease
changes, so a path unit watches those directories, and a script waits for the links to
settle and runs an apply.  There is no resident process, and no networkd-dispatcher,
which most images lack.

The script reconfigures a NIC in the state ``failed``: when a link is reconfigured
under load, 252 sets a route before the address that it needs, and then leaves the NIC
without its lease for good.  It also reconfigures a NIC whose leased address is gone.
When 252 drops a lease whose address it has not set yet, it waits forever for that
address's removal, through every reconfiguration, and never sets it again: then the
script adds the address and deletes it, so that networkd sees the removal.

When addresses are only lost the script waits a little: while a link flaps, no plan must
be made without it.

A drop-in of networkd's unit wants the path unit: that needs no link in a .wants
directory, and starts the path unit only where networkd is started.
"""

from __future__ import annotations

from pathlib import Path

from ..model import ConfigFile
from . import router_events
from .common import render_template
from .hooks import existing

PATH_UNIT = "source-routing-networkd.path"
SERVICE_UNIT = "source-routing-networkd.service"
PATH_PATH = f"/etc/systemd/system/{PATH_UNIT}"
SERVICE_PATH = f"/etc/systemd/system/{SERVICE_UNIT}"
WANTS_PATH = "/etc/systemd/system/systemd-networkd.service.d/50-source-routing.conf"
SCRIPT_PATH = "/etc/source-routing/networkd-event"

WANTED = (PATH_UNIT, SERVICE_UNIT, router_events.SOCKET_UNIT)

# Starts the watch at once, without blocking: for an apply that has just written these
# files on a running system.
START = ("systemctl", "--no-block", "start", PATH_UNIT, router_events.SOCKET_UNIT)
STOP = ("systemctl", "--no-block", "stop", PATH_UNIT, router_events.SOCKET_UNIT)


def event_files() -> tuple[ConfigFile, ...]:
    return (
        ConfigFile(
            SCRIPT_PATH,
            render_template(
                "networkd-event.j2", router_event=router_events.SCRIPT_PATH, service=SERVICE_UNIT
            ),
            0o755,
        ),
        ConfigFile(PATH_PATH, render_template("networkd-event.path.j2")),
        ConfigFile(SERVICE_PATH, render_template("networkd-event.service.j2", script=SCRIPT_PATH)),
        ConfigFile(WANTS_PATH, render_template("wants.j2", units=" ".join(WANTED))),
        *router_events.router_event_files(SERVICE_UNIT),
    )


def is_event_unit(path: str) -> bool:
    return path in (PATH_PATH, SERVICE_PATH, router_events.SOCKET_PATH)


def owned_events(root: Path) -> tuple[str, ...]:
    """Those of our event files that exist."""
    paths = (SCRIPT_PATH, PATH_PATH, SERVICE_PATH, WANTS_PATH, *router_events.PATHS)
    return existing(root, paths)
