"""What the user is told: a sentence for each violation of the stanza's schema.

One fault a path, the most telling one; unknown keys are told the nearest right
one.  Pure.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from ..text.names import exclude_glob_fault, id_fault, mac_fault, name_glob_fault, shown
from .interpreter import Path, Schema, Violation, repeated, unknown_keys

_PLAIN_PART = re.compile(r"[A-Za-z0-9_.@+-]{1,64}\Z")

# Of several violations at one path the first of these is told.
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

# What people write -> the key they mean, where likeness alone does not tell.
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
    """A path as users read it: ``interfaces.ens4.routes.0.via``; hostile keys are quoted."""
    return ".".join(
        part if isinstance(part, str) and _PLAIN_PART.match(part) else shown(part) for part in path
    )


def sentences(found: List[Violation], schema: Schema) -> Dict[Path, str]:
    """The one sentence for each faulty path."""
    told: Dict[Path, str] = {}
    for violation in sorted(found, key=lambda each: _PRECEDENCE.index(each.keyword)):
        for path, sentence in _explain(violation, schema):
            told.setdefault(path, sentence)
    return told


def odd_key_sentence(key: Any) -> str:
    """For a key that YAML did not read as a string."""
    if key is None:
        return "is an empty key, not a name"
    kind = "a number" if isinstance(key, (int, float)) else f"a {type(key).__name__}"
    if isinstance(key, bool):
        kind = "true or false"
    return f"is a key that YAML reads as {kind}; put it in quotes if that is its name"


def _explain(violation: Violation, schema: Schema) -> List[Tuple[Path, str]]:
    path, keyword, expected, found, around = violation
    if keyword == "additionalProperties":
        return [
            ((*path, key), _unknown_key(path, key, found[key], around, schema))
            for key in unknown_keys(around, found)
        ]
    if keyword == "required":
        return [
            ((*path, key), f"is missing; every entry of {path[-2]} needs it")
            for key in expected
            if key not in found
        ]
    if keyword == "uniqueItems":
        twice = repeated(found)
        return [(path, f"has {shown(twice[0])} more than once")] if twice else []
    return [(path, _TELLERS[keyword](violation))]


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


def _type_hint(names: List[str], found: Any, around: Schema, path: Path) -> str:
    if "array" in names and isinstance(found, str):
        return f"; write [{found}]" if _PLAIN_PART.match(found) else "; put it in [ ]"
    if "array" in names and isinstance(found, dict):
        return "; begin each entry with a dash"
    if "string" in names and isinstance(found, bool):
        choices = around.get("enum")
        told = f"one of {', '.join(choices)}" if choices else "a string in quotes"
        return f"; write {told} (YAML reads yes, no, on and off as true and false)"
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
    # Of numbers there are only masks.
    told = (f"{choice:#x}" if isinstance(choice, int) else choice for choice in choices)
    return f"is {shown(violation.found)}, not one of {', '.join(told)}{hint}"


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
    told = judge(found) if judge else ""
    return told or f"is {shown(found)}, which has not the form that is needed here"


_JUDGES: Dict[str, Callable[[str], str]] = {
    "exclude": exclude_glob_fault,
    "macaddress": mac_fault,
    "name": name_glob_fault,
}


def _max_items(violation: Violation) -> str:
    return f"has more than {violation.expected} entries"


_TELLERS: Dict[str, Callable[[Violation], str]] = {
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
    "maxItems": _max_items,
    "minProperties": lambda violation: "is an empty mapping; leave the key out or give it an entry",
    "maxProperties": _max_items,
}


# -- keys ---------------------------------------------------------------------------


def nearest_key(key: str, known: Mapping[str, Any], likeness: float = 0.6) -> Optional[str]:
    """The known key that was probably meant; 1 is the most alike."""
    plain = _plain(key)
    if plain in known:
        return plain
    if _ALIASES.get(plain) in known:
        return _ALIASES[plain]
    return _near(plain, list(known), likeness)


def _plain(key: str) -> str:
    """camelCase and dashes to this project's lower case with underscores."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key[:64]).replace("-", "_").lower()


def _near(word: str, known: List[str], likeness: float = 0.6) -> Optional[str]:
    close = get_close_matches(word[:64], known, n=1, cutoff=likeness)
    return close[0] if close else None


def _unknown_key(path: Path, key: str, value: Any, around: Schema, schema: Schema) -> str:
    if around.get("patternProperties"):
        return id_fault(key) or "is no name of an interface"
    known = around["properties"]
    plain = _plain(key)
    meant = _ALIASES.get(plain, plain)
    if meant == "gateway4" and isinstance(value, str) and ":" in value:
        plain = meant = "gateway6"
    if meant not in known:
        place = _place_of(meant, path, schema)
        if place:
            return f"does not belong here; did you mean {meant} in {place}?"
    near = nearest_key(plain, known)
    if near:
        return f"is not a known key; did you mean {near}?"
    if not path and isinstance(value, dict):
        return f"is not a known key; does it belong under interfaces? (known: {', '.join(known)})"
    return f"is not a known key (known: {', '.join(known)})"


def _place_of(key: str, path: Path, schema: Schema) -> str:
    """Where a key of another level belongs, told with this path's own interface."""
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
