"""Addresses and prefixes: `ipaddress` objects, so that ``fd00:0::1`` and ``fd00::1`` are one."""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Union

IPAddress = Union[IPv4Address, IPv6Address]
IPInterface = Union[IPv4Interface, IPv6Interface]
IPNetwork = Union[IPv4Network, IPv6Network]

# Families are told by their IP version: 4 or 6.
FAMILIES = (4, 6)
