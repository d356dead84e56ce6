"""DHCP messages in wire format, in which dhcpcd stores its leases.  Pure.

RFC 951 and 2131 for the fixed part, RFC 2132 for the options, RFC 3396 for options in several
pieces, RFC 3442 for classless routes, RFC 8415 for DHCPv6.  Malformed bytes give None or a partial
result, never an exception.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, IPv6Network
from typing import NamedTuple

from ...model import IPAddress, IPInterface, Lease, MetadataRoute
from ...text.addresses import gateway_address, make_network, prefix_length

# RFC 2132, RFC 3442; 249 is Microsoft's number for 121.
SUBNET_MASK, ROUTER, LEASE_TIME, OVERLOAD, MESSAGE_TYPE = 1, 3, 51, 52, 53
CLASSLESS_ROUTES, MS_CLASSLESS_ROUTES = 121, 249
_PAD, _END = 0, 255
_ACK = 5
_COOKIE = b"\x63\x82\x53\x63"
_VENDOR_AREA = 236  # offset in the BOOTP message
_SNAME, _FILE = slice(44, 108), slice(108, 236)
_FOR_EVER = 0xFFFFFFFF

# RFC 8415, 21
_IA_NA, _IA_TA, _IAADDR, _IA_PD, _IAPREFIX = 3, 4, 5, 25, 26
_REPLY = 7


class LeaseRoutes(NamedTuple):
    """The classless routes of a lease and the routers that are valid besides them."""

    routers: tuple[IPAddress, ...]
    classless: tuple[MetadataRoute, ...]


def lease_routes(
    routers: tuple[IPAddress | None, ...], classless: tuple[tuple[MetadataRoute, ...], bool]
) -> LeaseRoutes:
    """The routers and classless routes of a lease, as far as a client may use them.

    `classless` is the usable routes and whether the option was present.  If it was present but
    names no gateway (on-link routes only), the routers are dropped: a client must ignore them (RFC
    3442), and an empty list of routes could not express that.
    """
    routes, present = classless
    if present and not routes:
        return LeaseRoutes((), ())
    return LeaseRoutes(tuple(dict.fromkeys(ip for ip in routers if ip is not None)), routes)


def usable_routes(
    raw: list[tuple[IPv4Address, int, IPv4Address]],
) -> tuple[MetadataRoute, ...]:
    """The routes of (destination, prefix length, gateway) with a gateway, without duplicates."""
    found: dict[MetadataRoute, None] = {}
    for destination, length, gateway in raw:
        if gateway_address(str(gateway)) is not None:
            found[MetadataRoute(make_network(destination, length), gateway)] = None
    return tuple(found)


def classless_routes(data: bytes) -> list[tuple[IPv4Address, int, IPv4Address]]:
    """Option 121: repeated width, significant octets of the destination, and router.

    Entries before a malformed one count.
    """
    found = []
    offset = 0
    while offset < len(data):
        length = data[offset]
        significant = (length + 7) // 8
        end = offset + 1 + significant + 4
        if length > 32 or end > len(data):
            break
        octets = data[offset + 1 : offset + 1 + significant]
        destination = IPv4Address(octets.ljust(4, b"\0"))
        found.append((destination, length, IPv4Address(data[end - 4 : end])))
        offset = end
    return found


def parse_dhcpcd(data: bytes, dev: str, path: str, mtime: float, now: float) -> Lease | None:
    """dhcpcd's ``IFACE.lease``, the server's BOOTP reply; None if it is not one or has expired.

    The file has no timestamp of its own.  Like dhcpcd itself (src/dhcp.c, dhcp_start2) this adds
    the lease time, option 51, to the file's modification time.
    """
    if len(data) < _VENDOR_AREA + len(_COOKIE):
        return None
    options = _options(data)
    kind = options.get(MESSAGE_TYPE)
    if kind is not None and kind != bytes((_ACK,)):
        return None
    lifetime = _number(options.get(LEASE_TIME, b""))
    if lifetime is not None and lifetime != _FOR_EVER and mtime + lifetime <= now:
        return None
    address = IPv4Address(data[16:20])  # yiaddr
    if address.is_unspecified:
        address = IPv4Address(data[12:16])  # ciaddr
    if address.is_unspecified or address.is_multicast:
        return None
    option = next((o for o in (CLASSLESS_ROUTES, MS_CLASSLESS_ROUTES) if o in options), None)
    routes = usable_routes(classless_routes(options[option])) if option else ()
    routers = _addresses(options.get(ROUTER, b""))
    routers, routes = lease_routes(routers, (routes, option is not None))
    mask = options.get(SUBNET_MASK, b"")[:4]
    return Lease(dev, 4, _interface(address, mask), routers, routes, client="dhcpcd", path=path)


def _options(data: bytes) -> dict[int, bytes]:
    if data[_VENDOR_AREA : _VENDOR_AREA + 4] != _COOKIE:
        return {}  # a BOOTP server's vendor area
    options: dict[int, bytes] = {}
    _collect(data[_VENDOR_AREA + 4 :], options)
    overload = options.get(OVERLOAD, b"\0")[:1]
    if overload in (b"\1", b"\3"):
        _collect(data[_FILE], options)
    if overload in (b"\2", b"\3"):
        _collect(data[_SNAME], options)
    return options


def _collect(area: bytes, options: dict[int, bytes]) -> None:
    """Add an area's options; a repeated option continues the first one (RFC 3396)."""
    pieces: dict[int, list[bytes]] = {}
    offset = 0
    while offset < len(area) and area[offset] != _END:
        code = area[offset]
        if code == _PAD:
            offset += 1
            continue
        if offset + 1 >= len(area):
            break
        end = offset + 2 + area[offset + 1]
        if end > len(area):
            break
        pieces.setdefault(code, []).append(area[offset + 2 : end])
        offset = end
    for code, parts in pieces.items():
        options[code] = options.get(code, b"") + b"".join(parts)


