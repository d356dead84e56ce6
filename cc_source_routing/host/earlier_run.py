"""The file in which one apply records what the next one needs.

It is in /run, since a reboot also resets the kernel state that it describes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from ..errors import FileError
from ..files.write import read_text, write_files
from ..kernel.diff import Operation, SetGroup, SetSysctl, sysctl_overrides
from ..model import (
    EARLIER_RUN,
    SILENT,
    SYSCTLS,
    ConfigFile,
    HostState,
    Link,
    Previous,
    PreviousGateway,
    RoutingPlan,
)

PREVIOUS_PATH = "/run/source-routing/previous.json"
MAX_U32 = 0xFFFFFFFF


def read_previous(root: Path) -> Previous:
    """The content of `PREVIOUS_PATH`; a malformed file only prevents restoring original values."""
    document = _document(root)
    sysctls: dict[tuple[str, str], int] = {}
    for name, value in _numbers(document.get("sysctls")):
        dev, _slash, key = name.rpartition("/")
        if key in SYSCTLS and value <= 2:
            sysctls[dev, key] = value
    return Previous(
        dict(_numbers(document.get("groups"))),
        sysctls,
        bool(document.get("nftables")),
        dict(_gateways(document.get("gateways"))),
    )


def previous_for_next_run(
    state: HostState,
    plan: RoutingPlan,
    operations: Sequence[Operation],
    routerless: Sequence[Link],
) -> Previous:
    """What the next run needs to know about the one that is about to apply `operations`.

    The groups and sysctls that interfaces have before the change, so that they can be restored, and
    the gateways in use.
    """
    groups, sysctls = dict(state.previous.groups), dict(state.previous.sysctls)
    current = {link.name: link.group for link in state.links}
    for operation in operations:
        if isinstance(operation, SetGroup) and operation.group == plan.group:
            groups.setdefault(operation.dev, current.get(operation.dev, 0))
        elif isinstance(operation, SetSysctl):
            key = (operation.dev, operation.key)
            sysctls.setdefault(key, state.sysctls[key])
    gateways = _known_gateways(state, plan, routerless)
    return Previous(groups, sysctls, state.nftables is not None, gateways)


def drop_restored(previous: Previous, plan: RoutingPlan) -> Previous:
    """`previous` without the values that were restored: the user may change them from then on."""
    names = {nic.name for nic in plan.nics}
    ours = {key for name in names for key in sysctl_overrides(plan, name)}
    return Previous(
        {name: group for name, group in previous.groups.items() if name in names},
        {key: value for key, value in previous.sysctls.items() if key in ours},
        previous.nftables,
        previous.gateways,
    )


def save_previous(root: Path, previous: Previous) -> None:
    """Write `PREVIOUS_PATH`; a failure only prevents restoring the original groups and sysctls."""
    try:
        write_files(root, (ConfigFile(PREVIOUS_PATH, previous_to_json(previous)),), ())
    except FileError:
        return  # not a reason to leave a NIC unserved


def _known_gateways(
    state: HostState, plan: RoutingPlan, routerless: Sequence[Link]
) -> dict[tuple[str, int], PreviousGateway]:
    """The gateways of this apply, or of the last one in which the interface had one."""
    macs = {link.name: link.mac for link in state.links}
    gateways = {
        key: gateway
        for key, gateway in state.previous.gateways.items()
        if macs.get(key[0]) == gateway.mac
    }
    for nic in plan.nics:
        for family, gateway in nic.gateways.items():
            if gateway.source != EARLIER_RUN:
                known = PreviousGateway(gateway.source, gateway.ip, macs[nic.name])
                gateways[nic.name, family] = known
    for link in routerless:
        gateways.setdefault((link.name, 6), PreviousGateway(SILENT, None, link.mac))
    return gateways


def previous_to_json(previous: Previous) -> str:
    """The text that `read_previous` reads."""
    gateways = {
        f"{dev}/{family}": {
            "source": entry.source,
            "ip": None if entry.ip is None else str(entry.ip),
            "mac": entry.mac,
        }
        for (dev, family), entry in previous.gateways.items()
    }
    document = {
        "groups": dict(previous.groups),
        "sysctls": {f"{dev}/{key}": value for (dev, key), value in previous.sysctls.items()},
        "nftables": previous.nftables,
        "gateways": gateways,
    }
    return json.dumps(document, sort_keys=True) + "\n"


def _document(root: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(read_text(root, PREVIOUS_PATH) or "{}")
    except (ValueError, RecursionError, FileError):
        return {}
    return document if isinstance(document, dict) else {}


def _numbers(value: Any) -> Iterator[tuple[str, int]]:
    for name, number in value.items() if isinstance(value, dict) else ():
        if type(number) is int and 0 <= number <= MAX_U32:
            yield name, number


def _gateways(value: Any) -> Iterator[tuple[tuple[str, int], PreviousGateway]]:
    for name, entry in value.items() if isinstance(value, dict) else ():
        dev, _slash, family = name.rpartition("/")
        if family not in ("4", "6") or not isinstance(entry, dict):
            continue
        source, ip, mac = (entry.get(key) for key in ("source", "ip", "mac"))
        if not isinstance(source, str) or not isinstance(mac, str):
            continue
        try:
            gateway = ip_address(ip) if isinstance(ip, str) else None
        except ValueError:
            continue
        yield (dev, int(family)), PreviousGateway(source, gateway, mac)
