"""Parse an untrusted ``source_routing:`` value into a validated `Stanza`.

Only ``stanza.schema.json`` defines keys, types and defaults; jsonschema validates by it.
This module checks what a schema cannot express: families that do not match, prefixes with
host bits, two entries for one NIC.  The planner checks what depends on the host (is the
gateway in a subnet of the NIC?).  Pure except for reading the schema.
"""

from __future__ import annotations

import copy
import json
import pkgutil
from bisect import bisect
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Union

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
from .bounded import Oversize, Path, bounded
from .messages import Schema, Violation, odd_key_sentence, path_text, sentence, violations
from .saved import FAMILY_VERSIONS

MAX_FAULTS = 50
"""More faults than this are counted, not reported."""

Found = dict[Path, Union[str, Violation]]
"""What is wrong, by path; a violation becomes its sentence only when it is reported."""


class _Bad:
    """Placeholder for a value that is present but known to be wrong."""


_BAD = _Bad()


class Checked(NamedTuple):
    """A stanza and its faults; with any fault the stanza is meaningless."""

    stanza: Stanza
    faults: list[Fault]  # the first `MAX_FAULTS` in document order
    more: int = 0  # the number of further faults


def parse_stanza(value: Any) -> Stanza:
    """Parse `value` (parsed YAML or JSON) into a stanza with every default filled in.

    ``true`` and an empty mapping mean all defaults.  ``false`` and ``enabled: false`` give a
    disabled `Stanza`; the other keys are checked all the same.
    Raises `StanzaError` with every fault in document order.
    """
    stanza, faults, more = check_stanza(value)
    refuse(faults, more)
    return stanza


def check_stanza(value: Any, known: Collection[str] = ()) -> Checked:
    """As `parse_stanza`, but returns the faults, except those at the dotted paths `known`."""
    # The two common values need no schema, and so no import of jsonschema.
    if value is True or value is False:
        return Checked(Stanza(enabled=value), [])
    try:
        limited = bounded(value)
    except Oversize as error:
        return Checked(Stanza(), [Fault("", f"source_routing is too large: it {error}")])
    import jsonschema

    errors = jsonschema.Draft4Validator(_schema()).iter_errors(limited.value)
    found: Found = {**violations(errors)}
    found.update((path, odd_key_sentence(key)) for path, key in limited.odd_keys)
    stanza = Stanza()
    if () not in found:
        stanza = _Reader(found).stanza(_blotted(limited.value, found))
    if not stanza.enabled:
        stanza = Stanza(enabled=False)
    return Checked(stanza, *_faults(found, limited.order, known))


def refuse(faults: Sequence[Fault], more: int = 0) -> None:
    """Raise `StanzaError` for the first faults, if there are any, and the number of the rest."""
    more += len(faults[MAX_FAULTS:])
    rest = [Fault("", f"and {more} more faults")] if more else []
    if faults:
        raise StanzaError([*faults[:MAX_FAULTS], *rest])


def schema_defaults() -> dict[str, Any]:
    """The default of each top-level key."""
    properties = _schema()["properties"]
    return {key: copy.deepcopy(one["default"]) for key, one in properties.items()}


@cache
def _schema() -> Schema:
    data = pkgutil.get_data(__package__, "stanza.schema.json")
    if data is None:
        raise FileNotFoundError("stanza.schema.json is not in the package")
    schema: Schema = json.loads(data)
    return schema


