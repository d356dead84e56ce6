"""Read an untrusted YAML (and so also JSON) text as values with line numbers.

PyYAML's nodes have the lines, and its ``SafeLoader`` makes the values, as in cloud-init.
This module records what ``yaml.safe_load`` hides or stops at: duplicate keys, unreadable
tags and values, anchors and merges that would expand to gigabytes.  No I/O.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import yaml

from ..errors import Fault, StanzaError, stanza_error
from ..text.names import one_line, shown
from .bounded import MAX_VALUES
from .messages import path_text

MAX_DIGITS = 100
"""Longer numbers stay strings: reading them takes quadratic time, or is an error."""
MAX_UNFOLDED = 1 << 20
"""Values once references are followed, as cloud-init does; 1 MiB of text has fewer without."""

_TAG = "tag:yaml.org,2002:"
_NUMBERS = (_TAG + "int", _TAG + "float")
# What SafeLoader's constructors raise, besides its own errors, for values that do not fit a tag.
_FAILURES = (yaml.YAMLError, ValueError, OverflowError, TypeError, LookupError, AttributeError)


class Unbounded(Exception):
    """The text would expand beyond what this process can hold; the message ends a sentence."""


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


class _Loader(yaml.SafeLoader):
    """A ``SafeLoader`` that records what it cannot read, and continues without it."""

    def __init__(self, text: str):
        super().__init__(text)
        self.failures: list[tuple[Any, Exception]] = []

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        if node.tag in _NUMBERS and node.id == "scalar" and len(node.value) > MAX_DIGITS:
            return node.value
        try:
            return super().construct_object(node, deep=True)
        except _FAILURES as error:
            self.recursive_objects.pop(node, None)
            self.failures.append((node, error))
            return node.value if node.id == "scalar" else None


class Yaml:
    """One document; `offset` is the number of lines of the file before it.

    An offset of -1 means that the text is not literally in the file and has no line numbers.
    Raises `StanzaError` if the text is not YAML.
    """

    def __init__(self, text: str, offset: int):
        self.offset = offset
        self.root: Any = None
        """The document's node; None for an empty text."""
        self.keys: dict[str, list[tuple[Any, Any]]] = {}
        """The nodes of each key on top and of its values, as often as it is there."""
        self._sizes: dict[int, int] = {}
        self._merged = 0
        self._twice: list[tuple[Any, Any]] = []
        try:
            self._loader = _Loader(text)
            self.root = self._loader.get_single_node()
        except yaml.reader.ReaderError as error:
            line = self._line(text.count("\n", 0, error.position))
            what = ascii(chr(error.character)) if isinstance(error.character, int) else "a byte"
            raise stanza_error(f"has the character {what}, which YAML forbids", line) from None
        except yaml.MarkedYAMLError as error:
            problem, mark = _problem(error), error.problem_mark or error.context_mark
            hint = " (indent with spaces, not tabs)" if "'\\t'" in problem else ""
            line = self._line(mark.line) if mark else None
            raise stanza_error(f"is not YAML: {problem}{hint}", line) from None
        except RecursionError:
            raise stanza_error("is nested too deeply") from None
        self.is_mapping = isinstance(self.root, yaml.MappingNode)
        self.is_empty = self.root is None or self.root.tag == _TAG + "null"
        for key, value in self.root.value if self.is_mapping else ():
            if key.id == "scalar":
                self.keys.setdefault(key.value, []).append((key, value))

    def take(self, key: str | None) -> Document:
        """The value of `key`, or of the whole for None; call it before `whole`, not after."""
        at, node = self.keys[key][-1] if key is not None else (self.root, self.root)
        document = Document(None, [], set(), {"": self.line_of(at)})
        if key is not None and len(self.keys[key]) > 1:
            message = f"{key} {self._more_than_once(self.keys[key][0][0])}"
            document.faults.append(Fault("", message, self.line_of(at)))
        try:
            document = document._replace(value=self._construct(node))
        except (StanzaError, Unbounded) as error:
            document.faults.append(Fault("", str(error), self.line_of(at)))
            document.unread.add("")
            return document
        failures = {id(one): (one, why) for one, why in self._loader.failures}
        paths = self._find(node, document.lines)
        for again, first in self._twice:
            message = self._more_than_once(first)
            document.faults.append(Fault(paths.get(id(again), ""), message, self.line_of(again)))
        for wrong, why in failures.values():
            path = paths.get(id(wrong), "")
            document.unread.add(path)
            document.faults.append(Fault(path, self._unreadable(wrong, why), self.line_of(wrong)))
        return document

    def whole(self) -> Any:
        """The complete value, as from ``yaml.safe_load``.

        Raises `StanzaError` where that would fail, and `Unbounded` where it would take too
        much time or memory.
        """
        value = self._construct(self.root) if self.root is not None else None
        for node, error in self._loader.failures:
            raise stanza_error(_problem(error), self.line_of(node))
        return value

    def _construct(self, node: Any) -> Any:
        try:
            self._measure(node)
            return self._loader.construct_document(node)
        except RecursionError:
            raise Unbounded("is nested too deeply") from None

    def _measure(self, node: Any) -> int:
        """The number of values of `node` with its references expanded; visits each node once."""
        size = self._sizes.get(id(node))
        if size is None:
            self._sizes[id(node)] = 0  # until known; only nodes inside it can see this value
            inner = () if node.id == "scalar" else node.value
            if node.id == "mapping":
                inner = [one for pair in node.value for one in pair]
                first: dict[tuple[str, str], Any] = {}
                for key, value in node.value:
                    before = first.setdefault((key.tag, str(key.value)), key)
                    if key.tag == _TAG + "merge":
                        self._merged += self._measure(value)
                    elif before is not key:
                        self._twice.append((key, before))
            size = self._sizes[id(node)] = 1 + sum(map(self._measure, inner))
        elif size == 0:
            raise stanza_error("it has a value that holds itself", self.line_of(node))
        if max(size, self._merged) > MAX_UNFOLDED:
            raise Unbounded(
                f"has more than {MAX_UNFOLDED} values when its anchors and merges unfold"
            )
        return size

    def _find(self, node: Any, lines: dict[str, int | None]) -> dict[int, str]:
        """The dotted path of each node below `node`; adds the lines of those paths to `lines`."""
        paths: dict[int, str] = {id(node): ""}
        waiting: list[Any] = [((), node)]
        while waiting and len(lines) <= MAX_VALUES:
            path, node = waiting.pop()
            inner: list[Any] = []
            if node.id == "mapping":
                inner = [(self._part(key), key, value) for key, value in node.value]
            elif node.id == "sequence":
                inner = [(number, item, item) for number, item in enumerate(node.value)]
            for part, at, value in inner:
                text = path_text((*path, part))
                lines[text] = self.line_of(at)
                paths[id(at)] = paths[id(value)] = text
                waiting.append(((*path, part), value))
        return paths

    def _part(self, key: Any) -> str:
        name = self._loader.construct_object(key)
        return name if isinstance(name, str) else shown(name)

    def _unreadable(self, node: Any, error: Exception) -> str:
        if node.tag not in self._loader.yaml_constructors:
            return f"has the YAML tag {shown(node.tag)}, which is not taken here"
        if node.id == "scalar":
            kind = node.tag.replace(_TAG, "")
            return f"is {shown(node.value)}, which YAML cannot read as {kind}; quote it"
        if node.id == "mapping" and any(key.id != "scalar" for key, _value in node.value):
            return "has a list or mapping for a key; text with { or [ needs quotes"
        return f"is not YAML: {_problem(error)}"

    def _more_than_once(self, first: Any) -> str:
        line = self.line_of(first)
        return "is there more than once" + (f" (first at line {line})" if line else "")

    def line_of(self, node: Any) -> int | None:
        return self._line(node.start_mark.line)

    def _line(self, line: int) -> int | None:
        return self.offset + line + 1 if self.offset >= 0 else None


def _problem(error: Exception) -> str:
    return one_line(getattr(error, "problem", None) or error)
