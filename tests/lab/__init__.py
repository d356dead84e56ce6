"""A lab of network namespaces: real packets between a server, its networks and the world.

``Lab`` owns namespaces and always removes them; ``Cloud`` builds in them the topology
of a server with several ports; `probes` sends packets; `snapshot` compares two states
of a namespace; `command` runs the command under test, `follower` what goes on in the
background; `disks` fills disks; `needs` names what a test lacks; `waiting` waits for
conditions.
Nothing here touches the namespace of the host.
"""

from __future__ import annotations

from .cloud import Cloud, Nic, nics_in_own_subnets, seed_nics
from .command import Driver, Files, Result, SourceRouting, be_instance, files_below
from .disks import begun, fill, little_disk, torn
from .follower import Follower, SocketUnit, flush_rules, following
from .monitor import Monitor
from .needs import demand, missing_for_lab
from .netns import Lab, LabError
from .probes import Ping, UdpEcho, pings, route_get, rules_without_a_default
from .snapshot import Snapshot, snapshot
from .waiting import PATIENCE_SECONDS, comes_true, wait_until

__all__ = [
    "Cloud",
    "Driver",
    "Files",
    "Follower",
    "Lab",
    "LabError",
    "Monitor",
    "Nic",
    "PATIENCE_SECONDS",
    "Ping",
    "Result",
    "Snapshot",
    "SocketUnit",
    "SourceRouting",
    "UdpEcho",
    "be_instance",
    "begun",
    "comes_true",
    "demand",
    "files_below",
    "fill",
    "flush_rules",
    "following",
    "little_disk",
    "missing_for_lab",
    "nics_in_own_subnets",
    "pings",
    "route_get",
    "rules_without_a_default",
    "seed_nics",
    "snapshot",
    "torn",
    "wait_until",
]
