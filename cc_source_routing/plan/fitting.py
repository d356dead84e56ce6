"""Reduce a stanza to the part that fits the host as it is now.  Pure.

A stanza is written once, but hosts change: a port moves to another subnet, other software takes a
table.  A new stanza that does not fit is an error; of a saved one, the part that fits is applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Callable, TypeVar

from ..errors import Fault, StanzaError
from ..model import InterfaceStanza, Stanza

Planned = TypeVar("Planned")


def fit(
    stanza: Stanza, planner: Callable[[Stanza], Planned]
) -> tuple[Stanza, Planned, tuple[Fault, ...]]:
    """The part of `stanza` that fits the host, `planner`'s result for it, and what does not fit.

    `planner` plans a stanza for the host as it is, and raises `StanzaError` with the parts that
    contradict the host.
    """
    left_out: list[Fault] = []
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
    """The warning about a part that is left out."""
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
