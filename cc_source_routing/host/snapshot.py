"""Take a snapshot of the host: kernel, metadata, leases, names.

This module only reads; it decides nothing.  What is missing or malformed is unknown, with a warning
in the state.  Only an unreadable kernel is an error (`DiscoveryError`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FileError
from ..files.write import foreign_tables, read_text, saved_tables, table_names
from ..kernel.read import observe_kernel
from ..model import HostState, IPNetwork, Metadata
from ..text.names import id_fault
from .earlier_run import read_previous
from .leases.read import read_leases
from .metadata.read import read_metadata
from .saved_stanza import STANZA_PATH

if TYPE_CHECKING:
    from ..kernel.netlink import Kernel


def observe(
    kernel: Kernel,
    root: Path,
    published_ports: bool,
    metadata: Metadata | None,
    near: Iterable[IPNetwork] | None,
) -> HostState:
    """Everything that a plan depends on besides the stanza.

    `metadata` is passed if cloud-init already has it.  Our nftables table is read if
    `published_ports` is on, or an earlier run loaded one.  `near` is as for `observe_kernel`.
    """
    previous = read_previous(root)
    state = observe_kernel(kernel, published_ports or previous.nftables, near)
    if metadata is None:
        metadata = read_metadata(root)
    leases = read_leases(root, state.links, time.time())
    names = tuple(table_names(root))
    # Names that are invalid in a file were not written by us.
    saved = {name: table for name, table in saved_tables(names).items() if not id_fault(name)}
    return replace(
        state,
        metadata=metadata,
        leases=leases.leases,
        foreign_tables=foreign_tables(names),
        saved_tables=saved,
        previous=previous,
        saved_rule_priority=_saved_rule_priority(root),
        warnings=(*metadata.warnings, *leases.warnings),
    )


def _saved_rule_priority(root: Path) -> int | None:
    value = _json(root, STANZA_PATH).get("rule_priority")
    return value if type(value) is int else None


def _json(root: Path, path: str) -> dict[str, Any]:
    """The content of one of our JSON files; {} if it is missing or malformed."""
    try:
        document = json.loads(read_text(root, path) or "{}")
    except (ValueError, RecursionError, FileError):
        return {}
    return document if isinstance(document, dict) else {}
