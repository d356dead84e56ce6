"""NetworkManager: nothing but the event path; connection profiles are never edited.

Profiles cannot hold the plan: their ``routing-rules`` have suppress_prefixlength but no
suppress_ifgroup (nm-settings(5)).  NetworkManager leaves rules, and routes in other
tables, alone unless it has made them, so it is enough to restore what the kernel drops,
and the kernel's own messages tell of that (`units`).  They tell of everything that scripts
of NetworkManager-dispatcher(8) would, but for a lease with another gateway for the same
address, and that is a file's change.  Since profiles are not edited, keyfiles, ifcfg files
and those that netplan generates need no distinction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..model import ConfigFile, RoutingPlan
from . import Evidence
from .evidence import program, unit
from .hooks import existing, hook_paths

SERVICE = "NetworkManager.service"
OLD_DISPATCHER_PATH = "/etc/NetworkManager/dispatcher.d/50-source-routing"
CLOUD_SETUP_UNITS = ("nm-cloud-setup.timer", "nm-cloud-setup.service")


@dataclass(frozen=True)
class Facts:
    """The state of the root that rendering depends on."""

    cloud_setup: str = ""  # the link that enables nm-cloud-setup; "" if disabled


def available(root: Path) -> Evidence:
    binary = program(root, "NetworkManager")
    if binary is None:
        return Evidence(False, "no NetworkManager in usr/sbin or usr/bin")
    service = unit(root, SERVICE)
    if service.masked:
        return Evidence(False, f"NetworkManager is masked ({service.link})")
    if not service.enabled:
        return Evidence(False, "NetworkManager is not enabled in any systemd/system/*.wants")
    return Evidence(True, f"NetworkManager is enabled ({service.link})")


def inspect(root: Path, plan: RoutingPlan) -> Facts:
    enabled = (unit(root, name) for name in CLOUD_SETUP_UNITS)
    return Facts(next((found.link for found in enabled if found.enabled), ""))


def render(plan: RoutingPlan, facts: Facts) -> tuple[ConfigFile, ...]:
    return ()


def owned(root: Path) -> tuple[str, ...]:
    """What version 0.1.0 wrote, and the lines for its script."""
    return existing(root, (OLD_DISPATCHER_PATH, *hook_paths(root)))


def warnings(plan: RoutingPlan, facts: Facts) -> tuple[str, ...]:
    if not facts.cloud_setup:
        return ()
    return (
        f"nm-cloud-setup is enabled ({facts.cloud_setup}) and makes rules and routes of its "
        "own (tables 30200 and up) that come before ours; let one of the two do it",
    )


def after(written: Iterable[str], removed: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    return ()
