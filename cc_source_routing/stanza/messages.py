"""Turn jsonschema's errors into sentences about a stanza.

Each path gets one fault, the most informative one; an unknown key gets the nearest
known one.  jsonschema's own messages ("is not valid under", "does not match") are
not used, only the attributes of its errors (python-jsonschema's documentation,
"Handling Validation Errors"), which are the same from 3.2 to 4.  Pure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from ..text.names import exclude_glob_fault, id_fault, mac_fault, name_glob_fault, shown
from .bounded import Path

if TYPE_CHECKING:
    from jsonschema import ValidationError

Schema = Mapping[str, Any]

_PLAIN_PART = re.compile(r"[A-Za-z0-9_.@+-]{1,64}\Z")

# Of several violations at one path the first of these is reported.
_PRECEDENCE = (
    "type",
    "enum",
    "not",
    "minimum",
    "maximum",
    "pattern",
    "maxLength",
    "minItems",
    "uniqueItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
    "additionalProperties",
)

_TYPE_WORDS = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "object": "a mapping",
    "string": "a string",
}

# What users write -> the key they mean, where similarity alone does not find it.
_ALIASES = {
    "active": "enabled",
    "address": "macaddress",
    "backend": "renderer",
    "base_table": "table_base",
    "destination": "to",
    "devices": "interfaces",
    "dst": "to",
    "family": "families",
    "gateway": "gateway4",
    "gateway_ipv4": "gateway4",
    "gateway_ipv6": "gateway6",
    "gateways": "gateway4",
    "gw": "gateway4",
    "gw4": "gateway4",
    "gw6": "gateway6",
    "hwaddr": "macaddress",
    "hwaddress": "macaddress",
    "ignore": "exclude",
    "mac": "macaddress",
    "next_hop": "via",
    "nexthop": "via",
    "nics": "interfaces",
    "priority": "rule_priority",
    "route": "routes",
    "table_id": "table",
    "target": "to",
}


def path_text(path: Path) -> str:
    """A path for users: ``interfaces.ens4.routes.0.via``; hostile keys are quoted."""
    return ".".join(
        part if isinstance(part, str) and _PLAIN_PART.match(part) else shown(part) for part in path
    )


class Violation(NamedTuple):
    """One keyword of the schema that the value at `path` does not satisfy."""

    path: Path
    keyword: str
    expected: Any  # the keyword's own value in the schema
    found: Any  # the value at `path`; None for a missing key
    around: Schema  # the schema that has the keyword


def violations(errors: Iterable[ValidationError]) -> dict[Path, Violation]:
    """The one violation to report at each faulty path."""
    every = [violation for error in errors for violation in _violations(error)]
    chosen: dict[Path, Violation] = {}
    for violation in sorted(every, key=lambda each: _PRECEDENCE.index(each.keyword)):
        chosen.setdefault(violation.path, violation)
    return chosen


def sentence(violation: Violation, schema: Schema) -> str:
    """The message for a violation; `schema` is the complete schema."""
    if violation.keyword == "additionalProperties":
        return _unknown_key(violation, schema)
    return _SENTENCES[violation.keyword](violation)


def odd_key_sentence(key: Any) -> str:
    """The message for a key that YAML does not read as a string."""
    if key is None:
        return "is an empty key, not a name"
    kind = "a number" if isinstance(key, (int, float)) else f"a {type(key).__name__}"
    if isinstance(key, bool):
        kind = "true or false"
    return f"is a key that YAML reads as {kind}; put it in quotes if that is its name"


def _violations(error: ValidationError) -> Iterator[Violation]:
    """The violations of one error, one for each key."""
    # jsonschema's type hints make these optional; a validation error has them all.
    around: Any = error.schema
    keyword: Any = error.validator
    found: Any = error.instance
    expected: Any = error.validator_value
    path = tuple(error.absolute_path)
    if keyword == "additionalProperties":
        patterns = "|".join(around.get("patternProperties", ())) or "(?!)"
        for key, value in found.items():
            if key not in around.get("properties", ()) and not re.search(patterns, key):
                yield Violation((*path, key), keyword, expected, value, around)
    elif keyword == "required":
        for key in expected:
            if key not in found:
                yield Violation((*path, key), keyword, expected, None, around)
    elif keyword != "uniqueItems" or _repeated(found):
        yield Violation(path, keyword, expected, found, around)


# -- values -------------------------------------------------------------------------


def _type(violation: Violation) -> str:
    path, _keyword, expected, found, around = violation
    names = [expected] if isinstance(expected, str) else list(expected)
    what = " or ".join(_TYPE_WORDS[name] for name in reversed(names))
    if not path:
        what = "true, false or a mapping of settings"
    return f"must be {what}, not {_kind(found)}{_type_hint(names, found, around, path)}"


def _kind(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return f"the string {shown(value)}"
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) >= 10**20):
        return shown(value)
    if isinstance(value, (int, float)):
        return f"the number {shown(value)}"
    return f"a {type(value).__name__}"


def _type_hint(names: list[str], found: Any, around: Schema, path: Path) -> str:
    if "array" in names and isinstance(found, str):
        return f"; write [{found}]" if _PLAIN_PART.match(found) else "; put it in [ ]"
    if "array" in names and isinstance(found, dict):
        return "; begin each entry with a dash"
    if "string" in names and isinstance(found, bool):
        choices = around.get("enum")
        words = f"one of {', '.join(choices)}" if choices else "a string in quotes"
        return f"; write {words} (YAML reads yes, no, on and off as true and false)"
    if "string" in names and path and path[-1] == "macaddress" and found is not None:
        return "; put the MAC address in quotes (YAML reads 52:54:00:12:34:56 as a number)"
    if "string" in names and isinstance(found, (int, float)):
        return "; put it in quotes"
    if isinstance(found, str) and "integer" in names and re.match(r"[0-9]{1,10}\Z", found):
        return "; leave out the quotes"
    if isinstance(found, str) and "boolean" in names and found.lower() in ("true", "false"):
        return "; leave out the quotes"
    return ""


def _enum(violation: Violation) -> str:
    choices = violation.expected
    words = [choice for choice in choices if isinstance(choice, str)]
    near = _near(violation.found, words) if isinstance(violation.found, str) else None
    hint = f"; did you mean {near}?" if near else ""
    # The only numeric choices are masks.
    listed = (f"{choice:#x}" if isinstance(choice, int) else choice for choice in choices)
    return f"is {shown(violation.found)}, not one of {', '.join(listed)}{hint}"


def _not(violation: Violation) -> str:
    names = {253: "default", 254: "main", 255: "local"}
    table = violation.found
    return f"is {table}, which is the system's own table {names.get(table, '')}; take another"


def _limit(violation: Violation) -> str:
    schema, found = violation.around, violation.found
    low, high = schema.get("minimum"), schema.get("maximum")
    why = ""
    key = violation.path[-1] if violation.path else ""
    if key == "table_base" and isinstance(found, (int, float)):
        why = (
            " (tables 0 and 253 to 255 are the system's)"
            if found < 256
            else " (1000 tables must fit below 4294967296)"
        )
    if key == "rule_priority" and isinstance(found, (int, float)) and found > 0:
        why = " (five stages must fit before the main table's rule at 32766)"
    if key == "table" and found == 0:
        why = " (table 0 means none to the kernel)"
    return f"is {shown(found)}, not within {low} to {high}{why}"


def _pattern(violation: Violation) -> str:
    path, found = violation.path, violation.found
    judge = _JUDGES.get(str(path[-1]) if path and isinstance(path[-1], str) else "exclude")
    fault = judge(found) if judge else ""
    return fault or f"is {shown(found)}, which has not the form that is needed here"


_JUDGES: dict[str, Callable[[str], str]] = {
    "exclude": exclude_glob_fault,
    "macaddress": mac_fault,
    "name": name_glob_fault,
}


def _repeated(items: list[Any]) -> list[str]:
    """Strings that occur in a list more than once; other types have their own fault."""
    counts = Counter(item for item in items if isinstance(item, str))
    return [item for item, count in counts.items() if count > 1]


def _entries(violation: Violation) -> str:
    return f"has more than {violation.expected} entries"


_SENTENCES: dict[str, Callable[[Violation], str]] = {
    "type": _type,
    "enum": _enum,
    "not": _not,
    "minimum": _limit,
    "maximum": _limit,
    "pattern": _pattern,
    "maxLength": lambda violation: (
        f"is {shown(violation.found)}, longer than {violation.expected} characters"
    ),
    "minItems": lambda violation: "is an empty list; leave the key out or give it an entry",
    "maxItems": _entries,
    "uniqueItems": lambda violation: f"has {shown(_repeated(violation.found)[0])} more than once",
    "minProperties": lambda violation: "is an empty mapping; leave the key out or give it an entry",
    "maxProperties": _entries,
    "required": lambda violation: f"is missing; every entry of {violation.path[-3]} needs it",
}


# -- keys ---------------------------------------------------------------------------


def nearest_key(key: str, known: Mapping[str, Any], likeness: float = 0.6) -> str | None:
    """The known key that was probably meant; likeness 1 means equal."""
    plain = _plain(key)
    if plain in known:
        return plain
    if _ALIASES.get(plain) in known:
        return _ALIASES[plain]
    return _near(plain, list(known), likeness)


def _plain(key: str) -> str:
    """Convert camelCase and dashes to lower case with underscores."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key[:64]).replace("-", "_").lower()


