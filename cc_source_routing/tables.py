"""Routing table numbers for interfaces: derived, stable, never somebody else's.

Pure.  A number once given to an interface name stays with it (the names file
remembers), new names take the lowest free numbers in natural order, so that
neither a reboot nor the order in which NICs appear changes anything.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

from .errors import Fault, PlanError
from .model import OUR_PROTOCOL, RESERVED_TABLES, HostState, InterfaceStanza

TABLES_PER_BASE = 1000


def allocate_tables(
    wanted: Sequence[Tuple[str, Optional[InterfaceStanza]]], base: int, state: HostState
) -> Tuple[Dict[str, int], List[Fault]]:
    """Table ids for the interfaces in `wanted` (name, stanza entry), in that order.

    Explicit ids of the stanza come first; then what a name had before or has
    in somebody's rt_tables under its own name (the hand-made cure); then free
    ones from `base`.  Returns the ids and the faults of explicit ones; raises
    `PlanError` when no number is left.
    """
    filled = _filled_by_others(state)
    ids: Dict[str, int] = {}
    faults: List[Fault] = []
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
    # The hand-made cure's own name is taken over, but never a table with routes
    # in it: ours would replace them, and `remove` could not give them back.
    named: Mapping[str, int] = {
        name: table for table, name in state.foreign_tables.items() if table not in filled
    }
    for name, _entry in wanted:
        if name in ids:
            continue
        for table in (named.get(name), state.saved_tables.get(name)):
            saved = table is not None and base <= table < base + TABLES_PER_BASE
            if table is None or table in taken or table in RESERVED_TABLES:
                continue
            if saved or table == named.get(name):
                ids[name] = table
                taken.add(table)
                break
    # Names that are not served just now keep their numbers for when they return.
    blocked = taken | set(state.saved_tables.values()) | set(state.foreign_tables)
    blocked |= RESERVED_TABLES | filled
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


def _filled_by_others(state: HostState) -> Set[int]:
    return {route.table for route in state.routes if route.protocol != OUR_PROTOCOL}
