"""The event path from the kernel, for managers that do not report every event.

ifupdown runs its hooks only when it configures a NIC itself.  NetworkManager runs no
script when another program sets a link down and up.  Neither runs one when a router
advertisement brings an address, or when a router withdraws.  A socket unit listens to
kernel messages on links, addresses, routes and rules (rtnetlink(7)) and starts a script
that replays the known NICs; there is no resident process.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..model import OUR_GROUP, OUR_PROTOCOL, ConfigFile
from .common import render_template
from .hooks import HOOK_PATH, existing
from .listening import (
    RTMGRP_IPV4_IFADDR,
    RTMGRP_IPV4_ROUTE,
    RTMGRP_IPV4_RULE,
    RTMGRP_IPV6_IFADDR,
    RTMGRP_IPV6_ROUTE,
    RTMGRP_IPV6_RULE,
    RTMGRP_LINK,
    listening_files,
    listening_paths,
)

SOCKET_UNIT = "source-routing-link.socket"
SERVICE_UNIT = "source-routing-link.service"
SOCKET_PATH, AGAIN_PATH = listening_paths(SOCKET_UNIT)
SERVICE_PATH = f"/etc/systemd/system/{SERVICE_UNIT}"
SCRIPT_PATH = "/etc/source-routing/link-event"
GROUPS = (
    RTMGRP_LINK
    | RTMGRP_IPV4_IFADDR
    | RTMGRP_IPV6_IFADDR
    # A router that withdraws, another router that is preferred, and the flush of a table
    # change only routes; the flush of rules changes only rules.
    | RTMGRP_IPV4_ROUTE
    | RTMGRP_IPV6_ROUTE
    | RTMGRP_IPV4_RULE
    | RTMGRP_IPV6_RULE
)

# Starts listening at once, without blocking: for an apply that has just written these
# files on a running system.
START = ("systemctl", "--no-block", "start", SOCKET_UNIT)
STOP = ("systemctl", "--no-block", "stop", SOCKET_UNIT)


# In the shell the replay of a NIC takes about 0.1 s; an apply of any number about 0.7 s.
MANY_NICS = 8


def link_event_files(manager: str) -> tuple[ConfigFile, ...]:
    """The units and their script; a drop-in of the service `manager` wants the units."""
    return (
        ConfigFile(
            SCRIPT_PATH,
            render_template(
                "link-event.j2",
                hook=HOOK_PATH,
                protocol=OUR_PROTOCOL,
                group=OUR_GROUP,
                many=MANY_NICS,
            ),
            0o755,
        ),
        *listening_files(SOCKET_UNIT, GROUPS, "links and addresses"),
        ConfigFile(SERVICE_PATH, render_template("link-event.service.j2", script=SCRIPT_PATH)),
        # The service also runs once at each boot: changes made while the server was off
        # give no event.
        ConfigFile(
            _wants_path(manager),
            render_template("wants.j2", units=f"{SOCKET_UNIT} {SERVICE_UNIT}"),
        ),
    )


def owned_link_events(root: Path, manager: str) -> tuple[str, ...]:
    return existing(
        root, (SCRIPT_PATH, SOCKET_PATH, SERVICE_PATH, AGAIN_PATH, _wants_path(manager))
    )


def listening(written: Iterable[str], removed: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """The commands that start or stop the socket after these files were written or removed."""
    units = (SOCKET_PATH, SERVICE_PATH)
    return (
        *((START,) if any(path in units for path in written) else ()),
        *((STOP,) if any(path in units for path in removed) else ()),
    )


def _wants_path(manager: str) -> str:
    # A drop-in, not a link in a .wants directory: it takes effect only where the manager runs.
    return f"/etc/systemd/system/{manager}.d/50-source-routing.conf"
