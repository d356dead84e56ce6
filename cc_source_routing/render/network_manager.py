"""NetworkManager: a dispatcher script; connection profiles are never edited.

Profiles cannot hold the plan: their ``routing-rules`` have suppress_prefixlength but no
suppress_ifgroup (nm-settings(5)).  NetworkManager leaves rules, and routes in other
tables, alone unless it has made them, so it is enough to restore what the kernel drops:
at the events of NetworkManager-dispatcher(8), and at kernel events that NetworkManager
does not pass on (`link_events`).  Since profiles are not edited, keyfiles, ifcfg files
and those that netplan generates need no distinction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ..model import ConfigFile, RoutingPlan
from ..text.addresses import interface_name
from . import Evidence
from .common import render_template
from .evidence import names, program, text, unit
from .hooks import HOOK_PATH, NICS_PATH, existing, hook_files, hook_paths
from .link_events import link_event_files, listening, owned_link_events
from .waiting import waiting_nics

SERVICE = "NetworkManager.service"
DISPATCHER_PATH = "/etc/NetworkManager/dispatcher.d/50-source-routing"
CLOUD_SETUP_UNITS = ("nm-cloud-setup.timer", "nm-cloud-setup.service")


@dataclass(frozen=True)
class Facts:
    """The state of the root that rendering depends on."""

    dispatcher: bool = True  # NetworkManager-dispatcher.service is not masked
    cloud_setup: str = ""  # the link that enables nm-cloud-setup; "" if disabled
    # The replay files that an earlier run has written: (NIC, content).
    earlier: tuple[tuple[str, str], ...] = ()


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
    return Facts(
        dispatcher=not unit(root, "NetworkManager-dispatcher.service").masked,
        cloud_setup=next((found.link for found in enabled if found.enabled), ""),
        earlier=tuple(
            (name, text(root, f"{NICS_PATH}/{name}"))
            for name in names(root, NICS_PATH)
            if interface_name(name)
        ),
    )


def render(plan: RoutingPlan, facts: Facts, replay: bool = True) -> tuple[ConfigFile, ...]:
    """The dispatcher script and the files it reads; for an empty plan too, for later NICs.

    Without `replay` every event starts an apply, which knows the rules that another
    manager has adopted and thereby changed.  Waiting NICs keep their files only while
    all NICs wait: once their siblings are planned without them, a replay would not
    restore the siblings' routes to them.
    """
    if replay:
        waiting = frozenset() if plan.nics else waiting_nics(plan)
        known = hook_files(plan)
        known += tuple(
            ConfigFile(f"{NICS_PATH}/{name}", content)
            for name, content in facts.earlier
            if name in waiting and plan.nic(name) is None
        )
    else:
        known = hook_files(replace(plan, nics=()))
    script = render_template("network-manager-dispatcher.j2", hook=HOOK_PATH, replay=replay)
    return (
        *known,
        ConfigFile(DISPATCHER_PATH, script, 0o755),
        *link_event_files(SERVICE),
    )


def owned(root: Path) -> tuple[str, ...]:
    return (
        *existing(root, (DISPATCHER_PATH, *hook_paths(root))),
        *owned_link_events(root, SERVICE),
    )


def warnings(plan: RoutingPlan, facts: Facts) -> tuple[str, ...]:
    found = []
    if not facts.dispatcher:
        found.append(
            "NetworkManager-dispatcher.service is masked: nothing will restore the routes after "
            "a flap"
        )
    if facts.cloud_setup:
        found.append(
            f"nm-cloud-setup is enabled ({facts.cloud_setup}) and makes rules and routes of its "
            "own (tables 30200 and up) that come before ours; let one of the two do it"
        )
    return tuple(found)


def after(written: Iterable[str], removed: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Start or stop listening to the kernel; the dispatcher reads its scripts at each event."""
    return listening(written, removed)
