"""Renderers: the files that keep the plan in effect, one module for each network manager.

A renderer module has these functions; `root` is the directory that stands for
``/`` (an image, a test directory, or the running system):

``available(root) -> Evidence``
    Whether that manager configures the network there, and why.
``inspect(root, plan) -> facts``
    The I/O part: everything in the root that rendering depends on (a hashable
    value of the module's own type; None if it needs nothing).
``render(plan, facts) -> tuple[ConfigFile, ...]``
    Pure.  The complete set of files.  It includes the hooks even if no NIC is
    planned yet: they bring in a NIC that appears later.
``owned(root) -> tuple[str, ...]``
    Paths (absolute within the root) of existing files that any run of this renderer
    wrote; those that are no longer rendered are removed.
``warnings(plan, facts) -> tuple[str, ...]``
    Pure.  Parts of the plan that the manager cannot keep.
``after(written, removed) -> tuple[argument vector, ...]``
    Pure.  Commands to run on a running system after the files at the paths `written`
    have changed and those at `removed` are gone; none of them blocks.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from ..errors import DiscoveryError


class Evidence(NamedTuple):
    """Whether a renderer is available, and what shows it or is missing."""

    available: bool
    reason: str  # "usr/sbin/ifup is there and etc/network/interfaces names ens4"


# Name -> module, in order of preference for `auto`.
RENDERERS: dict[str, str] = {
    "netplan": "netplan",
    "networkd": "networkd",
    "network-manager": "network_manager",
    "ifupdown": "ifupdown",
    "none": "none",
}


def renderer(name: str) -> ModuleType:
    """The renderer module for `name` (a key of `RENDERERS`)."""
    return importlib.import_module(f".{RENDERERS[name]}", __name__)


def select(name: str, root: Path) -> tuple[str, str]:
    """The renderer to use, and why.  `name` is the stanza's; ``auto`` inspects the root.

    Raises `DiscoveryError`, which lists the evidence for each, if none is available.
    """
    if name != "auto":
        return name, "told by the stanza"
    looked = []
    for candidate in RENDERERS:
        if candidate == "none":
            continue
        evidence = renderer(candidate).available(root)
        if evidence.available:
            return candidate, evidence.reason
        looked.append(f"{candidate}: {evidence.reason}")
    raise DiscoveryError("no network manager was recognised (" + "; ".join(looked) + ")")
