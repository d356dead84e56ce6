"""Save the applied stanza as JSON, and read it back in the next run.

The input is this package's own output, complete and valid.  Types are checked, so that a
damaged file gives an error, but there is no schema validation: importing jsonschema alone
would cost each event 40 ms.  Pure.
"""

from __future__ import annotations

import json
from dataclasses import fields
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Callable, TypeVar

from ..model import InterfaceStanza, Stanza, StanzaRoute

FAMILY_VERSIONS = {"ipv4": 4, "ipv6": 6}
"""The names of ``families`` and their IP versions."""

# The exceptions of reading a damaged file, where a value has an unexpected type.
_DAMAGED = (AttributeError, LookupError, RecursionError, TypeError, ValueError)
_T = TypeVar("_T")


def stanza_to_json(stanza: Stanza) -> str:
    """The complete text of a stanza; deterministic.

    Both `stanza_from_json` and `parse_stanza` accept it.
    """
    value = {
        "enabled": stanza.enabled,
        "renderer": stanza.renderer,
        "families": [name for name, ip in FAMILY_VERSIONS.items() if ip in stanza.families],
        "gateway_guess": stanza.gateway_guess,
        "rp_filter": stanza.rp_filter,
        "published_ports": stanza.published_ports,
        "published_ports_mark": stanza.published_ports_mark,
        "table_base": stanza.table_base,
        "rule_priority": stanza.rule_priority,
        "exclude": list(stanza.exclude),
        "interfaces": {entry.id: _interface_value(entry) for entry in stanza.interfaces},
    }
    return json.dumps(value, indent=2) + "\n"


def _interface_value(entry: InterfaceStanza) -> dict[str, Any]:
    match = {"name": entry.match_name, "macaddress": entry.match_macaddress}
    optional = {
        "match": {key: text for key, text in match.items() if text},
        "table": entry.table,
        "gateway4": entry.gateway4 and str(entry.gateway4),
        "gateway6": entry.gateway6 and str(entry.gateway6),
    }
    return {
        "enabled": entry.enabled,
        **{key: value for key, value in optional.items() if value},
        "on_link": entry.on_link,
        "sources": [str(network) for network in entry.sources],
        "routes": [
            {
                "to": str(route.to),
                **({"via": str(route.via)} if route.via else {}),
                "on_link": route.on_link,
            }
            for route in entry.routes
        ],
    }


def stanza_from_json(text: str) -> Stanza:
    """Read the output of `stanza_to_json`, also of an earlier release with fewer keys.

    Raises `ValueError` for any other text.
    """
    try:
        return _read(
            Stanza,
            json.loads(text),
            families=lambda names: frozenset(FAMILY_VERSIONS[name] for name in names),
            exclude=lambda globs: tuple(map(_of(str), globs)),
            interfaces=lambda entries: tuple(map(_interface, entries, entries.values())),
        )
    except _DAMAGED as error:
        raise ValueError(f"is no saved stanza ({error})") from None


def _interface(name: str, saved: dict[str, Any]) -> InterfaceStanza:
    match = {f"match_{key}": text for key, text in saved.get("match", {}).items()}
    others = {key: value for key, value in saved.items() if key != "match"}
    return _read(
        InterfaceStanza,
        {**others, **match, "id": name},
        id=_of(str),
        table=_of(int),
        gateway4=IPv4Address,
        gateway6=IPv6Address,
        routes=lambda routes: tuple(
            _read(StanzaRoute, route, to=ip_network, via=ip_address) for route in routes
        ),
        sources=lambda prefixes: tuple(map(ip_network, prefixes)),
    )


def _read(kind: Callable[..., _T], saved: dict[str, Any], **readers: Callable[[Any], Any]) -> _T:
    """An instance of the dataclass `kind`; a field without a reader has its default's type."""
    defaults = {field.name: field.default for field in fields(kind)}  # type: ignore[arg-type]
    values = {}
    for key, value in saved.items():
        read = readers[key] if key in readers else _of(type(defaults[key]))
        try:
            values[key] = read(value)
        except _DAMAGED as error:
            raise ValueError(f"{key}: {error}") from None
    return kind(**values)


def _of(kind: type) -> Callable[[Any], Any]:
    def same(value: Any) -> Any:
        if type(value) is not kind:  # not isinstance: a bool is an int
            raise ValueError(f"{type(value).__name__} instead of {kind.__name__}")
        return value

    return same
