"""Allocate routing table numbers for interfaces: derived, stable, never in use by others.

Pure.  An interface name keeps its number (the names file stores it), and new names get the lowest
free numbers in natural order, so that neither a reboot nor the order in which NICs appear changes
anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import Fault, PlanError
from ..model import OUR_PROTOCOL, RESERVED_TABLES, HostState, InterfaceStanza

TABLES_PER_BASE = 1000


def allocate_tables(
    wanted: Sequence[tuple[str, InterfaceStanza | None]], base: int, state: HostState
) -> tuple[dict[str, int], list[Fault]]:
    """Table ids for the interfaces in `wanted` (name, stanza entry), in that order.

    Explicit ids of the stanza come first, then the earlier id of a name, unless something else uses
    that number now, then free ones from `base`.  Returns the ids and the faults of explicit ones;
    raises `PlanError` when no number is left.
    """
    filled = _filled_by_others(state)
    ids: dict[str, int] = {}
    faults: list[Fault] = []
    for name, entry in wanted:
        if entry is None or entry.table is None:
            continue
        owner = state.foreign_tables.get(entry.table)
        if owner is not None and owner != name:
            faults.append(
                Fault(
                    f"interfaces.{entry.id}.table",
                    f"table {entry.table} is already named {owner} in rt_tables",
                )
            )
        elif entry.table in filled:
            faults.append(
                Fault(
                    f"interfaces.{entry.id}.table",
                    f"table {entry.table} already holds routes of somebody else",
                )
            )
        ids[name] = entry.table
    taken = set(ids.values())
    # A table that rt_tables already names is not taken over: its owner may flush and fill it at any
    # time (the hand-made script does at each ifup).
    lost = RESERVED_TABLES | set(state.foreign_tables) | _defaults_of_others(state)
    for name, _entry in wanted:
        table = state.saved_tables.get(name)
        if name in ids or table is None or table in taken | lost:
            continue
        if base <= table < base + TABLES_PER_BASE:
            ids[name] = table
            taken.add(table)
    # Names that are not served now keep their numbers until they return.
    blocked = taken | lost | set(state.saved_tables.values()) | filled
    blocked |= {rule.table for rule in state.rules if rule.protocol != OUR_PROTOCOL}
    candidate = base
    for name, _entry in wanted:
        if name in ids:
            continue
        while candidate in blocked:
            candidate += 1
        if candidate >= base + TABLES_PER_BASE:
            raise PlanError(f"no free routing table for {name} from table_base {base} on")
        ids[name] = candidate
        candidate += 1
    return ids, faults


def _filled_by_others(state: HostState) -> set[int]:
    return {route.table for route in state.routes if route.protocol != OUR_PROTOCOL}


def _defaults_of_others(state: HostState) -> set[int]:
    """Tables with a foreign default, which precedes ours by its metric."""
    return {
        route.table
        for route in state.routes
        if route.protocol != OUR_PROTOCOL and route.dst.prefixlen == 0
    }
