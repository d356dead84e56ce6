"""The observed host: links, addresses, routes, rules, metadata and leases.

Interfaces are identified by name: files need names, and only the netlink code uses the kernel's
index.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from .addresses import IPAddress, IPInterface, IPNetwork
from .constants import SCOPE_UNIVERSE


class Link(NamedTuple):
    """A network interface (RTM_NEWLINK)."""

    ifindex: int
    name: str
    mac: str = ""  # lower case, colons; "" for none
    permanent_mac: str = ""
    up: bool = True  # administratively (IFF_UP)
    kind: str = ""  # IFLA_INFO_KIND: "" for hardware, "veth", "bridge", "vlan", ...
    master: str = ""
    group: int = 0
    loopback: bool = False
    running: bool = True  # operationally (IFF_RUNNING): it has a carrier


class Address(NamedTuple):
    """An address on a link (RTM_NEWADDR)."""

    dev: str
    interface: IPInterface  # address with prefix length
    scope: int = SCOPE_UNIVERSE
    noprefixroute: bool = False
    tentative: bool = False  # IPv6 duplicate address detection is not finished
    failed: bool = False  # IFA_F_DADFAILED
    temporary: bool = False
    dynamic: bool = False  # has a lifetime (DHCP, SLAAC)
    peer: IPNetwork | None = None  # the peer's prefix on a point-to-point link

    @property
    def ip(self) -> IPAddress:
        return self.interface.ip

    @property
    def family(self) -> int:
        return self.interface.version


class Route(NamedTuple):
    """A route (RTM_NEWROUTE); a multipath route is one `Route` for each next hop."""

    table: int
    dst: IPNetwork
    dev: str = ""
    gateway: IPAddress | None = None
    metric: int = 0
    protocol: int = 0
    scope: int = SCOPE_UNIVERSE
    type: str = "unicast"  # unicast, throw, blackhole, ...
    onlink: bool = False
    preference: int = 0  # of an advertised router (RFC 4191): 1 high, -1 low

    @property
    def family(self) -> int:
        return self.dst.version


class Rule(NamedTuple):
    """A routing policy rule (ip-rule(8))."""

    family: int
    priority: int
    table: int
    src: IPNetwork | None = None
    dst: IPNetwork | None = None
    oif: str = ""
    fwmark: int = 0
    fwmask: int = 0
    suppress_prefixlength: int | None = None
    suppress_ifgroup: int | None = None
    protocol: int = 0
    # All other selectors and actions, as sorted (attribute, value) pairs.  Our rules have none, so
    # a rule that has some is not ours.
    other: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> Rule:
        """The rule without its protocol, which networkd changes when it adopts a rule."""
        return self._replace(protocol=0)


class Neighbour(NamedTuple):
    """A neighbour cache entry with a link-layer address, or one of IPv6 that may be a router."""

    dev: str
    ip: IPAddress
    reachable: bool  # REACHABLE, STALE, DELAY, PROBE or PERMANENT, not FAILED/INCOMPLETE
    router: bool  # NTF_ROUTER: it sent router advertisements
    failed: bool = False  # it does not answer


class MetadataRoute(NamedTuple):
    to: IPNetwork
    via: IPAddress


@dataclass(frozen=True)
class MetadataPort:
    """A port as the cloud's metadata or cloud-init's network config describes it."""

    mac: str = ""  # lower case; "" when the source names the interface only
    name: str = ""  # interface name or config id, if given
    addresses: tuple[IPInterface, ...] = ()
    routes: tuple[MetadataRoute, ...] = ()  # defaults included
    source: str = ""  # "network_data.json", "cloud-init network config v1", ...
    vlan: bool = False  # a VLAN on another port
    # Whether a static network that names no gateway has none (network_data.json).  In a network
    # config the gateway may come from another source.
    complete: bool = False


@dataclass(frozen=True)
class Metadata:
    """All of the cloud's metadata; an empty one means unknown, never "no ports"."""

    ports: tuple[MetadataPort, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lease:
    """The newest valid lease of an interface, as its DHCP client recorded it."""

    dev: str
    family: int
    address: IPInterface | None = None
    routers: tuple[IPAddress, ...] = ()  # option 3, in order
    # Option 121 (RFC 3442).  A conforming client that receives it ignores option 3.
    classless_routes: tuple[MetadataRoute, ...] = ()
    client: str = ""  # "dhclient", "networkd", "NetworkManager", "dhcpcd"
    path: str = ""  # the file it came from
    # Gateways of earlier leases that this one does not name.  Set for clients that leave main's
    # default unchanged when the gateway changes.
    former: tuple[IPAddress, ...] = ()
    # Prefixes that a DHCPv6 server has delegated (RFC 8415 6.3), to be routed by this NIC.
    delegated: tuple[IPNetwork, ...] = ()


class PreviousGateway(NamedTuple):
    """An interface's gateway at the last apply, and where it came from.

    `ip` is None if the address is no longer known, or no source named one.
    """

    source: str
    ip: IPAddress | None = None
    mac: str = ""  # of the interface; a different MAC is a different port


@dataclass(frozen=True)
class Previous:
    """What the last apply recorded for the next one."""

    # The values that interfaces had before our changes, to be restored later: groups by interface,
    # sysctls by interface and key.
    groups: Mapping[str, int] = field(default_factory=dict)
    sysctls: Mapping[tuple[str, str], int] = field(default_factory=dict)
    nftables: bool = False  # whether an apply has loaded our table
    gateways: Mapping[tuple[str, int], PreviousGateway] = field(default_factory=dict)


@dataclass(frozen=True)
class HostState:
    """A snapshot of everything that a plan depends on besides the stanza."""

    links: tuple[Link, ...] = ()
    addresses: tuple[Address, ...] = ()
    # Of all tables but local; for an apply only those that a plan can depend on.
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    metadata: Metadata = Metadata()
    leases: tuple[Lease, ...] = ()
    # Probed gateway guesses: (interface, address) -> answered.
    probes: Mapping[tuple[str, IPAddress], bool] = field(default_factory=dict)
    # Names of routing tables that others define in rt_tables: id -> name.
    foreign_tables: Mapping[int, str] = field(default_factory=dict)
    # Table ids that earlier applies allocated: interface name -> id.
    saved_tables: Mapping[str, int] = field(default_factory=dict)
    # net.ipv4.conf.<interface or "all">.<key>: (interface, key) -> value.
    sysctls: Mapping[tuple[str, str], int] = field(default_factory=dict)
    # The checksum of our loaded nftables table; "" when there is no such table, None when it was
    # not read (published_ports is off and was off before).
    nftables: str | None = None
    previous: Previous = Previous()
    # The rule_priority of the last apply; None when there was none.
    saved_rule_priority: int | None = None
    warnings: tuple[str, ...] = ()