def _near(word: str, known: list[str], likeness: float = 0.6) -> str | None:
    close = get_close_matches(word[:64], known, n=1, cutoff=likeness)
    return close[0] if close else None


def _unknown_key(violation: Violation, schema: Schema) -> str:
    *path, key = violation.path
    key, value, around = str(key), violation.found, violation.around
    if around.get("patternProperties"):
        return id_fault(key) or "is no name of an interface"
    known = around["properties"]
    plain = _plain(key)
    meant = _ALIASES.get(plain, plain)
    if meant == "gateway4" and isinstance(value, str) and ":" in value:
        plain = meant = "gateway6"
    if meant not in known:
        place = _place_of(meant, tuple(path), schema)
        if place:
            return f"does not belong here; did you mean {meant} in {place}?"
    near = nearest_key(plain, known)
    if near:
        return f"is not a known key; did you mean {near}?"
    if not path and isinstance(value, dict):
        return f"is not a known key; does it belong under interfaces? (known: {', '.join(known)})"
    return f"is not a known key (known: {', '.join(known)})"


def _place_of(key: str, path: Path, schema: Schema) -> str:
    """The path where a key of another level belongs, with this path's interface name."""
    nic = path_text(path[:2]) if len(path) >= 2 else "interfaces.NIC"
    entry = next(iter(schema["properties"]["interfaces"]["patternProperties"].values()))
    levels = [
        ("the top level of source_routing", schema),
        (nic, entry),
        (f"{nic}.match", entry["properties"]["match"]),
        (f"{nic}.routes", entry["properties"]["routes"]["items"]),
    ]
    places = [place for place, level in levels if key in level["properties"]]
    return " or ".join(places)
