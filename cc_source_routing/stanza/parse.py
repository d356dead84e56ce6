"""The ``source_routing:`` stanza: from a hostile value to a validated `Stanza`.

Shape, types and defaults are told by ``stanza.schema.json`` alone; here is
what a schema cannot say: families that do not fit, prefixes with host bits,
two entries for one NIC.  What only the host can tell (is the gateway in a
subnet of the NIC?) is the planner's.  Pure but for reading the schema.
"""

from __future__ import annotations

import json
import pkgutil
from functools import cache
from typing import Any, Dict, Iterator, List, Mapping, Optional, Set, Tuple

from ..errors import Fault, StanzaError
from ..model import InterfaceStanza, IPNetwork, Stanza, StanzaRoute
from ..text.names import (
    destination,
    edge_of,
    gateway,
    interface_name_fault,
    is_glob,
    mac_fault,
    name_glob_fault,
    normal_mac,
    source_prefix,
)
from .interpreter import MAX_VALUES, Oversize, Path, Schema, bounded, violations
from .messages import odd_key_sentence, path_text, sentences

MAX_FAULTS = 50
"""More faults than this are counted, not told."""

_FAMILY_VERSIONS = {"ipv4": 4, "ipv6": 6}


class _Bad:
    """Stands for a value that is there but already told to be wrong."""


_BAD = _Bad()


def parse_stanza(value: Any, *, use_jsonschema: bool = True) -> Stanza:
    """The stanza that `value` (parsed YAML or JSON) tells, every default filled in.

    ``true`` and an empty mapping are all defaults; ``false`` and ``enabled:
    false`` are a `Stanza` that is off, after the rest was checked all the same.
    Raises `StanzaError` with every fault in the order of the document.
    """
    stanza, faults = check_stanza(value, use_jsonschema=use_jsonschema)
    if faults:
        raise StanzaError(limit_faults(faults))
    return stanza


def check_stanza(value: Any, *, use_jsonschema: bool = True) -> Tuple[Stanza, List[Fault]]:
    """As `parse_stanza`, but gives all faults, however many; with any, the stanza means nothing."""
    # The common two need no schema, and so no import of jsonschema.
    if value is True or value is False:
        return Stanza(enabled=value), []
    try:
        limited = bounded(value)
    except Oversize:
        fault = Fault("", f"source_routing is too large: it has more than {MAX_VALUES} values")
        return Stanza(), [fault]
    told: Dict[Path, str] = {path: odd_key_sentence(key) for path, key in limited.odd_keys}
    schema = _schema()
    found = violations(schema, limited.value, use_jsonschema)
    told = {**sentences(found, schema), **told}
    stanza = Stanza()
    if () not in told:
        _blot(limited.value, told)
        stanza = _Reader(told).stanza(limited.value)
    return stanza if stanza.enabled else Stanza(enabled=False), _faults(told, limited.order)


def limit_faults(faults: List[Fault]) -> List[Fault]:
    """The first `MAX_FAULTS` and how many more there are."""
    if len(faults) <= MAX_FAULTS:
        return faults
    return [*faults[:MAX_FAULTS], Fault("", f"and {len(faults) - MAX_FAULTS} more faults")]


