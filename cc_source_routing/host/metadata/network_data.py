"""OpenStack's network_data.json: a server's ports and their configuration.  Pure.

The document (nova/virt/netutils.py, "OpenStack Nova: Metadata", network_data)::

    {"links":    [{"id": "tap1", "type": "ovs", "ethernet_mac_address": ...}, ...],
     "networks": [{"link": "tap1", "type": "ipv4", "ip_address": ..., "netmask": ...,
                   "routes": [{"network": ..., "netmask": ..., "gateway": ...}]}, ...],
     "services": [...]}

A port is a link.  A guest identifies it by its MAC and its addresses: the id names a tap device of
the hypervisor, and a VLAN may have the MAC of its parent port.  A network with DHCP has neither
address nor gateway here: its port is listed, and everything else has to come from another source.
A static network with a gateway lists a default route for *every* port; one without has none.
"""

from __future__ import annotations

from typing import Any

from ...model import Metadata
from ...text.addresses import interface_name, mac_address, shown, text
from .ports import Port, Ports, dictionaries, identifier, identifiers

NETWORK_DATA = "network_data.json"


def parse_network_data(doc: Any, source: str = NETWORK_DATA) -> Metadata:
    """The ports of a network_data.json; malformed parts are left out with a warning.

    ``doc`` is the decoded JSON.  Link types: ``vlan`` has its own key for the MAC, a ``bond``
    replaces its ``bond_links``, every other type (phy, ovs, bridge, vif, tap, hw_veb, ...) is a
    plain port.
    """
    ports = Ports(source, complete=True)
    if doc in (None, {}):
        return Metadata()
    if not isinstance(doc, dict):
        ports.warn(f"is no dictionary but {shown(doc)}; ignored")
        return ports.result()
    by_link = _links(dictionaries(doc.get("links"), ports, "links"), ports)
    for number, net in enumerate(dictionaries(doc.get("networks"), ports, "networks")):
        link = identifier(net.get("link"))
        if link not in by_link:
            ports.warn(f"networks[{number}]: there is no link {shown(net.get('link'))}; ignored")
            continue
        port = by_link[link]
        if port is not None:
            _network(net, port, f"networks[{number}]", ports)
    return ports.result()


def _links(links: list[dict[Any, Any]], ports: Ports) -> dict[str, Any]:
    """Link id -> its port, or None for a link that is not a port of its own."""
    slaves: set[str] = set()
    for link in links:
        if link.get("type") == "bond":
            slaves.update(identifiers(link.get("bond_links")))
    by_link: dict[str, Any] = {}
    for number, link in enumerate(links):
        link_id = identifier(link.get("id"))
        key = "vlan_mac_address" if link.get("type") == "vlan" else "ethernet_mac_address"
        mac = mac_address(link.get(key))
        if link_id and link_id in slaves:
            by_link[link_id] = None
            continue
        name = interface_name(link.get("name"))
        if not mac and not (name and link.get(key) is None):
            ports.warn(f"links[{number}]: {key} {shown(link.get(key))} is no MAC; link ignored")
            if link_id:
                by_link.setdefault(link_id, None)
            continue
        known = by_link.get(link_id) if link_id else None
        port = known or ports.new(mac, name, link.get("type") == "vlan")
        if link_id:
            by_link[link_id] = port
    return by_link


def _network(net: dict[Any, Any], port: Port, where: str, ports: Ports) -> None:
    address = net.get("ip_address")
    if address not in (None, ""):
        ports.add_address(port, address, net.get("netmask"), where)
    elif text(net.get("type")) in ("ipv4", "ipv6", "static", "static6"):
        ports.warn(f"{where}: a static network without ip_address")
    for number, route in enumerate(dictionaries(net.get("routes"), ports, f"{where}.routes")):
        ports.add_route(
            port,
            route.get("network", route.get("destination")),
            route.get("netmask", route.get("prefix")),
            route.get("gateway"),
            f"{where}.routes[{number}]",
        )
    ports.add_default(port, net.get("gateway"), where)
