"""Read an untrusted YAML (and so also JSON) text as values with line numbers.

PyYAML's nodes have the lines, and its ``SafeLoader`` makes the values, as in cloud-init.
This module records what ``yaml.safe_load`` hides or stops at: duplicate keys, unreadable
tags and values, anchors and merges that would expand to gigabytes.  No I/O.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, NamedTuple

import yaml

from ..errors import Fault, StanzaError, stanza_error
from ..text.names import one_line, shown
from .bounded import MAX_VALUES, Oversize
from .messages import path_text

MAX_DIGITS = 100
"""Longer numbers stay strings: reading them takes quadratic time, or is an error."""
MAX_SIZE = 1 << 20
"""Values once references are followed, as cloud-init does; 1 MiB of text has fewer without."""

_TAG = "tag:yaml.org,2002:"
_NUMBERS = (_TAG + "int", _TAG + "float")
# What SafeLoader raises, besides its own errors, for values that do not fit their notation.
_FAILURES = (yaml.YAMLError, ValueError, OverflowError, TypeError, LookupError, AttributeError)


class Document(NamedTuple):
    """The value under one key (or the whole), and the faults of its notation."""

    value: Any
    faults: list[Fault]
    unread: set[str]  # paths of unreadable values, about which nothing more is reported
    lines: dict[str, int | None]

    def line_of(self, path: str) -> int | None:
        """The line of a dotted path, or of the nearest key above it."""
        while path not in self.lines and path:
            path = path.rpartition(".")[0]
        return self.lines.get(path)


class Yaml(yaml.SafeLoader):
    """One document; `offset` is the number of lines of the file before it.

    An offset of -1 means that the text is not literally in the file and has no line numbers.
    Raises `StanzaError` if the text is not YAML, and `RecursionError` if it is nested too deeply.
    """

    def __init__(self, text: str, offset: int):
        self.offset = offset
        self.root: Any = None  # the document's node, if it has any
        self._repeated: dict[Any, str] = {}  # what to say of the node of a key
        self._failures: dict[Any, Exception] = {}
        self._sizes: dict[Any, int] = {}
        self._merged = 0
        try:
            super().__init__(text)
            self.root = self.get_single_node()
        except yaml.reader.ReaderError as error:
            message = f"has the character {ascii(chr(error.character))}, which YAML forbids"
            raise stanza_error(message, self._line(text.count("\n", 0, error.position))) from None
        except (yaml.MarkedYAMLError, ValueError, OverflowError) as error:
            mark = getattr(error, "problem_mark", None) or self.get_mark()
            hint = " (indent with spaces, not tabs)" if "'\\t'" in _problem(error) else ""
            message = f"is not YAML: {_problem(error)}{hint}"
            raise stanza_error(message, self._line(mark.line)) from None
        self.is_mapping = isinstance(self.root, yaml.MappingNode)
        self.is_empty = self.root is None or self.root.tag == _TAG + "null"
        pairs = self.root.value if self.is_mapping else ()
        self._note_repeated(pairs)
        self.keys = {key.value: (key, value) for key, value in pairs if key.id == "scalar"}
        """The nodes of each key on top and of its value; of a repeated key, the last ones."""

    def take(self, key: str | None) -> Document:
        """The value of `key`, or of the whole for None; call it before `whole`, not after."""
        at, node = (self.root, self.root) if key is None else self.keys[key]
        line = self.line_of(at)
        try:
            value = self._construct(node)
        except (StanzaError, Oversize) as error:
            return Document(None, [Fault("", str(error), line)], {""}, {"": line})
        failures = self._failures.copy()  # without the keys of what is unreadable itself
        paths, lines = self._find(at, node)
        faults = []
        for again, message in self._repeated.items():
            if again in paths:
                whose = "" if paths[again] else f"{key} "
                faults.append(Fault(paths[again], whose + message, self.line_of(again)))
        for wrong, why in failures.items():
            faults.append(Fault(paths.get(wrong, ""), _unreadable(wrong, why), self.line_of(wrong)))
        return Document(value, faults, {paths.get(wrong, "") for wrong in failures}, lines)

    def whole(self) -> Any:
        """The complete value, as from ``yaml.safe_load``; raises `StanzaError` where that fails.

        Raises `Oversize` where it would take too much time or memory.
        """
        value = self._construct(self.root) if self.root is not None else None
        for node, error in self._failures.items():
            raise stanza_error(_problem(error), self.line_of(node))
        return value

    def line_of(self, node: Any) -> int | None:
        return self._line(node.start_mark.line)

    def _line(self, line: int) -> int | None:
        return self.offset + line + 1 if self.offset >= 0 else None

    def _construct(self, node: Any) -> Any:
        try:
            self._measure(node)
            return self.construct_document(node)
        except RecursionError:
            raise Oversize("is nested too deeply") from None

    def _measure(self, node: Any) -> int:
        """The number of values of `node` with its references expanded; visits each node once."""
        size = self._sizes.get(node)
        if size == 0:
            raise stanza_error("it has a value that holds itself", self.line_of(node))
        if size is None:
            self._sizes[node] = 0  # until known; only nodes inside it can see this value
            pairs = node.value if node.id == "mapping" else ()
            self._note_repeated(pairs)
            inner = node.value if node.id == "sequence" else chain(*pairs)
            size = self._sizes[node] = 1 + sum(map(self._measure, inner))
            self._merged += sum(self._sizes[one] for key, one in pairs if key.tag == _TAG + "merge")
        if max(size, self._merged) > MAX_SIZE:
            raise Oversize(f"has more than {MAX_SIZE} values when its anchors and merges unfold")
        return size

    def _note_repeated(self, pairs: Any) -> None:
        """Note the keys of a mapping that are there before; call it before merges are made."""
        first: dict[tuple[str, str], Any] = {}
        for key, _value in pairs:
            before = first.setdefault((key.tag, key.value), key) if key.id == "scalar" else key
            if before is not key and key.tag != _TAG + "merge":
                line = self.line_of(before)
                where = f" (first at line {line})" if line else ""
                self._repeated[key] = f"is there more than once{where}"

    def _find(self, at: Any, node: Any) -> tuple[dict[Any, str], dict[str, int | None]]:
        """The dotted path of each node within `node`, and the line of each path."""
        paths, lines = {at: "", node: ""}, {"": self.line_of(at)}
        waiting = [("", node)]
        while waiting and len(lines) <= MAX_VALUES:
            above, node = waiting.pop()
            for number, entry in enumerate(() if node.id == "scalar" else node.value):
                at, value = entry if node.id == "mapping" else (entry, entry)
                name = self.construct_object(at) if node.id == "mapping" else number
                part = path_text((name if isinstance(name, str) else shown(name),))
                path = f"{above}.{part}" if above else part
                paths[at] = paths[value] = path
                lines[path] = self.line_of(at)
                waiting.append((path, value))
        return paths, lines

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Called by `SafeLoader`; records what it cannot read, and continues without it."""
        if node.tag in _NUMBERS and node.id == "scalar" and len(node.value) > MAX_DIGITS:
            return node.value
        try:
            return super().construct_object(node, deep=True)
        except _FAILURES as error:
            self.recursive_objects.pop(node, None)
            self._failures[node] = error
            return node.value if node.id == "scalar" else None


def _unreadable(node: Any, error: Exception) -> str:
    if node.tag not in yaml.SafeLoader.yaml_constructors:
        return f"has the YAML tag {shown(node.tag)}, which is not taken here"
    if node.id == "scalar":
        kind = node.tag.replace(_TAG, "")
        return f"is {shown(node.value)}, which YAML cannot read as {kind}; quote it"
    if node.id == "mapping" and any(key.id != "scalar" for key, _value in node.value):
        return "has a list or mapping for a key; text with { or [ needs quotes"
    return f"is not YAML: {_problem(error)}"


def _problem(error: Exception) -> str:
    return one_line(getattr(error, "problem", None) or error)
