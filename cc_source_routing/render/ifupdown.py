"""ifupdown, and its variants ifupdown2 and ifupdown-ng, which run the same hook directories.

Hooks report only ifupdown's own actions and DHCP leases.  Changes by the kernel
(addresses and routers from router advertisements) and by other programs are seen in
kernel messages (`units`), where systemd runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import FileError
from ..files.read import list_names, resolve
from ..files.write import read_text
from ..model import ConfigFile, RoutingPlan
from . import Evidence
from .common import render_template
from .hooks import HOOK_PATH, existing, hook_files, hook_paths

UP_PATH = "/etc/network/if-up.d/source-routing"
DOWN_PATH = "/etc/network/if-post-down.d/source-routing"
DHCLIENT_PATH = "/etc/dhcp/dhclient-exit-hooks.d/source-routing"

INTERFACES_PATH = "/etc/network/interfaces"
IFUP_PATHS = ("/usr/sbin/ifup", "/sbin/ifup")
_STANZA = re.compile(r"\s*iface\s+(\S+)")


def available(root: Path) -> Evidence:
    """Whether ``ifup`` is installed and its configuration names an interface besides lo."""
    ifup = next((path for path in IFUP_PATHS if _is_file(root, path)), None)
    if ifup is None:
        return Evidence(False, "no ifup in usr/sbin or sbin")
    for path in _configuration(root):
        names = [name for name in _interfaces(root, path) if name != "lo"]
        if names:
            return Evidence(True, f"{ifup[1:]} is there and {path[1:]} names {names[0]}")
    return Evidence(False, f"{ifup[1:]} is there but {INTERFACES_PATH[1:]} names lo at most")


def inspect(root: Path, plan: RoutingPlan) -> Any:
    return None


def render(plan: RoutingPlan, facts: Any) -> tuple[ConfigFile, ...]:
    """The hooks in if-up.d, if-post-down.d and dhclient-exit-hooks.d, and the files they read.

    Rendered for an empty plan too, since an event may bring in a NIC.
    """
    return (
        *hook_files(plan),
        _hook(UP_PATH, "up"),
        _hook(DOWN_PATH, "down"),
        ConfigFile(DHCLIENT_PATH, render_template("dhclient-exit-hook.j2", hook=HOOK_PATH)),
    )


def _hook(path: str, action: str) -> ConfigFile:
    content = render_template("ifupdown.j2", hook=HOOK_PATH, action=action)
    return ConfigFile(path, content, 0o755)


def owned(root: Path) -> tuple[str, ...]:
    return existing(root, (UP_PATH, DOWN_PATH, DHCLIENT_PATH, *hook_paths(root)))


def warnings(plan: RoutingPlan, facts: Any) -> tuple[str, ...]:
    return ()


def after(written: Iterable[str], removed: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    return ()


def _is_file(root: Path, path: str) -> bool:
    try:
        return resolve(root, path).is_file()
    except OSError:
        return False


def _configuration(root: Path) -> Iterator[str]:
    """interfaces and interfaces.d, of which interfaces(5) by default sources no name with a dot."""
    yield INTERFACES_PATH
    try:
        names = list_names(root, f"{INTERFACES_PATH}.d")
    except FileError:
        names = []
    for name in names:
        yield f"{INTERFACES_PATH}.d/{name}"


def _interfaces(root: Path, path: str) -> list[str]:
    try:
        text = read_text(root, path) or ""
    except FileError:
        return []
    matches = (_STANZA.match(line) for line in text.splitlines())
    return [match[1] for match in matches if match]
