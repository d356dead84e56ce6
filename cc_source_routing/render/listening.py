"""Socket units that listen to kernel messages (rtnetlink(7)): the parts they share.

Each starts the service of the same name.  systemd fails a socket whose buffer the kernel
has overrun, so another unit opens it again and runs an apply for the lost messages.
"""

from __future__ import annotations

from ..model import ConfigFile
from .common import render_template

# linux/rtnetlink.h
RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR = 0x1, 0x10, 0x100
RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE = 0x40, 0x400
RTMGRP_IPV4_RULE, RTMGRP_IPV6_RULE = 0x80, 1 << (19 - 1)  # RTNLGRP_IPV6_RULE is 19

BUFFER = "32M"  # bytes; 28 NICs with a route to each other are 1600 messages of 2 KB


def listening_files(socket: str, groups: int, what: str) -> tuple[ConfigFile, ...]:
    """The unit `socket`, which listens to `groups` (for `what`), and the unit that reopens it."""
    path, again_path = listening_paths(socket)
    again = again_path.rpartition("/")[2]
    content = render_template(
        "listening.socket.j2", groups=groups, what=what, again=again, buffer=BUFFER
    )
    return (
        ConfigFile(path, content),
        ConfigFile(again_path, render_template("listen-again.service.j2", socket=socket)),
    )


def listening_paths(socket: str) -> tuple[str, str]:
    """The paths of those two units."""
    path = f"/etc/systemd/system/{socket}"
    return path, path.replace(".socket", "-again.service")
