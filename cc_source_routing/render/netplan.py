"""netplan: each device is configured by one of its backends, networkd or NetworkManager.

Why not netplan's own keys: ``routing-policy`` has no suppressors and ``routes`` no
protocol (netplan-yaml(5)), so half of the plan would have to be written elsewhere anyway,
and two places that must agree are worse than one.  Also, the YAML belongs to cloud-init
or to the user, and both rewrite it.

The backend of a device, and its netplan id, are read from the files that netplan has
generated and networkd uses (``10-netplan-ID.network``), not from the YAML: that is
merged from many files, and an id need not be the interface's name.  The drop-ins go to
/etc, since ``netplan generate`` empties its directories in /run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from ..model import ConfigFile, RoutingPlan
from . import Evidence, network_manager, networkd
from .evidence import names, program, unit
from .networkd_files import interface_index

# By ascending priority, netplan(5).
YAML_DIRECTORIES = ("/usr/lib/netplan", "/lib/netplan", "/etc/netplan", "/run/netplan")


@dataclass(frozen=True)
class Facts:
    """The facts of each backend's renderer; None if not installed, or masked."""

    networkd: networkd.Facts | None = None
    network_manager: network_manager.Facts | None = None


def available(root: Path) -> Evidence:
    binary = program(root, "netplan")
    if binary is None:
        return Evidence(False, "no netplan in usr/sbin")
    for directory in YAML_DIRECTORIES:
        for name in names(root, directory):
            if name.endswith(".yaml"):
                return Evidence(True, f"{binary[1:]} is there and {directory[1:]}/{name}")
    # An image: cloud-init writes the YAML on the first boot, unless it finds ifupdown.
    if program(root, "ifup"):
        return Evidence(False, f"{binary[1:]} is there but no etc/netplan/*.yaml, and ifup is too")
    return Evidence(True, f"{binary[1:]} is there, to be configured by cloud-init")


def inspect(
    root: Path,
    plan: RoutingPlan,
    index_of: Callable[[str], int | None] = interface_index,
) -> Facts:
    by_networkd = program(root, "systemd-networkd") and not unit(root, networkd.SERVICE).masked
    by_manager = program(root, "NetworkManager") and not unit(root, network_manager.SERVICE).masked
    return Facts(
        networkd.inspect(root, plan, index_of) if by_networkd else None,
        network_manager.inspect(root, plan) if by_manager else None,
    )


def render(plan: RoutingPlan, facts: Facts) -> tuple[ConfigFile, ...]:
    files: dict[str, ConfigFile] = {}
    if facts.networkd is not None:
        files.update((file.path, file) for file in networkd.render(plan, facts.networkd))
    if facts.network_manager is not None:
        rendered = network_manager.render(plan, facts.network_manager)
        files.update((file.path, file) for file in rendered)
    return tuple(files.values())


def owned(root: Path) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*networkd.owned(root), *network_manager.owned(root))))


def warnings(plan: RoutingPlan, facts: Facts) -> tuple[str, ...]:
    found: tuple[str, ...] = ()
    if facts.networkd is not None:
        # NetworkManager, if present, configures the devices without a .network file.
        found += networkd.warnings(plan, facts.networkd, others=facts.network_manager is not None)
    if facts.network_manager is not None:
        found += network_manager.warnings(plan, facts.network_manager)
    return found


def after(written: Iterable[str], removed: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    new, gone = tuple(written), tuple(removed)
    return (*networkd.after(new, gone), *network_manager.after(new, gone))