def _blotted(value: Any, found: Collection[Path], path: Path = ()) -> Any:
    """A copy with `_BAD` at each faulty place, so that nothing is reported twice."""
    if path in found:
        return _BAD
    if isinstance(value, dict):
        return {key: _blotted(inner, found, (*path, key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [_blotted(inner, found, (*path, at)) for at, inner in enumerate(value)]
    return value


def _faults(
    found: Found, order: Mapping[Path, int], known: Collection[str]
) -> tuple[list[Fault], int]:
    """The first faults, and the number of further ones."""

    def place(path: Path) -> tuple[int, str]:
        nearest = path
        while nearest not in order:  # a missing key: use its mapping
            nearest = nearest[:-1]
        return order[nearest], path_text(path)

    def fault(path: Path) -> Fault:
        wrong = found[path]
        message = wrong if isinstance(wrong, str) else sentence(wrong, _schema())
        return Fault(path_text(path), message if path else f"source_routing {message}")

    paths = sorted((path for path in found if path_text(path) not in known), key=place)
    return [fault(path) for path in paths[:MAX_FAULTS]], len(paths[MAX_FAULTS:])


class _Reader:
    """Builds the stanza from a value that fits the schema, and finds the remaining faults."""

    def __init__(self, found: Found):
        self.found = found
        self.versions: set[int] = set(FAMILY_VERSIONS.values())
        self.claims: dict[tuple[str, str], Path] = {}  # (name or MAC) -> entry
        self.tables: dict[int, str] = {}
        self.taken: dict[IPNetwork, Path] = {}  # non-overlapping sources -> path
        self.sorted: dict[int, list[IPNetwork]] = {4: [], 6: []}  # these sources by family

    def say(self, path: Path, fault: str) -> None:
        if fault:
            self.found.setdefault(path, fault)

    def stanza(self, value: Mapping[str, Any]) -> Stanza:
        got = {**schema_defaults(), **value}
        families, exclude, entries = got["families"], got["exclude"], got["interfaces"]
        if families is not _BAD and _BAD not in families:
            self.versions = {FAMILY_VERSIONS[family] for family in families}
        interfaces = []
        for key, raw in entries.items() if entries is not _BAD else ():
            # Omit an entry whose shape is wrong or whose name is an unknown key.
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
            # Only MAC addresses have colons; they are compared in lower case.
            exclude=tuple(
                glob.lower() if isinstance(glob, str) and ":" in glob else glob
                for glob in (exclude if exclude is not _BAD else ())
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

    def match(self, path: Path, raw: Any) -> tuple[str, str, bool]:
        """The name glob and MAC to match by, and whether they are known (not wrong)."""
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
        """Report another entry for the same interface."""
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

    def table(self, path: Path, table: Any, many: bool) -> int | None:
        if table is None or table is _BAD:
            return None
        at = (*path, "table")
        if many:
            self.say(at, f"is {table}, one table for all that match.name fits; name one NIC")
        other = self.tables.setdefault(table, path_text(path))
        if other != path_text(path):
            self.say(at, f"is {table}, which is the table of {other} too")
        return int(table)

    def gateway(self, path: Path, key: str, raw: Mapping[str, Any], version: int) -> Any:
        text, at = raw.get(key), (*path, key)
        if text is None or text is _BAD:
            return None
        address, fault = gateway(text, version)
        self.say(at, fault)
        if version not in self.versions:
            self.say(at, f"is {text}, but families has no ipv{version}")
        return address

    def sources(self, path: Path, raw: Any) -> tuple[IPNetwork, ...]:
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
            others = self.sorted[network.version]
            place = bisect(others, network)
            # The others do not overlap each other, so it can overlap only its neighbours.
            for other in others[max(0, place - 1) : place + 1]:
                if other.overlaps(network):
                    where = path_text(self.taken[other])
                    self.say(at, f"is {network}, which overlaps {other} of {where}")
                    break
            else:
                others.insert(place, network)
                self.taken[network] = at
                found.append(network)
        return tuple(sorted(found, key=lambda n: (n.version, int(n.network_address))))

    def routes(self, path: Path, raw: Any) -> tuple[StanzaRoute, ...]:
        found = []
        seen: dict[Any, int] = {}
        for number, item in enumerate(raw if raw is not _BAD else ()):
            route = self.route((*path, number), item) if item is not _BAD else None
            if route is None:
                continue
            first = seen.setdefault(route.to, number)
            if first != number:
                self.say((*path, number, "to"), f"is {route.to}, which routes.{first} has already")
            found.append(route)
        return tuple(found)

    def route(self, path: Path, raw: Mapping[str, Any]) -> StanzaRoute | None:
        network = router = None
        on_link = raw.get("on_link", False)
        if raw.get("to", _BAD) is not _BAD:
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
