"""A YAML or JSON text as a value with line numbers, read with distrust.

What a plain ``yaml.safe_load`` hides or chokes on is told instead: keys that
are there twice, tags and values that cannot be read, references that would
unfold to gigabytes.  Only the part that is asked for is turned into values.
Does no I/O and knows no stanza; PyYAML is imported when a text is YAML.
"""

from __future__ import annotations

import json
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple, Union

from ..errors import Fault
from ..text.names import shown
from .bounded import MAX_VALUES
from .bounded import Path as KeyPath
from .messages import path_text

Located = Tuple[Optional[int], Fault]

MAX_DIGITS = 100
"""Longer numbers stay strings: reading them takes quadratic time, or is an error."""

# 1 MiB of text has fewer; cloud-init follows references when it writes what it has gathered.
_MAX_EXPANDED = 1 << 20

_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"
# What SafeLoader's constructors raise for values that an explicit tag does not fit.
_UNREADABLE = (ValueError, OverflowError, TypeError, LookupError, AttributeError)


class Unreadable(Exception):
    """The text cannot be taken at all; carries the one fault."""

    def __init__(self, line: Optional[int], message: str, path: str = ""):
        self.located: Located = (line, Fault(path, message))
        super().__init__(message)


class Unbounded(Exception):
    """The text would unfold to more than this process bears; the rest of a sentence on it."""


class Document(NamedTuple):
    """The value under one key (or the whole), and what is wrong with its notation."""

    value: Any
    faults: Tuple[Located, ...]
    untold: frozenset  # paths whose values could not be read: no more to be said of them
    lines: Callable[[], Dict[str, int]]

    def line_of(self, path: str) -> Optional[int]:
        """The line of a dotted path, or of the nearest key above it."""
        lines = self.lines()
        while path not in lines and path:
            path = path.rpartition(".")[0]
        return lines.get(path)


class Json:
    """A JSON text; its line numbers need PyYAML, its values do not."""

    def __init__(self, text: str):
        self.text = text
        self.top = json.loads(text, object_pairs_hook=_Object, parse_int=_parse_int)
        self.keys: Tuple[Any, ...] = tuple(self.top) if isinstance(self.top, dict) else ()
        self.is_empty = False
        self.is_mapping = isinstance(self.top, dict)

    def take(self, key: Optional[str]) -> Document:
        value = self.top if key is None else self.top[key]

        def lines() -> Dict[str, int]:
            try:
                return Yaml(self.text, 0).take(key).lines()
            except (ImportError, Unreadable):
                return {}

        faults = [
            (None, Fault(path_text(path), "is there more than once")) for path in _twice(value)
        ]
        if key is not None and key in self.top.twice:
            faults.append((None, Fault("", f"{key} is there more than once")))
        return Document(value, tuple(faults), frozenset(), lines)

    def whole(self) -> Any:
        return self.top

    def has_text(self, key: Optional[str], *texts: str) -> bool:
        return any(text in self.text for text in texts)

    def line_of_key(self, key: str) -> Optional[int]:
        return None


class _Object(Dict[str, Any]):
    """A JSON object that remembers which keys it had more than once."""

    def __init__(self, pairs: List[Tuple[str, Any]]):
        super().__init__(pairs)
        names = [key for key, _value in pairs]
        self.twice = [key for key in self if names.count(key) > 1] if len(names) > len(self) else []


def _parse_int(digits: str) -> Union[int, str]:
    return int(digits) if len(digits) <= MAX_DIGITS else digits


def _twice(value: Any) -> Iterator[KeyPath]:
    waiting: List[Tuple[KeyPath, Any]] = [((), value)]
    while waiting:
        path, item = waiting.pop()
        if isinstance(item, _Object):
            yield from ((*path, key) for key in item.twice)
            waiting += [((*path, key), inner) for key, inner in item.items()]
        elif isinstance(item, list):
            waiting += [((*path, number), inner) for number, inner in enumerate(item)]


