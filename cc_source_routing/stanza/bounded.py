"""Copy an untrusted stanza within safe limits.

User-data may be as large, as deep and as odd as YAML allows; the copy is bounded, and its
user may change it.  Pure; independent of the meaning of the keys.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Union

from ..text.names import shown

Path = tuple[Union[str, int], ...]
"""The keys and list positions that lead to a value."""

MAX_VALUES = 100_000
"""No real configuration has more values: a thousand NICs with 30 routes each fit."""
MAX_LIST = 1001
"""Longer lists are cut; every list of the schema has a smaller maxItems, which reports them."""
MAX_DEPTH = 7
"""Deeper than the schema: a container at this depth is wrong by its type alone."""
MAX_NUMBER = 10**21
"""Larger numbers are clamped: str() of one with thousands of digits is an error in Python."""


class Oversize(ValueError):
    """The value is larger or deeper than is handled; the message ends a sentence."""


class Bounded(NamedTuple):
    value: Any
    order: dict[Path, int]  # the position of each path in the document
    odd_keys: tuple[tuple[Path, Any], ...]  # omitted keys that are not strings: path, key


def bounded(value: Any) -> Bounded:
    """A copy of `value` within the limits above; raises `Oversize`."""
    order: dict[Path, int] = {}
    odd: list[tuple[Path, Any]] = []

    def copy(item: Any, path: Path) -> Any:
        order[path] = len(order)
        if len(order) > MAX_VALUES:
            raise Oversize(f"has more than {MAX_VALUES} values")
        deep = len(path) >= MAX_DEPTH
        if isinstance(item, dict):
            result = {}
            for key, inner in () if deep else item.items():
                if isinstance(key, str):
                    result[key] = copy(inner, (*path, key))
                else:
                    odd.append(((*path, shown(key)), key))
                    order[odd[-1][0]] = len(order)
            return result
        if isinstance(item, list):
            wanted = [] if deep else item[:MAX_LIST]
            return [copy(inner, (*path, number)) for number, inner in enumerate(wanted)]
        if isinstance(item, (tuple, set, frozenset)):
            return type(item)()  # YAML has these types, the schema does not: drop the content
        if isinstance(item, int) and not isinstance(item, bool):
            return max(-MAX_NUMBER, min(MAX_NUMBER, item))
        return item

    return Bounded(copy(value, ()), order, tuple(odd))
