"""Collect ports for a `Metadata` while a document is parsed.  Pure.

The parsers of the cloud's documents share this: malformed parts are left out and reported once, and
a document of any size gives a result of bounded size.  A port is a link: VLANs have the MAC of
their parent, bonds that of a member.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...model import (
    ANYWHERE,
    IPAddress,
    IPInterface,
    IPNetwork,
    Metadata,
    MetadataPort,
    MetadataRoute,
)
from ...text.addresses import gateway_address, interface, network, shown

# Far more than any server has; a larger document is truncated with a warning.
MAX_PORTS = 1024
MAX_PER_PORT = 1024
MAX_WARNINGS = 20

_DEFAULT_WORDS = ("default",)  # netplan's `to: default`


@dataclass
class Port:
    """A port under construction.  Dicts serve as ordered sets."""

    mac: str = ""
    name: str = ""
    vlan: bool = False
    complete: bool = False
    addresses: dict[IPInterface, None] = field(default_factory=dict)
    routes: dict[MetadataRoute, None] = field(default_factory=dict)

    @property
    def bare(self) -> bool:
        """Whether the document has neither addresses nor routes for it."""
        return not self.addresses and not self.routes


class Ports:
    """The ports found so far in one document, and its faults."""

    def __init__(self, source: str, complete: bool = False):
        self.source = source
        self._complete = complete
        self._ports: list[Port] = []
        self._warnings: dict[str, None] = {}
        self._suppressed = 0

    def warn(self, message: str) -> None:
        """Record a warning once; after `MAX_WARNINGS` only count them."""
        warning = f"{self.source}: {message}"
        if warning in self._warnings:
            return
        if len(self._warnings) < MAX_WARNINGS:
            self._warnings[warning] = None
        else:
            self._suppressed += 1

    def port(self, mac: str, name: str, vlan: bool = False) -> Port | None:
        """The port with this MAC and name, as far as both are known; a new one if there is none."""
        for port in self._ports:
            same_mac = port.mac == mac if mac and port.mac else not (mac or port.mac)
            same_name = port.name == name or not (port.name and name)
            if port.vlan == vlan and same_mac and same_name:
                port.name = port.name or name
                return port
        return self.new(mac, name, vlan)

    def new(self, mac: str, name: str, vlan: bool = False) -> Port | None:
        """Add a port; None when there are too many."""
        if len(self._ports) >= MAX_PORTS:
            self.warn(f"more than {MAX_PORTS} ports; the rest is left out")
            return None
        self._ports.append(Port(mac=mac, name=name, vlan=vlan, complete=self._complete))
        return self._ports[-1]

    def drop(self, port: Port) -> None:
        """Drop a port that is part of another one."""
        self._ports = [kept for kept in self._ports if kept is not port]

    def containing(self, ip: IPAddress) -> Port | None:
        """The first port with an address in whose subnet `ip` is."""
        for port in self._ports:
            if any(ip in address.network for address in port.addresses):
                return port
        return None

    def add_address(self, port: Port, value: Any, mask: Any, where: str) -> IPInterface | None:
        """Add an address as the document has it; None, and a warning, if it is malformed."""
        address = interface(value, mask)
        if address is None:
            beside = "" if mask is None else f" with netmask {shown(mask)}"
            self.warn(f"{where}: {shown(value)}{beside} is not an address; ignored")
            return None
        if len(port.addresses) >= MAX_PER_PORT:
            self.warn(f"{where}: more than {MAX_PER_PORT} addresses; the rest is left out")
            return None
        port.addresses[address] = None
        return address

    def add_route(self, port: Port, to: Any, mask: Any, via: Any, where: str) -> None:
        """Add a route as the document has it; one without a usable gateway is ignored."""
        route = self.route(to, mask, via, where)
        if route is not None:
            self._keep(port, route, where)

    def add_default(self, port: Port, via: Any, where: str) -> None:
        """Add a ``gateway`` key; an empty or all-zero value means that there is none."""
        gateway = gateway_address(via)
        if gateway is not None:
            self._keep(port, MetadataRoute(ANYWHERE[gateway.version], gateway), where)
        elif via not in (None, "", "0.0.0.0", "::"):
            self.warn(f"{where}: {shown(via)} is not a gateway; ignored")

    def route(self, to: Any, mask: Any, via: Any, where: str) -> MetadataRoute | None:
        """A route as the document has it; silently None for an on-link one (no gateway)."""
        if via in (None, "", "0.0.0.0", "::"):
            return None
        gateway = gateway_address(via)
        if gateway is None:
            self.warn(f"{where}: route to {shown(to)}: {shown(via)} is not a gateway; ignored")
            return None
        destination: IPNetwork | None = None
        if to in _DEFAULT_WORDS:
            destination = ANYWHERE[gateway.version]
        else:
            destination = network(to, mask)
        if destination is None or destination.version != gateway.version:
            beside = "" if mask is None else f" with netmask {shown(mask)}"
            self.warn(
                f"{where}: route to {shown(to)}{beside} by {gateway} is not understood; ignored"
            )
            return None
        return MetadataRoute(destination, gateway)

    def _keep(self, port: Port, route: MetadataRoute, where: str) -> None:
        if len(port.routes) >= MAX_PER_PORT and route not in port.routes:
            self.warn(f"{where}: more than {MAX_PER_PORT} routes; the rest is left out")
            return
        port.routes[route] = None

    def result(self) -> Metadata:
        """The ports and warnings, in the order of the document."""
        warnings = tuple(self._warnings)
        if self._suppressed:
            warnings += (f"{self.source}: {self._suppressed} more things were not understood",)
        return Metadata(
            tuple(
                MetadataPort(
                    mac=port.mac,
                    name=port.name,
                    addresses=tuple(port.addresses),
                    routes=tuple(port.routes),
                    source=self.source,
                    vlan=port.vlan,
                    complete=port.complete,
                )
                for port in self._ports
            ),
            warnings,
        )


# -- walking a JSON document of any shape -------------------------------------


def dictionaries(value: Any, ports: Ports, what: str) -> list[dict[Any, Any]]:
    """The dictionaries in a list; other entries are left out with a warning."""
    if value is None:
        return []
    if not isinstance(value, list):
        ports.warn(f"{what} is no list but {shown(value)}; ignored")
        return []
    found = [item for item in value if isinstance(item, dict)]
    if len(found) != len(value):
        ports.warn(f"{what}: {len(value) - len(found)} entries are no dictionaries; ignored")
    return found


def identifier(value: Any) -> str:
    """The id of a link as a key: text or an integer; "" if it is neither."""
    if isinstance(value, bool):
        return ""
    if isinstance(value, int):
        return str(value) if abs(value) < 1 << 64 else ""
    return value if isinstance(value, str) and len(value) <= 256 else ""


def identifiers(value: Any) -> list[str]:
    """The valid ids in a list."""
    items = value if isinstance(value, list) else []
    return [found for found in map(identifier, items) if found]
