"""One snapshot of the host: kernel, metadata, leases, names.

Reads only.  What is missing or malformed is "unknown" and told as a warning
of the state; only an unreadable kernel is an error (`DiscoveryError`).
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Tuple

from ..errors import FileError
from ..files.write import foreign_tables, read_text, saved_tables, table_names
from ..kernel import nftables
from ..kernel.read import observe_kernel
from ..kernel.router_solicitation import ANSWER_SECONDS, ask_routers
from ..model import HostState, IPAddress, Link, Metadata, Stanza
from ..plan.gateway import Question, choose_gateway, guess_candidates, has_no_gateway, was_revoked
from ..plan.host_index import HostIndex
from ..plan.nics import select_links
from ..text.names import id_fault
from .earlier_run import read_previous
from .leases.read import read_leases
from .metadata.read import read_metadata
from .saved_stanza import STANZA_PATH

if TYPE_CHECKING:
    from ..kernel.netlink import Kernel

PROBE_SECONDS = 1.0


def observe(
    kernel: Kernel,
    root: Path,
    stanza: Stanza,
    metadata: Optional[Metadata] = None,
    solicit: bool = False,
) -> HostState:
    """All that a plan depends on; `metadata` is given where cloud-init holds it already.

    With `solicit` routers are asked to speak up where none is known and one is
    to be expected, which may take seconds.
    """
    state = observe_kernel(kernel)
    if metadata is None:
        metadata = read_metadata(root)
    leases = read_leases(root, state.links, time.time())
    names = tuple(table_names(root))
    # A name that may not stand in a file was not written by us.
    saved = {name: table for name, table in saved_tables(names).items() if not id_fault(name)}
    previous = read_previous(root)
    marking = stanza.published_ports or previous.nftables
    state = replace(
        state,
        metadata=metadata,
        leases=leases.leases,
        foreign_tables=foreign_tables(names),
        saved_tables=saved,
        nftables=nftables.loaded_checksum() if marking else None,
        previous=previous,
        saved_rule_priority=_saved_rule_priority(root),
        warnings=(*metadata.warnings, *leases.warnings),
    )
    waiting = routerless(stanza, state) if solicit else []
    if waiting:
        asked = all(_was_asked(link, state) for link in waiting)
        wait = 0.0 if asked else ANSWER_SECONDS
        state = replace(state, neighbours=ask_routers(kernel, waiting, wait))
    candidates = unanswered(stanza, state)
    if not candidates:
        return state
    return replace(state, probes=kernel.probe(candidates, PROBE_SECONDS))


def unanswered(stanza: Stanza, state: HostState) -> List[Tuple[str, IPAddress]]:
    """Gateways worth a probe: first addresses of NICs about which nothing else is known."""
    if stanza.gateway_guess != "verify":
        return []
    index = HostIndex(state)
    candidates: List[Tuple[str, IPAddress]] = []
    for question in _untold(stanza, index):
        dev = question.link.name
        candidates += [(dev, ip) for ip in guess_candidates(index, dev, question.family)]
    return candidates


def routerless(stanza: Stanza, state: HostState) -> List[Link]:
    """NICs whose network has given them an IPv6 address, and nobody has told of a router.

    One that is configured by hand would have its gateway from there too.
    """
    index = HostIndex(state)
    with_ipv6 = [
        link for link in state.links if not link.loopback and index.addresses(link.name, 6)
    ]
    if len(with_ipv6) < 2:
        return []  # main's own default serves it
    return [
        question.link
        for question in _untold(stanza, index)
        if question.family == 6
        and any(address.dynamic for address in index.addresses(question.link.name, 6))
    ]


def _was_asked(link: Link, state: HostState) -> bool:
    """Whether its router was asked or known before: who was silent once is not waited for."""
    earlier = state.previous.gateways.get((link.name, 6))
    return earlier is not None and earlier.mac == link.mac


def _untold(stanza: Stanza, index: HostIndex) -> Iterator[Question]:
    """NICs and families that have addresses and no gateway that anybody has told of."""
    for link, entry in select_links(stanza, index).managed:
        for family in sorted(stanza.families):
            question = Question(link, family, index, entry, stanza.gateway_guess)
            if not index.addresses(link.name, family):
                continue
            if has_no_gateway(question) or was_revoked(question):
                continue
            if choose_gateway(question, told_only=True) is None:
                yield question


def _saved_rule_priority(root: Path) -> Optional[int]:
    value = _json(root, STANZA_PATH).get("rule_priority")
    return value if type(value) is int else None


def _json(root: Path, path: str) -> Dict[str, Any]:
    """A small JSON mapping of our own; {} when it is missing or broken."""
    try:
        document = json.loads(read_text(root, path) or "{}")
    except (ValueError, RecursionError, FileError):
        return {}
    return document if isinstance(document, dict) else {}
