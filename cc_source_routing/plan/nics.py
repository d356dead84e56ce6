"""Select the interfaces to manage, with the reason for each of the others.

Pure.  In auto mode these are the ports in the metadata, and every other link that looks like one:
up, without a master, with a global address, not a tunnel or a bridge.  Whether it has a gateway is
decided later.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple

from ..errors import Fault
from ..model import FAMILIES, LINK_DOWN, NO_ADDRESS, HostState, InterfaceStanza, Link, Stanza
from ..text.names import id_fault
from .host_index import OVERLAY_KINDS, HostIndex


class Selection(NamedTuple):
    """The managed links, each with its stanza entry, and the reasons for the links left out."""

    managed: tuple[tuple[Link, InterfaceStanza | None], ...]
    left_out: dict[str, str]
    faults: tuple[Fault, ...]
    warnings: tuple[str, ...]


def natural_order(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key in which ens4 comes before ens10."""
    parts: list[tuple[int, int, str]] = []
    digits = ""
    for char in name + "\0":
        if "0" <= char <= "9":
            digits += char
            continue
        if digits:
            parts.append((0, int(digits), ""))
            digits = ""
        parts.append((1, 0, char))
    return tuple(parts)


def potential_nics(state: HostState) -> int:
    """How many links some stanza could manage, once they are up and have an address."""
    index, anything = HostIndex(state), Stanza()
    reasons = (_unfit(link, None, anything, index) for link in state.links if not link.loopback)
    return sum(reason in (None, LINK_DOWN) for reason in reasons)


def select_links(stanza: Stanza, index: HostIndex) -> Selection:
    """Split the host's links into managed and left out."""
    managed = []
    left_out: dict[str, str] = {}
    faults: list[Fault] = []
    owner: dict[str, str] = {}
    used = set()
    for link in sorted(index.state.links, key=lambda link: natural_order(link.name)):
        if link.loopback:
            continue
        entry = _entry_for(link, stanza)
        reason = _unfit(link, entry, stanza, index) or _without_address(link, stanza, index)
        if entry is not None:
            used.add(entry.id)
        if reason is not None:
            left_out[link.name] = reason
            continue
        if entry is not None and entry.id in owner:
            faults.append(
                Fault(
                    f"interfaces.{entry.id}.match",
                    f"matches both {owner[entry.id]} and {link.name}; make it match one",
                )
            )
        elif entry is not None:
            owner[entry.id] = link.name
        managed.append((link, entry))
    warnings = tuple(
        f"interfaces.{entry.id}: no such interface now"
        for entry in stanza.interfaces
        if entry.id not in used and entry.enabled
    )
    return Selection(tuple(managed), left_out, tuple(faults), warnings)


def matches(entry: InterfaceStanza, link: Link) -> bool:
    """Whether a stanza entry applies to a link: by its match, else by its id as the name."""
    if entry.match_macaddress and entry.match_macaddress not in (link.mac, link.permanent_mac):
        return False
    if entry.match_name and not fnmatchcase(link.name, entry.match_name):
        return False
    if entry.match_macaddress or entry.match_name:
        return True
    return entry.id == link.name


def _entry_for(link: Link, stanza: Stanza) -> InterfaceStanza | None:
    return next((entry for entry in stanza.interfaces if matches(entry, link)), None)


def _unfit(
    link: Link, entry: InterfaceStanza | None, stanza: Stanza, index: HostIndex
) -> str | None:
    """Why a link cannot be managed, whatever its addresses."""
    if entry is not None and not entry.enabled:
        return f"disabled by the stanza (interfaces.{entry.id})"
    for pattern in stanza.exclude:
        glob = pattern.lower() if ":" in pattern else pattern
        if fnmatchcase(link.name, glob) or fnmatchcase(link.mac, glob):
            return f"excluded by the stanza ({pattern})"
    fault = id_fault(link.name)
    if fault:
        return f"its name {fault}, so it may stand in no file"
    if link.master:
        return f"belongs to {link.master}"
    # A VLAN, bridge or bond over a port shares its MAC, and a bridge over a port (br-ex) has the
    # port's addresses, so it replaces the port.
    if link.kind in OVERLAY_KINDS and entry is None:
        if link.kind != "bridge" or index.port(link) is None:
            return f"is a {link.kind}"
    if not link.up:
        return LINK_DOWN
    return None


def _without_address(link: Link, stanza: Stanza, index: HostIndex) -> str | None:
    if any(index.addresses(link.name, family) for family in FAMILIES if family in stanza.families):
        return None
    return NO_ADDRESS
