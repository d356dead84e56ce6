"""Events that networkd's state files do not show: a socket unit beside its path unit.

The state files do not record that a router withdraws, that it is no longer heard, that
another router is preferred, or that an address has passed duplicate address detection;
and networkd does not restore rules and routes that another program flushes.  The
script behind the socket compares the routers' advertised state and our rules and routes
with those of its last run.  It starts the service of `networkd_events` if a router
advertises something new or if one of our rules or routes is missing.
"""

from __future__ import annotations

from ..model import OUR_GROUP, OUR_PROTOCOL, OUR_PROTOCOL_NAME, ConfigFile
from .common import render_template
from .listening import (
    RTMGRP_IPV4_ROUTE,
    RTMGRP_IPV4_RULE,
    RTMGRP_IPV6_IFADDR,
    RTMGRP_IPV6_ROUTE,
    RTMGRP_IPV6_RULE,
    RTMGRP_LINK,
    listening_files,
    listening_paths,
)

SOCKET_UNIT = "source-routing-router.socket"
SERVICE_UNIT = "source-routing-router.service"
SOCKET_PATH, AGAIN_PATH = listening_paths(SOCKET_UNIT)
SERVICE_PATH = f"/etc/systemd/system/{SERVICE_UNIT}"
SCRIPT_PATH = "/etc/source-routing/router-event"
PATHS = (SCRIPT_PATH, SOCKET_PATH, SERVICE_PATH, AGAIN_PATH)
GROUPS = (
    RTMGRP_LINK
    | RTMGRP_IPV4_ROUTE
    | RTMGRP_IPV4_RULE
    | RTMGRP_IPV6_IFADDR
    | RTMGRP_IPV6_ROUTE
    | RTMGRP_IPV6_RULE
)


def router_event_files(service: str) -> tuple[ConfigFile, ...]:
    """The units, and their script, which starts `service`."""
    script = render_template(
        "router-event.j2",
        service=service,
        protocol=OUR_PROTOCOL,
        protocol_name=OUR_PROTOCOL_NAME,
        group=OUR_GROUP,
    )
    return (
        ConfigFile(SCRIPT_PATH, script, 0o755),
        *listening_files(SOCKET_UNIT, GROUPS, "routers, routes and rules"),
        ConfigFile(SERVICE_PATH, render_template("router-event.service.j2", script=SCRIPT_PATH)),
    )
