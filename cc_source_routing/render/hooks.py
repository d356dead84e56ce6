"""The shell code that the hooks of all network managers share, and its data for each NIC.

Pure except for `hook_paths` and `existing`.  ``hook.sh`` is sourced by a small script
for each manager; a file for each NIC holds what the hook replays without Python.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..files.read import list_names
from ..files.write import leftovers, target_name
from ..model import ADVERTISED, ConfigFile, IPAddress, PlannedNic, RoutingPlan
from ..text.names import id_fault
from .common import batch_down, batch_up, render_template, safe_name

DIRECTORY = "/etc/source-routing"
HOOK_PATH = f"{DIRECTORY}/hook.sh"
NICS_PATH = f"{DIRECTORY}/nics"

# A network event cannot change gateways from these sources, so the hook does not compare them.
SETTLED_SOURCES = ("stanza", "metadata")
ANY_GATEWAY = "any"


def hook_files(plan: RoutingPlan) -> tuple[ConfigFile, ...]:
    """``hook.sh`` and a file for each NIC.

    An empty plan gives only the hook: it starts an apply when the first NIC comes up,
    which nothing else would do.
    """
    return (
        ConfigFile(HOOK_PATH, render_template("hook.sh.j2", nics=NICS_PATH)),
        *(ConfigFile(f"{NICS_PATH}/{safe_name(nic.name)}", _nic(plan, nic)) for nic in plan.nics),
    )


def hook_paths(root: Path) -> tuple[str, ...]:
    """Paths that any run of `hook_files` may have written below `root`."""
    names = dict.fromkeys(map(target_name, list_names(root, NICS_PATH)))
    return (HOOK_PATH, *(f"{NICS_PATH}/{name}" for name in names if not id_fault(name)))


def existing(root: Path, paths: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `paths` that exist, if only as the temporary file of a killed writer."""
    return tuple(
        path for path in paths if os.path.lexists(root / path.lstrip("/")) or leftovers(root, path)
    )


def _nic(plan: RoutingPlan, nic: PlannedNic) -> str:
    return render_template(
        "nic.j2",
        addresses=[str(address) for address in nic.addresses],
        gateways={family: _gateway(nic, family) for family in (4, 6)},
        up={family: batch_up(plan, nic, family) for family in (4, 6)},
        down={family: batch_down(plan, nic, family) for family in (4, 6)},
        advertised=_advertised(nic),
        outlived=[str(ip) for ip in _outlived(nic)],
        rp_filter="" if plan.rp_filter is None else plan.rp_filter,
    )


def _advertised(nic: PlannedNic) -> str:
    gateway = nic.gateway(6)
    return "6" if gateway is not None and gateway.source == ADVERTISED else ""


def _outlived(nic: PlannedNic) -> tuple[IPAddress, ...]:
    gateway = nic.gateway(4)
    return () if gateway is None else gateway.outlived


def _gateway(nic: PlannedNic, family: int) -> str:
    gateway = nic.gateway(family)
    if gateway is None:
        return ""
    return ANY_GATEWAY if gateway.source in SETTLED_SOURCES else str(gateway.ip)