def stanza_to_json(stanza: Stanza) -> str:
    """The canonical, complete text of a stanza; `parse_stanza` reads the same stanza from it."""
    value = {
        "enabled": stanza.enabled,
        "renderer": stanza.renderer,
        "families": [name for name, ip in _FAMILY_VERSIONS.items() if ip in stanza.families],
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


def schema_defaults() -> Dict[str, Any]:
    """The default of each top-level key."""
    properties = _schema()["properties"]
    return json.loads(json.dumps({key: told["default"] for key, told in properties.items()}))


def schema_keys() -> Dict[str, Schema]:
    """Every key's dotted path and its part of the schema; ``*`` is an interface or a number."""
    return dict(_keys(_schema(), ""))


def _keys(schema: Schema, prefix: str) -> Iterator[Tuple[str, Schema]]:
    for key, inner in schema.get("properties", {}).items():
        yield prefix + key, inner
        yield from _keys(inner, f"{prefix}{key}.")
    for inner in schema.get("patternProperties", {}).values():
        yield from _keys(inner, f"{prefix}*.")
    if "items" in schema:
        yield from _keys(schema["items"], f"{prefix}*.")


@cache
def _schema() -> Mapping[str, Any]:
    data = pkgutil.get_data(__package__, "stanza.schema.json")
    if data is None:
        raise FileNotFoundError("stanza.schema.json is not in the package")
    return json.loads(data)


def _interface_value(entry: InterfaceStanza) -> Dict[str, Any]:
    match = {"name": entry.match_name, "macaddress": entry.match_macaddress}
    optional = {
        "match": {key: text for key, text in match.items() if text},
        "table": entry.table,
        "gateway4": entry.gateway4 and str(entry.gateway4),
        "gateway6": entry.gateway6 and str(entry.gateway6),
    }
    return {
        "enabled": entry.enabled,
        **{key: told for key, told in optional.items() if told},
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


def _blot(value: Any, told: Mapping[Path, str]) -> None:
    """Put `_BAD` where something is wrong, so that nothing is told twice."""
    for path in sorted(told, key=len, reverse=True):
        parent = value
        for part in path[:-1]:
            parent = parent[part]
        parent[path[-1]] = _BAD


def _faults(told: Mapping[Path, str], order: Mapping[Path, int]) -> List[Fault]:
    def place(path: Path) -> Tuple[int, str]:
        known = path
        while known not in order:  # a missing key: where its mapping is
            known = known[:-1]
        return order[known], path_text(path)

    paths = sorted(told, key=place)
    return [
        Fault(path_text(path), told[path] if path else f"source_routing {told[path]}")
        for path in paths
    ]


class _Reader:
    """Builds the stanza from a value of the right shape and tells what else is wrong."""

    def __init__(self, told: Dict[Path, str]):
        self.told = told
        self.versions: Set[int] = set(_FAMILY_VERSIONS.values())
        self.claims: Dict[Tuple[str, str], Path] = {}  # (name or MAC) -> entry
        self.tables: Dict[int, str] = {}
        self.taken: Dict[IPNetwork, Path] = {}  # sources -> where

    def say(self, path: Path, sentence: str) -> None:
        if sentence:
            self.told.setdefault(path, sentence)

    def stanza(self, value: Mapping[str, Any]) -> Stanza:
        got = {**schema_defaults(), **value}
        families, exclude, entries = got["families"], got["exclude"], got["interfaces"]
        if families is not _BAD and _BAD not in families:
            self.versions = {_FAMILY_VERSIONS[family] for family in families}
        interfaces = []
        for key, raw in entries.items() if entries is not _BAD else ():
            # Left out when its shape is wrong or, as an unknown key, its name.
            if raw is not _BAD:
                interfaces.append(self.interface(key, raw))
        return Stanza(
            enabled=got["enabled"],
            renderer=got["renderer"],
            families=frozenset(self.versions),
            gateway_guess=got["gateway_guess"],
            rp_filter=got["rp_filter"],
            published_ports=got["published_ports"],
            published_ports_mark=got["published_ports_mark"],
            table_base=got["table_base"],
            rule_priority=got["rule_priority"],
            # Only MAC addresses have colons, and those are lower case here.
            exclude=()
            if exclude is _BAD
            else tuple(
                glob.lower() if isinstance(glob, str) and ":" in glob else glob for glob in exclude
            ),
            interfaces=tuple(interfaces),
        )

    def interface(self, key: str, raw: Mapping[str, Any]) -> InterfaceStanza:
        path: Path = ("interfaces", key)
        name, mac, known = self.match(path, raw.get("match"))
        self.claim(path, name, mac, known)
        table = self.table(path, raw.get("table"), is_glob(name) and not mac)
        addresses = {
            version: self.gateway(path, f"gateway{version}", raw, version) for version in (4, 6)
        }
        return InterfaceStanza(
            id=key,
            match_name=name,
            match_macaddress=mac,
            enabled=raw.get("enabled", True),
            table=table,
            gateway4=addresses[4],
            gateway6=addresses[6],
            routes=self.routes((*path, "routes"), raw.get("routes", [])),
            on_link=raw.get("on_link", False),
            sources=self.sources((*path, "sources"), raw.get("sources", [])),
        )

    def match(self, path: Path, raw: Any) -> Tuple[str, str, bool]:
        """The name glob and MAC to match by, and whether they are known (not told wrong)."""
        if raw is None:
            fault = interface_name_fault(str(path[-1]))
            self.say(path, fault)
            return "", "", not fault
        if raw is _BAD or _BAD in raw.values():
            return "", "", False
        name, mac = raw.get("name", ""), raw.get("macaddress", "")
        if "name" in raw:
            self.say((*path, "match", "name"), name_glob_fault(name))
        if "macaddress" in raw:
            self.say((*path, "match", "macaddress"), mac_fault(mac))
        return name, normal_mac(mac) or "", True

    def claim(self, path: Path, name: str, mac: str, known: bool) -> None:
        """Tell when another entry is for the same interface."""
        if not known:
            return
        if mac:
            what, at = ("mac", mac), (*path, "match", "macaddress")
        elif name:
            what, at = ("name", name), (*path, "match", "name")
        else:
            what, at = ("name", str(path[-1])), path
        other = self.claims.setdefault(what, path)
        if other != path:
            self.say(at, f"means {what[1]}, as {path_text(other)} does: two entries for one NIC")

    def table(self, path: Path, table: Any, many: bool) -> Optional[int]:
        if table is None or table is _BAD:
            return None
        at = (*path, "table")
        if many:
            self.say(at, f"is {table}, one table for all that match.name fits; name one NIC")
        other = self.tables.setdefault(table, path_text(path))
        if other != path_text(path):
            self.say(at, f"is {table}, which is the table of {other} too")
        return table

    def gateway(self, path: Path, key: str, raw: Mapping[str, Any], version: int) -> Any:
        text, at = raw.get(key), (*path, key)
        if text is None or text is _BAD:
            return None
        address, fault = gateway(text, version)
        self.say(at, fault)
        if version not in self.versions:
            self.say(at, f"is {text}, but families has no ipv{version}")
        return address

    def sources(self, path: Path, raw: Any) -> Tuple[IPNetwork, ...]:
        found = []
        for number, text in enumerate(raw if raw is not _BAD else ()):
            at = (*path, number)
            if text is _BAD:
                continue
            network, fault = source_prefix(text)
            self.say(at, fault)
            if network is None or fault:
                continue
            if network.version not in self.versions:
                self.say(at, f"is {network}, but families has no ipv{network.version}")
            for other, where in self.taken.items():
                if other.version == network.version and other.overlaps(network):
                    self.say(at, f"is {network}, which overlaps {other} of {path_text(where)}")
                    break
            else:
                self.taken[network] = at
                found.append(network)
        return tuple(sorted(found, key=lambda n: (n.version, int(n.network_address))))

    def routes(self, path: Path, raw: Any) -> Tuple[StanzaRoute, ...]:
        found = []
        seen: Dict[Any, int] = {}
        for number, item in enumerate(raw if raw is not _BAD else ()):
            route = self.route((*path, number), item) if item is not _BAD else None
            if route is None:
                continue
            first = seen.setdefault(route.to, number)
            if first != number:
                self.say((*path, number, "to"), f"is {route.to}, which routes.{first} has already")
            found.append(route)
        return tuple(found)

    def route(self, path: Path, raw: Mapping[str, Any]) -> Optional[StanzaRoute]:
        network = router = None
        on_link = raw.get("on_link", False)
        if raw["to"] is not _BAD:
            network, fault = destination(raw["to"])
            self.say((*path, "to"), fault)
        if "via" not in raw:
            if on_link is False:
                self.say(
                    (*path, "via"), "is missing; name the router, or set on_link: true for none"
                )
        elif raw["via"] is not _BAD:
            router, fault = gateway(raw["via"])
            self.say((*path, "via"), fault)
        if network is None:
            return None
        if network.version not in self.versions:
            self.say((*path, "to"), f"is {network}, but families has no ipv{network.version}")
        if router is not None and router.version != network.version:
            self.say(
                (*path, "via"),
                f"is {router}, an IPv{router.version} address, but to is {network}",
            )
        elif router is not None:
            edge = edge_of(router, network)
            self.say((*path, "via"), edge and f"is {router}, {edge}; no router has that")
        return StanzaRoute(to=network, via=router, on_link=on_link)
