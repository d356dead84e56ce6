"""The leases that systemd-networkd and NetworkManager write below /run.  Pure.

systemd-networkd: ``/run/systemd/netif/leases/IFINDEX``, for IPv4 only, written at every change and
removed when the lease is lost.  It has ``KEY=value`` lines, as seen with 252 and 257::

    ADDRESS=10.13.96.158
    NETMASK=255.255.224.0
    ROUTER=10.13.96.1 10.13.96.2
    CLASSLESS_ROUTES=169.254.169.254/32,10.13.96.2 0.0.0.0/0,10.13.96.1

Before 250 a single key, ROUTES, has options 33 and 121 alike: a default in it can only come from
121.  Development versions wrote JSON with the same data.  262 was seen to write no such file: its
leases can only be derived from the routes.

NetworkManager 1.40 and later: the groups ``dhcp4`` and ``dhcp6`` of
``/run/NetworkManager/devices/IFINDEX``, rewritten at every renewal (src/core/nm-config.c,
nm_config_device_state_write), whatever client it uses::

    dhcp4.ip_address=10.13.96.159
    dhcp4.subnet_mask=255.255.224.0
    dhcp4.routers=10.13.96.1 10.13.96.2
    dhcp4.rfc3442_classless_static_routes=10.0.0.0/8 10.13.96.1 0.0.0.0/0 10.13.96.1
    dhcp4.expiry=1795392712

``/var/lib/NetworkManager/internal-UUID-IFACE.lease`` has only the address and is not read.
"""

from __future__ import annotations

import json
import re
from ipaddress import IPv4Address
from typing import Any

from ...model import IPAddress, Lease, MetadataRoute
from ...text.addresses import gateway_address, interface, ip_address, network, prefix_length
from ...text.sections import assignments
from .dhcpcd import classless_routes, lease_routes, usable_routes

_NM_CLASSLESS = (
    "rfc3442_classless_static_routes",
    "classless_static_routes",
    "ms_classless_static_routes",
)


# -- systemd-networkd --------------------------------------------------------------


def parse_networkd(text: str, dev: str, path: str) -> Lease | None:
    """A networkd lease file in the old or new format; None when it has no address."""
    if text.lstrip().startswith("{"):
        return _networkd_json(text, dev, path)
    values = _assignments(text)
    address = interface(values.get("ADDRESS"), values.get("NETMASK", 32))
    if address is None or address.version != 4:
        return None
    routers = _routers(values.get("ROUTER", ""))
    classless = values.get("CLASSLESS_ROUTES")
    routes = _pairs((classless or "").replace(",", " "))
    if classless is None:
        mixed = _pairs(values.get("ROUTES", "").replace(",", " "))
        routes = mixed if any(route.to.prefixlen == 0 for route in mixed) else ()
    present = classless is not None or bool(routes)
    routers, routes = lease_routes(routers, (routes, present))
    return Lease(dev, 4, address, routers, routes, client="networkd", path=path)


def _assignments(text: str) -> dict[str, str]:
    values = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and re.fullmatch("[A-Z0-9_]+", key):
            values[key] = value.strip().strip('"')
    return values


def _networkd_json(text: str, dev: str, path: str) -> Lease | None:
    try:
        doc = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(doc, dict):
        return None
    mask = _octets(doc.get("Netmask"))
    ip = _octets(doc.get("Address"))
    length = prefix_length(str(mask), 4) if mask else 32
    address = interface(str(ip), length) if ip and length is not None else None
    if address is None:
        return None
    routers = doc.get("Router")
    entries = doc.get("Classless_Routes")
    raw = []
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict):
            to, via = _octets(entry.get("Destination")), _octets(entry.get("Gateway"))
            width = prefix_length(entry.get("DestinationPrefixLength"), 4)
            if to and via and width is not None:
                raw.append((to, width, via))
    routers, routes = lease_routes(
        tuple(
            gateway_address(str(_octets(router)))
            for router in (routers if isinstance(routers, list) else ())
        ),
        (usable_routes(raw), isinstance(entries, list)),
    )
    return Lease(dev, 4, address, routers, routes, client="networkd", path=path)


def _octets(value: Any) -> IPv4Address | None:
    """An address in systemd's JSON: a list of four numbers."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    if not all(type(octet) is int and 0 <= octet <= 255 for octet in value):
        return None
    return IPv4Address(bytes(value))


# -- NetworkManager -------------------------------------------------------------------


def parse_network_manager(text: str, dev: str, path: str, now: float) -> tuple[Lease, ...]:
    """The leases in a device state file of NetworkManager that have not expired."""
    four, six = _group(text, "dhcp4"), _group(text, "dhcp6")
    found = []
    address = interface(four.get("dhcp4.ip_address"), four.get("dhcp4.subnet_mask", 32))
    if address is not None and address.version == 4 and not _past(four.get("dhcp4.expiry"), now):
        routers, routes = lease_routes(_routers(four.get("dhcp4.routers", "")), _nm_classless(four))
        found.append(Lease(dev, 4, address, routers, routes, client="NetworkManager", path=path))
    address = interface(six.get("dhcp6.ip6_address"), 128)
    if address is not None and address.version == 6 and not _past(six.get("dhcp6.expiry"), now):
        found.append(Lease(dev, 6, address, client="NetworkManager", path=path))
    return tuple(found)


def _group(text: str, name: str) -> dict[str, str]:
    """One group of a key file, with escapes left as they are."""
    return {key: value for group, key, value in assignments(text) if group == name}


def _nm_classless(values: dict[str, str]) -> tuple[tuple[MetadataRoute, ...], bool]:
    """Option 121, else 249: pairs of prefix and gateway, or dhclient's raw octets."""
    for name in _NM_CLASSLESS:
        value = values.get(f"dhcp4.{name}")
        if value is None:
            continue
        if "/" in value:
            return _pairs(value), True
        octets = re.findall("[0-9]+", value)
        if any(len(octet) > 3 or int(octet) > 255 for octet in octets):
            return (), True
        return usable_routes(classless_routes(bytes(map(int, octets)))), True
    return (), False


def _past(expiry: str | None, now: float) -> bool:
    if expiry is None or not re.fullmatch("[0-9]{1,12}", expiry):
        return False  # networks without a lease time
    return int(expiry) <= now


# -- both --------------------------------------------------------------------------------


def _routers(value: str) -> tuple[IPAddress | None, ...]:
    return tuple(gateway_address(word) for word in re.split("[ ,]+", value) if word)


def _pairs(value: str) -> tuple[MetadataRoute, ...]:
    """``10.0.0.0/8 10.13.96.1 ...``: alternating destination and gateway, without on-link ones."""
    words = value.split()
    raw = []
    for to, via in zip(words[::2], words[1::2]):
        destination, gateway = network(to), ip_address(via)
        if isinstance(gateway, IPv4Address) and destination and destination.version == 4:
            raw.append((destination.network_address, destination.prefixlen, gateway))
    return usable_routes(raw)
