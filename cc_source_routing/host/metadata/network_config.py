"""cloud-init's network config, versions 1 and 2: the ports that it configures.  Pure.

Version 1 is a list of devices with subnets, version 2 is netplan's dictionary (cloud-init
documentation, "Networking config Version 1" and "Version 2").  Addresses and masks are parsed as in
cloudinit/net/network_state.py, but nothing raises.

A route into another table (netplan's ``table:``) counts as well, since it also names a gateway of
its NIC.
"""

from __future__ import annotations

from typing import Any

from ...model import Metadata
from ...text.addresses import interface_name, mac_address, shown, text
from .ports import MAX_PER_PORT, Port, Ports, dictionaries, identifier, identifiers

CONFIG_V1 = "cloud-init network config v1"
CONFIG_V2 = "cloud-init network config v2"

# Version 1 device types that are interfaces; the others are route, nameserver.
_V1_DEVICES = ("physical", "infiniband", "vlan", "bond", "bridge")
_V2_SECTIONS = ("ethernets", "bonds", "bridges", "vlans")
_GLOB = frozenset("*?[")


def parse_network_config(doc: Any, source: str = "") -> Metadata:
    """The ports of a network config, with or without the wrapper ``network:``.

    ``doc`` is the decoded document.  ``config: disabled`` and an empty document give no ports and
    no warning.  Ports and warnings name `source`, by default `CONFIG_V1` or `CONFIG_V2`.
    """
    if isinstance(doc, dict) and "network" in doc and "version" not in doc:
        doc = doc["network"]
    if doc in (None, {}):
        return Metadata()
    if not isinstance(doc, dict):
        ports = Ports(source or "cloud-init network config")
        ports.warn(f"is no dictionary but {shown(doc)}; ignored")
        return ports.result()
    if doc.get("config") == "disabled":
        return Metadata()
    version = _version(doc)
    if version == 1:
        return _parse_v1(doc, Ports(source or CONFIG_V1))
    if version == 2:
        return _parse_v2(doc, Ports(source or CONFIG_V2))
    ports = Ports(source or "cloud-init network config")
    ports.warn(f"version {shown(doc.get('version'))} is not known; ignored")
    return ports.result()


def _version(doc: dict[Any, Any]) -> int:
    version = doc.get("version")
    if isinstance(version, str) and version.strip() in ("1", "2"):
        return int(version)
    if isinstance(version, int) and not isinstance(version, bool):
        return version
    if version is None and any(section in doc for section in _V2_SECTIONS):
        return 2
    return 0


# -- version 1 -----------------------------------------------------------------


def _parse_v1(doc: dict[Any, Any], ports: Ports) -> Metadata:
    devices = dictionaries(doc.get("config"), ports, "config")
    bonded: set[str] = set()
    bridged: set[str] = set()
    for device in devices:
        bonded.update(identifiers(device.get("bond_interfaces")))
        bridged.update(identifiers(device.get("bridge_interfaces")))
    routes: list[tuple[str, dict[Any, Any]]] = []
    found: list[tuple[str, Port]] = []
    for number, device in enumerate(devices):
        where = f"config[{number}]"
        kind = text(device.get("type"))
        if kind == "route":
            routes.append((where, device))
        if kind not in _V1_DEVICES:
            continue
        name = interface_name(device.get("name"))
        if name and name in bonded:
            continue
        mac = mac_address(device.get("mac_address"))
        if not mac and not name:
            ports.warn(f"{where}: neither a name nor a MAC that could be one; ignored")
            continue
        port = ports.port(mac, name, kind == "vlan")
        if port is None:
            continue
        found.append((name, port))
        subnets = dictionaries(device.get("subnets"), ports, f"{where}.subnets")
        for index, subnet in enumerate(subnets):
            _subnet(subnet, port, f"{where}.subnets[{index}]", ports)
    _drop_bare_members(found, bridged, ports)
    if len(routes) > MAX_PER_PORT:
        ports.warn(f"more than {MAX_PER_PORT} routes of no interface; the rest is left out")
    for where, device in routes[:MAX_PER_PORT]:
        _unbound_route(device, where, ports)
    return ports.result()


