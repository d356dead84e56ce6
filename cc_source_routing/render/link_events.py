"""The event path from the kernel itself, for managers that do not tell of everything.

ifupdown runs its hooks when it configures a NIC itself and at no other time;
NetworkManager runs no script when somebody sets a link down and up, and neither
does when a router advertisement brings an address or a router goes.  A socket
unit listens to the kernel's own messages on links, addresses, routes and rules
(rtnetlink(7)) and starts a script that replays the known NICs: no resident
process of ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterable, Tuple

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
    # A router that says goodbye or another that is preferred changes routes alone,
    # and so does who flushes a table; and who flushes rules changes them alone.
    | RTMGRP_IPV4_ROUTE
    | RTMGRP_IPV6_ROUTE
    | RTMGRP_IPV4_RULE
    | RTMGRP_IPV6_RULE
)

# Begins to listen at once, without waiting for anything: for an apply that has
# just written these files into a running system.
START = ("systemctl", "--no-block", "start", SOCKET_UNIT)
STOP = ("systemctl", "--no-block", "stop", SOCKET_UNIT)


# A replay takes the shell some 0.1 s, an apply of any number of NICs some 0.7 s.
MANY_NICS = 8


def link_event_files(manager: str) -> Tuple[ConfigFile, ...]:
    """The units and their script; the service `manager` has them started."""
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
        # Once at each boot too: what happened while the server was off gives no event.
        ConfigFile(
            _wants_path(manager),
            render_template("wants.j2", units=f"{SOCKET_UNIT} {SERVICE_UNIT}"),
        ),
    )


def owned_link_events(root: Path, manager: str) -> Tuple[str, ...]:
    return existing(
        root, (SCRIPT_PATH, SOCKET_PATH, SERVICE_PATH, AGAIN_PATH, _wants_path(manager))
    )


def listening(written: Iterable[str], removed: Iterable[str]) -> Tuple[Tuple[str, ...], ...]:
    """The commands that begin or end it after these files were written or removed."""
    units = (SOCKET_PATH, SERVICE_PATH)
    return (
        *((START,) if any(path in units for path in written) else ()),
        *((STOP,) if any(path in units for path in removed) else ()),
    )


def _wants_path(manager: str) -> str:
    # A drop-in instead of a link in a .wants directory: it goes as the manager goes.
    return f"/etc/systemd/system/{manager}.d/50-source-routing.conf"
