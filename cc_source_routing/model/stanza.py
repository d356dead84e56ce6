"""The user's configuration: the validated stanza."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from .addresses import FAMILIES, IPAddress, IPNetwork
from .constants import MARK_MASK


@dataclass(frozen=True)
class StanzaRoute:
    to: IPNetwork
    via: IPAddress | None = None
    on_link: bool = False


@dataclass(frozen=True)
class InterfaceStanza:
    """One entry of ``interfaces:``."""

    id: str
    match_name: str = ""  # glob
    match_macaddress: str = ""  # lower case
    enabled: bool = True
    table: int | None = None
    gateway4: IPv4Address | None = None
    gateway6: IPv6Address | None = None
    routes: tuple[StanzaRoute, ...] = ()
    on_link: bool = False  # the gateways may be outside the NIC's subnets
    sources: tuple[IPNetwork, ...] = ()  # prefixes that the cloud routes to this port


@dataclass(frozen=True)
class Stanza:
    """The validated ``source_routing:`` stanza, every default filled in."""

    enabled: bool = True
    renderer: str = "auto"
    families: frozenset[int] = frozenset(FAMILIES)
    gateway_guess: str = "verify"  # never | verify | always
    rp_filter: str = "keep"  # keep | loose | strict
    published_ports: bool = False
    published_ports_mark: int = MARK_MASK  # one byte of 32 bits, as a mask
    table_base: int = 500
    rule_priority: int = 5000
    exclude: tuple[str, ...] = ()
    interfaces: tuple[InterfaceStanza, ...] = ()
