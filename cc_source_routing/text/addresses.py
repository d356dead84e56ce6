"""Parse addresses, prefixes, masks, MACs and names from untrusted values.

The values come from JSON documents and text files.  A malformed one gives None
(or "", where a string is returned), never an exception.  Pure.
"""

from __future__ import annotations

import ipaddress
import re
from ipaddress import IPv4Address
from typing import Any, Optional

from ..model import IPAddress, IPInterface, IPNetwork

# Ethernet, or InfiniBand's 20 bytes (linux/if_infiniband.h).
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}(?:(?::[0-9a-f]{2}){14})?")
# The kernel accepts almost any 15 bytes (dev_valid_name); names that need quoting
# are rejected here.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,14}")
_MAX_TEXT = 256

_Split = tuple[Optional[IPAddress], Optional[int]]


def text(value: Any) -> str:
    """`value` stripped of white space if it is a string of at most 256 characters; else ""."""
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        return ""
    return value.strip()


def shown(value: Any) -> str:
    """Format an untrusted value for a message: one line, printable, at most 60 characters."""
    try:
        rendered = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits; deep nesting
        rendered = type(value).__name__
    return rendered if len(rendered) <= 60 else rendered[:57] + "..."


def mac_address(value: Any) -> str:
    """A MAC in lower case with colons; "" if it is malformed or all zeros."""
    mac = text(value).lower().replace("-", ":")
    if not _MAC.fullmatch(mac) or not mac.strip("0:"):
        return ""
    return mac


def interface_name(value: Any) -> str:
    """A valid interface name that never needs quoting; else ""."""
    name = text(value)
    return name if _NAME.fullmatch(name) else ""


def ip_address(value: Any) -> IPAddress | None:
    """Parse an address; a zone (``fe80::1%ens3``) is dropped."""
    written = text(value).partition("%")[0]
    if not written:
        return None
    try:
        return ipaddress.ip_address(written)
    except ValueError:
        return None


def gateway_address(value: Any) -> IPAddress | None:
    """Parse the address of a next hop: not unspecified, multicast or loopback."""
    ip = ip_address(value)
    if ip is None or ip.is_unspecified or ip.is_multicast or ip.is_loopback:
        return None
    return ip


def prefix_length(value: Any, version: int) -> int | None:
    """Parse a prefix length.

    Accepts an integer, digits (``"24"``, ``"/24"``), a netmask (``255.255.255.0``,
    ``ffff:ffff::``) and a hexadecimal netmask (``0xffffff00``).
    """
    bits = 32 if version == 4 else 128
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if 0 <= value <= bits else None
    written = text(value).lstrip("/").lower()
    if written.isascii() and written.isdigit():
        return int(written) if len(written) <= 3 and int(written) <= bits else None
    if written.startswith("0x"):
        return _hex_mask(written[2:], bits)
    mask = ip_address(written)
    if mask is None or mask.version != version:
        return None
    return _contiguous(int(mask), bits)


def _hex_mask(digits: str, bits: int) -> int | None:
    if len(digits) != bits // 4 or not re.fullmatch("[0-9a-f]+", digits):
        return None
    return _contiguous(int(digits, 16), bits)


def _contiguous(mask: int, bits: int) -> int | None:
    length = bin(mask).count("1")
    return length if mask == ((1 << length) - 1) << (bits - length) else None


def interface(address: Any, mask: Any = None) -> IPInterface | None:
    """Parse an interface address, given as ``10.0.0.5/24`` or with a separate `mask`.

    The default length is 24 or 64, as in cloud-init (cloudinit/net/network_state.py,
    _normalize_net_keys).  Unspecified and multicast addresses give None.
    """
    ip, length = _address_and_length(address, mask)
    if ip is None or length is None or ip.is_unspecified or ip.is_multicast:
        return None
    if isinstance(ip, IPv4Address):
        return ipaddress.IPv4Interface((int(ip), length))
    return ipaddress.IPv6Interface((int(ip), length))


def network(address: Any, mask: Any = None) -> IPNetwork | None:
    """Parse a destination prefix in the forms that `interface` accepts; host bits are cleared.

    ``0.0.0.0`` and ``::`` without a mask are the default routes.
    """
    ip, length = _address_and_length(address, mask)
    if ip is None or length is None:
        return None
    return make_network(ip, length)


def make_network(ip: IPAddress, length: int) -> IPNetwork:
    """The prefix of `length` bits that contains `ip`."""
    if isinstance(ip, IPv4Address):
        return ipaddress.IPv4Network((int(ip), length), strict=False)
    return ipaddress.IPv6Network((int(ip), length), strict=False)


def _address_and_length(address: Any, mask: Any) -> _Split:
    written, slash, suffix = text(address).partition("/")
    ip = ip_address(written)
    if ip is None:
        return None, None
    if slash:
        return ip, prefix_length(suffix, ip.version)
    if mask is not None and mask != "":
        return ip, prefix_length(mask, ip.version)
    if ip.is_unspecified:
        return ip, 0
    return ip, 24 if ip.version == 4 else 64