class Yaml:
    """A YAML text of one document; `offset` is how many lines of the file come before it."""

    def __init__(self, text: str, offset: int):
        import yaml

        self.offset = offset
        self.yaml = yaml
        try:
            self.loader = yaml.SafeLoader(text)
            self.root = self.loader.get_single_node()
        except yaml.reader.ReaderError as error:
            line = self._line(text.count("\n", 0, error.position))
            what = ascii(chr(error.character)) if isinstance(error.character, int) else "a byte"
            raise Unreadable(line, f"has the character {what}, which YAML forbids") from None
        except yaml.MarkedYAMLError as error:
            raise Unreadable(*self._told(error)) from None
        except RecursionError:
            raise Unreadable(None, "is nested too deeply") from None
        self.is_mapping = isinstance(self.root, yaml.MappingNode)
        self.is_empty = self.root is None or self.root.tag == _TAG + "null"
        pairs = self.root.value if self.is_mapping else []
        self.keys = tuple(key.value for key, _value in pairs if isinstance(key, yaml.ScalarNode))

    def take(self, key: Optional[str]) -> Document:
        faults: List[Located] = []
        node = self.root
        if key is not None:
            pairs = self._pairs(key)
            first, (again, node) = self._line(pairs[0][0].start_mark.line), pairs[-1]
            if len(pairs) > 1:
                line = self._line(again.start_mark.line)
                message = f"{key} is there more than once{_first_at(first)}"
                faults.append((line, Fault("", message)))
        survey = _Survey(self)
        survey.walk(node)
        faults += survey.faults
        lines = dict(survey.lines)
        if key is not None and self._line(0) is not None:
            lines[""] = self.offset + again.start_mark.line + 1
        value = None
        untold = frozenset(survey.untold)
        try:
            survey.refuse_bombs(lines.get(""))
            value = self.loader.construct_document(node)
        except Unreadable as error:
            faults.append(error.located)
            untold = frozenset(("",))
        except self.yaml.MarkedYAMLError as error:
            line, message = self._told(error)
            faults.append((line, Fault("", message)))
            untold = frozenset(("",))
        except (RecursionError, *_UNREADABLE):
            faults.append((lines.get(""), Fault("", f"{key or 'the file'} cannot be read as YAML")))
            untold = frozenset(("",))
        return Document(value, tuple(faults), untold, lambda: lines)

    def whole(self) -> Any:
        """All of it as ``yaml.safe_load`` has it.  `take` is no good any more afterwards.

        Raises `Unreadable` for what that would fail at and `Unbounded` for what would
        take it too much time or memory.
        """
        if self.root is None:
            return None
        self._refuse_endless()
        try:
            return self.loader.construct_document(self.root)
        except self.yaml.MarkedYAMLError as error:
            line, message = self._told(error)
            raise Unreadable(line, message.replace("is not YAML: ", "")) from None
        except RecursionError:
            raise Unreadable(None, "it is nested too deeply") from None
        except _UNREADABLE as error:
            told = " ".join(str(error).split())[:200]
            raise Unreadable(None, told.encode("ascii", "backslashreplace").decode()) from None

    def _refuse_endless(self) -> None:
        """Raise for what holds itself, and for what is huge once references are followed."""
        size: Dict[int, int] = {}
        mappings = []
        waiting = [(self.root, False)]
        while waiting:
            node, counted = waiting.pop()
            inner = self._inner(node)
            if counted:
                size[id(node)] = 1 + sum(size[id(one)] for one in inner)
                if size[id(node)] > _MAX_EXPANDED:
                    raise Unbounded(f"has more than {_MAX_EXPANDED} values behind its references")
            elif id(node) not in size:
                size[id(node)] = 0
                waiting += [(node, True), *((one, False) for one in inner)]
                if isinstance(node, self.yaml.MappingNode):
                    mappings.append(node)
                elif len(node.value) > MAX_DIGITS and node.tag in (_TAG + "int", _TAG + "float"):
                    raise Unbounded("has a number of many digits")
            elif size[id(node)] == 0:
                line = self._line(node.start_mark.line)
                raise Unreadable(line, "it has a value that holds itself")
        if _unfolded(mappings) - sum(len(node.value) for node in mappings) > MAX_VALUES:
            raise Unbounded(f"has more than {MAX_VALUES} values when its merges unfold")

    def _inner(self, node: Any) -> List[Any]:
        if isinstance(node, self.yaml.MappingNode):
            return [one for pair in node.value for one in pair]
        return node.value if isinstance(node, self.yaml.SequenceNode) else []

    def has_text(self, key: Optional[str], *texts: str) -> bool:
        """Whether a scalar under `key` has one of the texts."""
        survey = _Survey(self)
        for pair in self._pairs(key) if key in self.keys else ():
            survey.walk(pair[1])
        return survey.odd_keys or any(text in got for got in survey.scalars for text in texts)

    def line_of_key(self, key: str) -> Optional[int]:
        return self._line(self._pairs(key)[0][0].start_mark.line)

    def _pairs(self, key: Optional[str]) -> List[Any]:
        return [pair for pair in self.root.value if pair[0].value == key]

    def _line(self, line: int) -> Optional[int]:
        return self.offset + line + 1 if self.offset >= 0 else None

    def _told(self, error: Any) -> Tuple[Optional[int], str]:
        mark = error.problem_mark or error.context_mark
        problem = str(error.problem or error.context or "is no YAML")
        problem = problem.encode("ascii", "backslashreplace").decode("ascii").replace("\n", " ")
        hint = " (indent with spaces, not tabs)" if "'\\t'" in problem else ""
        return self._line(mark.line) if mark else None, f"is not YAML: {problem[:200]}{hint}"


