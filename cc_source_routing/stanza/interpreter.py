"""Whether a value has the shape that a JSON schema tells, as data, with and without jsonschema.

`violations` answers the same either way: every violation with its path, never
a sentence (that is `faulttext`'s).  `bounded` first makes a copy that neither
size nor depth nor odd types can turn into a hang, and that may be changed.
Pure; knows nothing of what the schema is about.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Set, Tuple, Union

from ..text.names import shown

Path = Tuple[Union[str, int], ...]
Schema = Mapping[str, Any]

MAX_VALUES = 100_000
"""More values than this are no configuration; a 1000 NICs with 30 routes each fit."""
MAX_LIST = 1001
"""Lists are cut here; every list of the schema has a smaller maxItems, which then tells."""
MAX_DEPTH = 7
"""Deeper than the schema: containers at this depth are wrong by their type alone."""
MAX_NUMBER = 10**21
"""Numbers are clamped here: str() of one with thousands of digits is an error in Python."""

KEYWORDS = frozenset(
    """additionalProperties enum items maxItems maxLength maxProperties maximum minItems
    minProperties minimum not pattern patternProperties properties required type uniqueItems
    """.split()
)
ANNOTATIONS = frozenset(("$schema", "title", "description", "default", "format"))


class Violation(NamedTuple):
    """One keyword of the schema that the value at `path` does not satisfy."""

    path: Path
    keyword: str
    expected: Any  # the keyword's own value in the schema
    found: Any  # the value at `path`
    around: Schema  # the schema that has the keyword


class Oversize(Exception):
    """The value has more than `MAX_VALUES` values."""


class Bounded(NamedTuple):
    value: Any
    order: Dict[Path, int]  # where each path comes in the document
    odd_keys: Tuple[Tuple[Path, Any], ...]  # keys that are no strings, left out: path, key


def bounded(value: Any) -> Bounded:
    """A copy of `value` that is safe to look at; raises `Oversize`."""
    order: Dict[Path, int] = {}
    odd: List[Tuple[Path, Any]] = []

    def copy(item: Any, path: Path) -> Any:
        order[path] = len(order)
        if len(order) > MAX_VALUES:
            raise Oversize
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
        if isinstance(item, int) and not isinstance(item, bool):
            return max(-MAX_NUMBER, min(MAX_NUMBER, item))
        return item

    return Bounded(copy(value, ()), order, tuple(odd))


def violations(schema: Schema, value: Any, use_jsonschema: bool = True) -> List[Violation]:
    """All violations of `value` (out of `bounded`), by jsonschema where it is installed."""
    if use_jsonschema:
        try:
            import jsonschema
        except ImportError:
            pass
        else:
            validator = jsonschema.Draft4Validator(schema)
            return [
                Violation(
                    tuple(error.absolute_path),
                    error.validator,
                    error.validator_value,
                    error.instance,
                    error.schema,
                )
                for error in validator.iter_errors(value)
            ]
    return list(_walk(schema, value, ()))


# -- the interpreter of exactly the keywords in use ----------------------------------

TYPES: Dict[str, Callable[[Any], bool]] = {
    "array": lambda value: isinstance(value, list),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "string": lambda value: isinstance(value, str),
}

# Keyword -> the type it speaks of, and whether (its value, the value) is well.
_TESTS: Dict[str, Tuple[str, Callable[[Any, Any], bool]]] = {
    "minimum": ("number", lambda limit, value: value >= limit),
    "maximum": ("number", lambda limit, value: value <= limit),
    "maxLength": ("string", lambda limit, value: len(value) <= limit),
    "pattern": ("string", lambda pattern, value: re.search(pattern, value) is not None),
    "minItems": ("array", lambda limit, value: len(value) >= limit),
    "maxItems": ("array", lambda limit, value: len(value) <= limit),
    "uniqueItems": ("array", lambda wanted, value: not (wanted and repeated(value))),
    "minProperties": ("object", lambda limit, value: len(value) >= limit),
    "maxProperties": ("object", lambda limit, value: len(value) <= limit),
    "required": ("object", lambda names, value: all(name in value for name in names)),
}


def _walk(schema: Schema, value: Any, path: Path) -> Iterator[Violation]:
    unknown = set(schema) - KEYWORDS - ANNOTATIONS
    if unknown:
        raise NotImplementedError(f"schema keywords {sorted(unknown)}")
    for keyword, expected in schema.items():
        if not _satisfied(keyword, expected, value, schema):
            yield Violation(path, keyword, expected, value, schema)
    if isinstance(value, dict):
        for key, inner in value.items():
            for subschema in schemas_of(schema, key):
                yield from _walk(subschema, inner, (*path, key))
    elif isinstance(value, list) and "items" in schema:
        for number, inner in enumerate(value):
            yield from _walk(schema["items"], inner, (*path, number))


def _satisfied(keyword: str, expected: Any, value: Any, schema: Schema) -> bool:
    if keyword == "type":
        names = [expected] if isinstance(expected, str) else expected
        return any(TYPES[name](value) for name in names)
    if keyword == "enum":
        return value in expected
    if keyword == "not":
        return any(True for _ in _walk(expected, value, ()))
    if keyword == "additionalProperties":
        return not (isinstance(value, dict) and unknown_keys(schema, value))
    if keyword in _TESTS:
        of_type, test = _TESTS[keyword]
        return not TYPES[of_type](value) or test(expected, value)
    return True


# -- small questions about schemas and values ------------------------------------------


def schemas_of(schema: Schema, key: str) -> List[Schema]:
    """The schemas that speak of the value of `key`; none when the key is unknown."""
    found = []
    if key in schema.get("properties", {}):
        found.append(schema["properties"][key])
    for pattern, subschema in schema.get("patternProperties", {}).items():
        if re.search(pattern, key):
            found.append(subschema)
    return found


def unknown_keys(schema: Schema, value: Mapping[str, Any]) -> List[str]:
    """The keys of `value` that `additionalProperties: false` forbids."""
    return [key for key in value if not schemas_of(schema, key)]


def repeated(items: List[Any]) -> List[str]:
    """Strings that a list has more than once, each named once (other types are no business)."""
    seen: Set[str] = set()
    twice: Dict[str, None] = {}
    for item in items:
        if isinstance(item, str):
            if item in seen:
                twice[item] = None
            seen.add(item)
    return list(twice)
