"""ifupdown, and its kin ifupdown2 and ifupdown-ng, which run the same hook directories.

They tell of what they do themselves and of DHCP leases.  What the kernel does
(addresses and routers by router advertisement) and what other hands do, the
kernel tells (`link_events`), where systemd runs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Iterable, Iterator, List, Tuple

from ..errors import FileError
from ..files.read import list_names, resolve
from ..files.write import read_text
from ..model import ConfigFile, RoutingPlan
from . import Evidence
from .common import render_template
from .hooks import HOOK_PATH, existing, hook_files, hook_paths
from .link_events import link_event_files, listening, owned_link_events

UP_PATH = "/etc/network/if-up.d/source-routing"
DOWN_PATH = "/etc/network/if-post-down.d/source-routing"
DHCLIENT_PATH = "/etc/dhcp/dhclient-exit-hooks.d/source-routing"

SERVICE = "networking.service"
INTERFACES_PATH = "/etc/network/interfaces"
IFUP_PATHS = ("/usr/sbin/ifup", "/sbin/ifup")
_STANZA = re.compile(r"\s*iface\s+(\S+)")


def available(root: Path) -> Evidence:
    """Whether ``ifup`` is there and its configuration names an interface beside lo."""
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


def render(plan: RoutingPlan, facts: Any) -> Tuple[ConfigFile, ...]:
    """The hooks in if-up.d, if-post-down.d and dhclient-exit-hooks.d, and what they read.

    Also for a plan that is empty as yet: an event may fill it.
    """
    return (
        *hook_files(plan),
        ConfigFile(UP_PATH, render_template("ifupdown-up.j2", hook=HOOK_PATH), 0o755),
        ConfigFile(DOWN_PATH, render_template("ifupdown-post-down.j2", hook=HOOK_PATH), 0o755),
        ConfigFile(DHCLIENT_PATH, render_template("dhclient-exit-hook.j2", hook=HOOK_PATH)),
        *link_event_files(SERVICE),
    )


def owned(root: Path) -> Tuple[str, ...]:
    return (
        *existing(root, (UP_PATH, DOWN_PATH, DHCLIENT_PATH, *hook_paths(root))),
        *owned_link_events(root, SERVICE),
    )


def warnings(plan: RoutingPlan, facts: Any) -> Tuple[str, ...]:
    return ()


def after(written: Iterable[str], removed: Iterable[str]) -> Tuple[Tuple[str, ...], ...]:
    """Begin or end listening to the kernel, where systemd runs."""
    return listening(written, removed)


def _is_file(root: Path, path: str) -> bool:
    try:
        return resolve(root, path).is_file()
    except OSError:
        return False


def _configuration(root: Path) -> Iterator[str]:
    """interfaces and what it usually sources; interfaces(5) lets no suffix through by default."""
    yield INTERFACES_PATH
    try:
        names = list_names(root, f"{INTERFACES_PATH}.d")
    except FileError:
        names = []
    for name in names:
        yield f"{INTERFACES_PATH}.d/{name}"


def _interfaces(root: Path, path: str) -> List[str]:
    try:
        text = read_text(root, path) or ""
    except FileError:
        return []
    matches = (_STANZA.match(line) for line in text.splitlines())
    return [match[1] for match in matches if match]
