"""Addresses and prefixes: `ipaddress` objects, so that ``fd00:0::1`` and ``fd00::1`` are equal."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_network,
)
from typing import Union

IPAddress = Union[IPv4Address, IPv6Address]
IPInterface = Union[IPv4Interface, IPv6Interface]
IPNetwork = Union[IPv4Network, IPv6Network]

# An address family is its IP version: 4 or 6.
FAMILIES = (4, 6)
# The destination of a default route, by family.
ANYWHERE: Mapping[int, IPNetwork] = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}
