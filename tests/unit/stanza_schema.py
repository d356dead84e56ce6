"""The stanza's schema, and all of its keys."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cc_source_routing import stanza

SCHEMA = json.loads(Path(stanza.__file__).with_name("stanza.schema.json").read_text("utf-8"))


def schema_keys() -> dict[str, Any]:
    """Each key's dotted path and subschema; ``*`` is an interface name or a list position."""
    return dict(_keys(SCHEMA, ""))


def _keys(schema: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, inner in schema.get("properties", {}).items():
        yield prefix + key, inner
        yield from _keys(inner, f"{prefix}{key}.")
    for inner in schema.get("patternProperties", {}).values():
        yield from _keys(inner, f"{prefix}*.")
    if "items" in schema:
        yield from _keys(schema["items"], f"{prefix}*.")
