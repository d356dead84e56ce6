"""The shell code that the hooks share, and the lines of each NIC that they replay.

Pure except for `hook_paths` and `existing`.  ifupdown's hooks replay a NIC's lines at once,
without Python, so that ``ifup`` returns with routes, and have `source-routing follow` look,
which decides.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..files.read import list_names
from ..files.write import leftovers, target_name
from ..model import ConfigFile, PlannedNic, RoutingPlan
from ..text.names import id_fault
from .common import batch_down, batch_up, render_template, safe_name

DIRECTORY = "/etc/source-routing"
HOOK_PATH = f"{DIRECTORY}/hook.sh"
NICS_PATH = f"{DIRECTORY}/nics"


def hook_files(plan: RoutingPlan) -> tuple[ConfigFile, ...]:
    """``hook.sh`` and a file for each NIC.

    An empty plan gives only the hook, which has the first NIC looked at when it comes up.
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
        up={family: batch_up(plan, nic, family) for family in (4, 6)},
        down={family: batch_down(plan, nic, family) for family in (4, 6)},
        rp_filter="" if plan.rp_filter is None else plan.rp_filter,
    )
