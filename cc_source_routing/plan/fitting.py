"""A stanza without what contradicts the host as it is now.  Pure.

A stanza is written once and hosts change: a port is moved to another subnet, somebody
takes a table.  Whoever asks for something just now is told that it cannot be had; what
was asked for earlier is served as far as it goes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, List, Sequence, Tuple, TypeVar

from ..errors import Fault, StanzaError
from ..model import InterfaceStanza, Stanza

Planned = TypeVar("Planned")


def fit(
    stanza: Stanza, planner: Callable[[Stanza], Planned]
) -> Tuple[Stanza, Planned, Tuple[Fault, ...]]:
    """The part of `stanza` that fits the host, what `planner` makes of it, and what does not fit.

    `planner` plans a stanza on the host as it is, and raises `StanzaError` with what of it
    contradicts the host.
    """
    left_out: List[Fault] = []
    while True:
        try:
            return stanza, planner(stanza), tuple(left_out)
        except StanzaError as error:
            fitting = _without(stanza, error.faults)
            if fitting == stanza:
                raise
            stanza = fitting
            left_out += error.faults


def warning(fault: Fault) -> str:
    """What is said of a part that is left out."""
    return f"{fault}; left out, the rest is served"


def _without(stanza: Stanza, faults: Sequence[Fault]) -> Stanza:
    entries = []
    for entry in stanza.interfaces:
        prefix = f"interfaces.{entry.id}."
        keys = [f.path[len(prefix) :] for f in faults if f.path.startswith(prefix)]
        if "match" not in keys:
            entries.append(_entry_without(entry, keys))
    return replace(stanza, interfaces=tuple(entries))


def _entry_without(entry: InterfaceStanza, keys: Sequence[str]) -> InterfaceStanza:
    numbers = {key.split(".")[1] for key in keys if key.startswith("routes.")}
    routes = tuple(route for n, route in enumerate(entry.routes) if str(n) not in numbers)
    return replace(
        entry,
        routes=routes,
        gateway4=None if "gateway4" in keys else entry.gateway4,
        gateway6=None if "gateway6" in keys else entry.gateway6,
        table=None if "table" in keys else entry.table,
    )
