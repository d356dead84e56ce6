"""Renderers: what keeps the plan alive after us, one module a network manager.

A renderer module has these functions; `root` is the directory that stands for
``/`` (an image, a test's tree, or the running system):

``available(root) -> Evidence``
    Whether that manager runs the network there, and what was looked at.
``inspect(root, plan) -> facts``
    The I/O part: whatever of the root the rendering depends on (a hashable
    value of the module's own; None when it needs nothing).
``render(plan, facts) -> tuple[ConfigFile, ...]``
    Pure.  The whole set of files.  Hooks are among them also when no NIC is
    planned yet: they are what brings a late one in.
``owned(root) -> tuple[str, ...]``
    Paths (absolute within the root) of existing files that this renderer has
    written at any time; those that are no longer rendered are removed.
``warnings(plan, facts) -> tuple[str, ...]``
    Pure.  What of the plan the manager cannot keep.
``after(written, removed) -> tuple[argument vector, ...]``
    Pure.  Commands that a running system needs once the files at the paths
    `written` are new and those at `removed` gone; none of them waits for anything.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Dict, NamedTuple, Tuple

from ..errors import DiscoveryError


class Evidence(NamedTuple):
    """Why a renderer is available, or what was looked for in vain."""

    available: bool
    told: str  # "ifup in usr/sbin and etc/network/interfaces names ens4"


# Name -> module, in the order of preference for `auto`.
RENDERERS: Dict[str, str] = {
    "netplan": "netplan",
    "networkd": "networkd",
    "network-manager": "network_manager",
    "ifupdown": "ifupdown",
    "none": "none",
}


def renderer(name: str) -> ModuleType:
    """The module that renders for `name` (a key of `RENDERERS`)."""
    return importlib.import_module(f".{RENDERERS[name]}", __name__)


def select(name: str, root: Path) -> Tuple[str, str]:
    """The renderer to use and why; `name` is the stanza's, ``auto`` looks at the root.

    Raises `DiscoveryError` that lists what was looked at when none fits.
    """
    if name != "auto":
        return name, "told by the stanza"
    looked = []
    for candidate in RENDERERS:
        if candidate == "none":
            continue
        evidence = renderer(candidate).available(root)
        if evidence.available:
            return candidate, evidence.told
        looked.append(f"{candidate}: {evidence.told}")
    raise DiscoveryError("no network manager was recognised (" + "; ".join(looked) + ")")