def _number(data: bytes) -> int | None:
    return int.from_bytes(data, "big") if len(data) == 4 else None


def _addresses(data: bytes) -> tuple[IPAddress | None, ...]:
    return tuple(
        gateway_address(str(IPv4Address(data[start : start + 4])))
        for start in range(0, len(data) - 3, 4)
    )


def _interface(address: IPv4Address, mask: bytes) -> IPInterface:
    length = prefix_length(str(IPv4Address(mask)), 4) if len(mask) == 4 else None
    if length is None:  # as dhcpcd does: by the address class
        first = int(address) >> 24
        length = 8 if first < 128 else 16 if first < 192 else 24
    return IPv4Interface((int(address), length))


# -- DHCPv6 ----------------------------------------------------------------------


def parse_dhcpcd6(data: bytes, dev: str, path: str, mtime: float, now: float) -> Lease | None:
    """dhcpcd's ``IFACE.lease6``, the server's Reply.  DHCPv6 has no router option.

    The lease has the first address and the delegated prefixes.
    """
    if len(data) < 4 or data[0] != _REPLY:
        return None
    interface: IPv6Interface | None = None
    delegated: list[IPv6Network] = []
    for code, body in _options6(data[4:]):
        skip = {_IA_NA: 12, _IA_TA: 4, _IA_PD: 12}.get(code)
        if skip is None:
            continue
        for inner, value in _options6(body[skip:]):
            if code == _IA_PD and inner == _IAPREFIX and len(value) >= 25:
                # Preferred and valid lifetime, prefix length, prefix (RFC 8415 21.22).
                valid = int.from_bytes(value[4:8], "big")
                prefix = delegated_prefix(IPv6Address(value[9:25]), value[8])
                if prefix is not None and _is_alive(valid, mtime, now):
                    delegated.append(prefix)
            elif code != _IA_PD and inner == _IAADDR and len(value) >= 24:
                valid = int.from_bytes(value[20:24], "big")
                address = IPv6Address(value[:16])
                usable = not address.is_unspecified and not address.is_multicast
                if interface is None and usable and _is_alive(valid, mtime, now):
                    interface = IPv6Interface((int(address), 128))
    if interface is None and not delegated:
        return None
    return Lease(dev, 6, interface, client="dhcpcd", path=path, delegated=tuple(delegated))


def delegated_prefix(address: IPv6Address, length: int) -> IPv6Network | None:
    """A prefix that a server may delegate; None if it is not one."""
    if not 8 <= length <= 128 or address.is_multicast or address.is_link_local:
        return None
    return IPv6Network((int(address), length), strict=False)


def _is_alive(valid: int, since: float, now: float) -> bool:
    return valid == _FOR_EVER or since + valid > now


def _options6(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    offset = 0
    while offset + 4 <= len(data):
        code = int.from_bytes(data[offset : offset + 2], "big")
        end = offset + 4 + int.from_bytes(data[offset + 2 : offset + 4], "big")
        if end > len(data):
            break
        found.append((code, data[offset + 4 : end]))
        offset = end
    return found