class _Survey:
    """One look at every node below a node: lines, keys that are there twice, odd values."""

    def __init__(self, source: Yaml):
        self.source = source
        self.nodes = source.yaml.nodes
        self.known_tags = set(source.loader.yaml_constructors) - {None}
        self.faults: List[Located] = []
        self.lines: Dict[str, int] = {}
        self.untold: Set[str] = set()
        self.scalars: List[str] = []
        self.mappings: List[Any] = []
        self.odd_keys = False

    def walk(self, root: Any) -> None:
        waiting: List[Tuple[KeyPath, Any, Any]] = [((), root, root)]
        seen: Set[int] = set()
        while waiting:
            path, node, at = waiting.pop()
            line = self.source._line(at.start_mark.line)
            if line is not None:
                self.lines.setdefault(path_text(path), line)
            if id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, self.nodes.ScalarNode):
                self.scalars.append(node.value)
                self.scalar(path, node, line)
                continue
            self.known_tag(path, node, line)
            if isinstance(node, self.nodes.MappingNode):
                self.mappings.append(node)
                waiting += self.pairs(path, node)
            else:
                inner = enumerate(node.value)
                waiting += [((*path, number), item, item) for number, item in inner]

    def pairs(self, path: KeyPath, node: Any) -> Iterator[Tuple[KeyPath, Any, Any]]:
        first: Dict[Tuple[str, str], Any] = {}
        kept = []
        for key, value in node.value:
            line = self.source._line(key.start_mark.line)
            if not isinstance(key, self.nodes.ScalarNode):
                self.odd_keys = True
                message = "has a list or mapping for a key; text with { or [ needs quotes"
                self.faults.append((line, Fault(path_text(path), message)))
                continue
            kept.append((key, value))
            if key.tag == _MERGE:
                # Its keys are the mapping's own: only its notation is looked at.
                yield (*path, "<<"), value, key
                continue
            self.scalars.append(key.value)
            inner = (*path, self.key_part(key))
            before = first.setdefault((key.tag, key.value), key)
            if before is not key:
                told = _first_at(self.source._line(before.start_mark.line))
                fault = Fault(path_text(inner), f"is there more than once{told}")
                self.faults.append((line, fault))
            yield inner, value, key
        node.value = kept

    def key_part(self, key: Any) -> str:
        self.scalar((), key, None)
        if key.tag == _TAG + "str":
            return key.value
        return shown(self.source.loader.construct_object(key))

    def scalar(self, path: KeyPath, node: Any, line: Optional[int]) -> None:
        """Make a scalar constructible; what its tag does not fit is told, and then a string."""
        if node.tag == _TAG + "str" or node.tag == _MERGE:
            return
        if len(node.value) > MAX_DIGITS and node.tag in (_TAG + "int", _TAG + "float"):
            node.tag = _TAG + "str"
            return
        if not self.known_tag(path, node, line):
            return
        try:
            self.source.loader.construct_object(node)
        except (self.source.yaml.YAMLError, *_UNREADABLE):
            kind = node.tag.replace(_TAG, "")
            message = f"is {shown(node.value)}, which YAML cannot read as {kind}; quote it"
            self.tell(path, line, message)
            node.tag = _TAG + "str"
            # Else the loader takes the node for one that holds itself.
            self.source.loader.recursive_objects.pop(node, None)

    def known_tag(self, path: KeyPath, node: Any, line: Optional[int]) -> bool:
        if node.tag in self.known_tags:
            return True
        self.tell(path, line, f"has the YAML tag {shown(node.tag)}, which is not taken here")
        kinds = {self.nodes.MappingNode: "map", self.nodes.SequenceNode: "seq"}
        node.tag = _TAG + kinds.get(type(node), "str")
        return False

    def tell(self, path: KeyPath, line: Optional[int], message: str) -> None:
        self.faults.append((line, Fault(path_text(path), message)))
        self.untold.add(path_text(path))

    def refuse_bombs(self, line: Optional[int]) -> None:
        if _unfolded(self.mappings) > MAX_VALUES:
            raise Unreadable(line, f"has more than {MAX_VALUES} values when its merges unfold")


def _unfolded(mappings: List[Any]) -> int:
    """How many values these mappings have once merge keys have copied theirs into them.

    A few lines of them may unfold to any size.
    """
    size: Dict[int, int] = {}
    # What a mapping merges ends before it does: an earlier anchor, or within itself.
    for node in sorted(mappings, key=lambda one: (one.end_mark.index, -one.start_mark.index)):
        size[id(node)] = len(node.value)
        for key, value in node.value:
            if key.tag == _MERGE:
                merged = value.value if value.id == "sequence" else [value]
                size[id(node)] += sum(size.get(id(other), 0) for other in merged)
    return sum(size.values())


def _first_at(line: Optional[int]) -> str:
    return f" (first at line {line})" if line is not None else ""