def _subnet(subnet: dict[Any, Any], port: Port, where: str, ports: Ports) -> None:
    address = subnet.get("address")
    mask = subnet.get("prefix", subnet.get("netmask"))
    if address not in (None, ""):
        ports.add_address(port, address, mask, where)
    for number, route in enumerate(dictionaries(subnet.get("routes"), ports, f"{where}.routes")):
        ports.add_route(port, *_v1_route(route), f"{where}.routes[{number}]")
    ports.add_default(port, subnet.get("gateway"), where)


def _v1_route(route: dict[Any, Any]) -> tuple[Any, Any, Any]:
    to = route.get("network", route.get("destination"))
    return to, route.get("prefix", route.get("netmask")), route.get("gateway")


def _unbound_route(device: dict[Any, Any], where: str, ports: Ports) -> None:
    """A ``type: route`` names no interface: it belongs to the port whose subnet has its gateway."""
    route = ports.route(*_v1_route(device), where)
    if route is None:
        return
    port = ports.containing(route.via)
    if port is not None:
        port.routes[route] = None


# -- version 2 -----------------------------------------------------------------


def _parse_v2(doc: dict[Any, Any], ports: Ports) -> Metadata:
    bonded = _members(doc.get("bonds"))
    bridged = _members(doc.get("bridges"))
    found: list[tuple[str, Port]] = []
    for section in _V2_SECTIONS:
        entries = doc.get(section)
        if entries is None:
            continue
        if not isinstance(entries, dict):
            ports.warn(f"{section} is no dictionary but {shown(entries)}; ignored")
            continue
        for key, entry in entries.items():
            where = f"{section}.{text(key) or shown(key)}"
            if identifier(key) in bonded:
                continue
            if entry is not None and not isinstance(entry, dict):
                ports.warn(f"{where} is no dictionary but {shown(entry)}; ignored")
                continue
            port = _device(key, entry or {}, where, ports, section == "vlans")
            if port is not None:
                found.append((identifier(key), port))
    _drop_bare_members(found, bridged, ports)
    return ports.result()


def _members(section: Any) -> set[str]:
    found: set[str] = set()
    for entry in section.values() if isinstance(section, dict) else ():
        if isinstance(entry, dict):
            found.update(identifiers(entry.get("interfaces")))
    return found


def _device(key: Any, entry: dict[Any, Any], where: str, ports: Ports, vlan: bool) -> Any:
    """The port of an entry; None if it can match any number of interfaces."""
    match = entry.get("match")
    match = match if isinstance(match, dict) else {}
    # The MAC that is matched precedes the MAC that is set: it is also the permanent one.
    mac = mac_address(match.get("macaddress")) or mac_address(entry.get("macaddress"))
    matched = text(match.get("name"))
    name = interface_name(entry.get("set-name"))
    if not name and matched and not _GLOB & set(matched):
        name = interface_name(matched)
    if not name and not match:
        name = interface_name(key)
    if not mac and not name:
        if any(entry.get(setting) for setting in ("addresses", "routes", "gateway4", "gateway6")):
            ports.warn(f"{where}: what it matches is not known; ignored")
        return None
    port = ports.port(mac, name, vlan)
    if port is None:
        return None
    addresses = entry.get("addresses")
    if addresses is not None and not isinstance(addresses, list):
        ports.warn(f"{where}.addresses is no list but {shown(addresses)}; ignored")
        addresses = None
    for address in addresses or ():
        if isinstance(address, dict) and len(address) == 1:  # netplan: {"10.0.0.5/24": {label: x}}
            (address,) = address
        ports.add_address(port, address, None, f"{where}.addresses")
    for number, route in enumerate(dictionaries(entry.get("routes"), ports, f"{where}.routes")):
        ports.add_route(port, route.get("to"), None, route.get("via"), f"{where}.routes[{number}]")
    for family in (4, 6):
        ports.add_default(port, entry.get(f"gateway{family}"), f"{where}.gateway{family}")
    return port


def _drop_bare_members(found: list[tuple[str, Port]], members: set[str], ports: Ports) -> None:
    """Drop bridge members without addresses and routes of their own: the bridge replaces them."""
    for name, port in found:
        if name in members and port.bare:
            ports.drop(port)
