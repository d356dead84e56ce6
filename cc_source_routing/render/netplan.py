"""netplan: what it generates is either networkd's or NetworkManager's, device by device.

Why not netplan's own keys: ``routing-policy`` has no suppressors and ``routes``
no protocol (netplan-yaml(5)), so half of the plan would have to stand
elsewhere all the same; two places that must agree are worse than one.  And its
YAML belongs to cloud-init or to the user, who both rewrite it.

Which of the two a device has, and under which id, is read off what netplan has
generated and networkd uses (``10-netplan-ID.network``), not off the YAML: that
is merged from many files, and an id need not be the interface's name.  The
drop-ins go to /etc, since ``netplan generate`` empties its places in /run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterable, Optional, Tuple

from ..model import ConfigFile, RoutingPlan
from . import Evidence, network_manager, networkd
from .evidence import names, program, unit
from .networkd_files import interface_index

# By rising priority, netplan(5).
YAML_DIRECTORIES = ("/usr/lib/netplan", "/lib/netplan", "/etc/netplan", "/run/netplan")


@dataclass(frozen=True)
class Facts:
    """Facts of those renderers under netplan that the root has; None: not installed."""

    networkd: Optional[networkd.Facts] = None
    network_manager: Optional[network_manager.Facts] = None


def available(root: Path) -> Evidence:
    binary = program(root, "netplan")
    if binary is None:
        return Evidence(False, "no netplan in usr/sbin")
    for directory in YAML_DIRECTORIES:
        for name in names(root, directory):
            if name.endswith(".yaml"):
                return Evidence(True, f"{binary[1:]} is there and {directory[1:]}/{name}")
    # An image: on its first boot cloud-init writes the YAML, unless it finds ifupdown.
    if program(root, "ifup"):
        return Evidence(False, f"{binary[1:]} is there but no etc/netplan/*.yaml, and ifup is too")
    return Evidence(True, f"{binary[1:]} is there, to be configured by cloud-init")


def inspect(
    root: Path,
    plan: RoutingPlan,
    index_of: Callable[[str], Optional[int]] = interface_index,
) -> Facts:
    by_networkd = program(root, "systemd-networkd") and not unit(root, networkd.SERVICE).masked
    by_manager = program(root, "NetworkManager") and not unit(root, network_manager.SERVICE).masked
    return Facts(
        networkd.inspect(root, plan, index_of) if by_networkd else None,
        network_manager.inspect(root, plan) if by_manager else None,
    )


def render(plan: RoutingPlan, facts: Facts) -> Tuple[ConfigFile, ...]:
    files: Dict[str, ConfigFile] = {}
    if facts.networkd is not None:
        files.update((file.path, file) for file in networkd.render(plan, facts.networkd))
    if facts.network_manager is not None:
        mixed = facts.networkd is not None and bool(facts.networkd.files)
        rendered = network_manager.render(plan, facts.network_manager, replay=not mixed)
        files.update((file.path, file) for file in rendered)
    return tuple(files.values())


def owned(root: Path) -> Tuple[str, ...]:
    return tuple(dict.fromkeys((*networkd.owned(root), *network_manager.owned(root))))


def warnings(plan: RoutingPlan, facts: Facts) -> Tuple[str, ...]:
    told: Tuple[str, ...] = ()
    if facts.networkd is not None:
        # A device without a .network file is NetworkManager's, where that is there.
        told += networkd.warnings(plan, facts.networkd, others=facts.network_manager is not None)
    if facts.network_manager is not None:
        told += network_manager.warnings(plan, facts.network_manager)
    return told


def after(written: Iterable[str], removed: Iterable[str]) -> Tuple[Tuple[str, ...], ...]:
    new, gone = tuple(written), tuple(removed)
    return (*networkd.after(new, gone), *network_manager.after(new, gone))
