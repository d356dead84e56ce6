"""The event path from the kernel itself, for managers that do not tell of everything.

NetworkManager runs no script when somebody sets a link down and up, nor when
a router advertisement brings an address to a NIC that is up already.  A socket
unit listens to the kernel's own messages on links and addresses (rtnetlink(7))
and starts a script that replays the known NICs: no resident process of ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Tuple

from ..model import OUR_GROUP, OUR_PROTOCOL, ConfigFile
from .common import render_template
from .hooks import HOOK_PATH, existing

SOCKET_UNIT = "source-routing-link.socket"
SERVICE_UNIT = "source-routing-link.service"
SOCKET_PATH = f"/etc/systemd/system/{SOCKET_UNIT}"
SERVICE_PATH = f"/etc/systemd/system/{SERVICE_UNIT}"
SCRIPT_PATH = "/etc/source-routing/link-event"

# linux/rtnetlink.h
RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR = 0x1, 0x10, 0x100

# Begins to listen at once, without waiting for anything: for an apply that has
# just written these files into a running system.
START = ("systemctl", "--no-block", "start", SOCKET_UNIT)
STOP = ("systemctl", "--no-block", "stop", SOCKET_UNIT)


def link_event_files(manager: str) -> Tuple[ConfigFile, ...]:
    """The units and their script; the service `manager` has them started."""
    return (
        ConfigFile(
            SCRIPT_PATH,
            render_template(
                "link-event.j2", hook=HOOK_PATH, group=OUR_GROUP, protocol=OUR_PROTOCOL
            ),
            0o755,
        ),
        ConfigFile(
            SOCKET_PATH,
            render_template(
                "link-event.socket.j2",
                groups=RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR,
            ),
        ),
        ConfigFile(SERVICE_PATH, render_template("link-event.service.j2", script=SCRIPT_PATH)),
        ConfigFile(_wants_path(manager), render_template("wants.j2", units=SOCKET_UNIT)),
    )


def owned_link_events(root: Path, manager: str) -> Tuple[str, ...]:
    return existing(root, (SCRIPT_PATH, SOCKET_PATH, SERVICE_PATH, _wants_path(manager)))


def is_link_event_unit(path: str) -> bool:
    return path in (SOCKET_PATH, SERVICE_PATH)


def _wants_path(manager: str) -> str:
    # A drop-in instead of a link in a .wants directory: it goes as the manager goes.
    return f"/etc/systemd/system/{manager}.d/50-source-routing.conf"
