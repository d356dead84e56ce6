"""What one apply leaves to be known by the next, in a file of its own.

The kernel forgets at a reboot what this file is about, so it lives in /run.
"""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Tuple

from ..errors import FileError
from ..files.write import read_text
from ..model import SYSCTLS, Previous, PreviousGateway

PREVIOUS_PATH = "/run/source-routing/previous.json"
MAX_U32 = 0xFFFFFFFF


def read_previous(root: Path) -> Previous:
    """What `PREVIOUS_PATH` says; broken, only the way back is lost, not the way forth."""
    document = _document(root)
    sysctls: Dict[Tuple[str, str], int] = {}
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


def previous_to_json(previous: Previous) -> str:
    """What `read_previous` reads."""
    gateways = {
        f"{dev}/{family}": {
            "source": told.source,
            "ip": None if told.ip is None else str(told.ip),
            "mac": told.mac,
        }
        for (dev, family), told in previous.gateways.items()
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


def _numbers(value: Any) -> Iterator[Tuple[str, int]]:
    for name, number in value.items() if isinstance(value, dict) else ():
        if type(number) is int and 0 <= number <= MAX_U32:
            yield name, number


def _gateways(value: Any) -> Iterator[Tuple[Tuple[str, int], PreviousGateway]]:
    for name, told in value.items() if isinstance(value, dict) else ():
        dev, _slash, family = name.rpartition("/")
        if family not in ("4", "6") or not isinstance(told, dict):
            continue
        source, ip, mac = (told.get(key) for key in ("source", "ip", "mac"))
        if not isinstance(source, str) or not isinstance(mac, str):
            continue
        try:
            gateway = ip_address(ip) if isinstance(ip, str) else None
        except ValueError:
            continue
        yield (dev, int(family)), PreviousGateway(source, gateway, mac)
