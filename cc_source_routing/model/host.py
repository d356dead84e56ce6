"""What a host is: links, addresses, routes, rules, and what the cloud and leases say of them.

Interfaces are known by name: files need names, and the kernel's index is an affair of the
netlink edge.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, NamedTuple, Optional, Tuple

from .addresses import IPAddress, IPInterface, IPNetwork
from .constants import SCOPE_UNIVERSE


class Link(NamedTuple):
    """A network interface (RTM_NEWLINK)."""

    index: int
    name: str
    mac: str = ""  # lower case, colons; "" when it has none
    permanent_mac: str = ""
    up: bool = True  # administratively (IFF_UP)
    kind: str = ""  # IFLA_INFO_KIND: "" for hardware, "veth", "bridge", "vlan", ...
    master: str = ""
    group: int = 0
    loopback: bool = False


class Address(NamedTuple):
    """An address on a link (RTM_NEWADDR)."""

    dev: str
    interface: IPInterface  # address with prefix length
    scope: int = SCOPE_UNIVERSE
    noprefixroute: bool = False
    tentative: bool = False  # IPv6 duplicate address detection not finished
    failed: bool = False  # IFA_F_DADFAILED
    temporary: bool = False
    dynamic: bool = False  # has a lifetime (DHCP, SLAAC)
    peer: Optional[IPNetwork] = None  # the far end's prefix of a point-to-point address

    @property
    def ip(self) -> IPAddress:
        return self.interface.ip

    @property
    def family(self) -> int:
        return self.interface.version


class Route(NamedTuple):
    """One path of a route; a multipath route is one `Route` a hop."""

    table: int
    dst: IPNetwork
    dev: str = ""
    gateway: Optional[IPAddress] = None
    metric: int = 0
    protocol: int = 0
    scope: int = SCOPE_UNIVERSE
    type: str = "unicast"  # unicast, throw, blackhole, ...
    onlink: bool = False
    preference: int = 0  # of a router that was advertised (RFC 4191): 1 high, -1 low

    @property
    def family(self) -> int:
        return self.dst.version


class Rule(NamedTuple):
    """A routing policy rule (ip-rule(8))."""

    family: int
    priority: int
    table: int
    src: Optional[IPNetwork] = None
    dst: Optional[IPNetwork] = None
    oif: str = ""
    fwmark: int = 0
    fwmask: int = 0
    suppress_prefixlength: Optional[int] = None
    suppress_ifgroup: Optional[int] = None
    protocol: int = 0
    # Anything else that it selects or does, as sorted (attribute, value) pairs:
    # never in a rule of ours, so a rule that has some is not ours.
    other: Tuple[Tuple[str, str], ...] = ()

    @property
    def key(self) -> Rule:
        """The rule without its protocol: networkd adopts rules and changes that."""
        return self._replace(protocol=0)


class Neighbour(NamedTuple):
    """An entry of the ARP or ND cache that has a link-layer address, or a router without."""

    dev: str
    ip: IPAddress
    reachable: bool  # REACHABLE, STALE, DELAY, PROBE or PERMANENT, not FAILED/INCOMPLETE
    router: bool  # NTF_ROUTER: it sent router advertisements
    failed: bool = False  # it has not answered; told of routers only


class MetadataRoute(NamedTuple):
    to: IPNetwork
    via: IPAddress


@dataclass(frozen=True)
class MetadataPort:
    """A port as the cloud or cloud-init's network config tells it."""

    mac: str = ""  # lower case; "" when the source names the interface only
    name: str = ""  # interface name or config id when told
    addresses: Tuple[IPInterface, ...] = ()
    routes: Tuple[MetadataRoute, ...] = ()  # defaults included
    source: str = ""  # "network_data.json", "cloud-init network config v1", ...
    vlan: bool = False  # a VLAN on another port
    # Whether a static network of it that names no gateway has none (network_data.json), or
    # may have one that others tell of (a network config).
    complete: bool = False


@dataclass(frozen=True)
class Metadata:
    """All that the cloud says; an empty one means unknown, never "no ports"."""

    ports: Tuple[MetadataPort, ...] = ()
    warnings: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Lease:
    """What a DHCP client was told for an interface, newest valid lease only."""

    dev: str
    family: int
    address: Optional[IPInterface] = None
    routers: Tuple[IPAddress, ...] = ()  # option 3, in order
    # RFC 3442, option 121.  An RFC-following client that got it ignores option 3.
    classless_routes: Tuple[MetadataRoute, ...] = ()
    client: str = ""  # "dhclient", "networkd", "NetworkManager", "dhcpcd"
    path: str = ""  # the file it came from
    # Gateways that earlier leases told and this one does not, where the client
    # leaves main's default as it was when they change.
    former: Tuple[IPAddress, ...] = ()
    # Prefixes that a DHCPv6 server has delegated (RFC 8415 6.3): ours to route by this NIC.
    delegated: Tuple[IPNetwork, ...] = ()


class PreviousGateway(NamedTuple):
    """What an interface's gateway was at the last apply, and who had told.

    `ip` is None where that cannot be told any more, or nobody has told.
    """

    source: str
    ip: Optional[IPAddress] = None
    mac: str = ""  # of the interface; another one is another port


@dataclass(frozen=True)
class Previous:
    """What the last apply has left to be known by the next one."""

    # What interfaces had before we changed it, for the way back: groups by
    # interface, sysctls by interface and key.
    groups: Mapping[str, int] = field(default_factory=dict)
    sysctls: Mapping[Tuple[str, str], int] = field(default_factory=dict)
    nftables: bool = False  # whether we have loaded a table
    gateways: Mapping[Tuple[str, int], PreviousGateway] = field(default_factory=dict)


@dataclass(frozen=True)
class HostState:
    """One snapshot of all that a plan depends on beside the stanza."""

    links: Tuple[Link, ...] = ()
    addresses: Tuple[Address, ...] = ()
    routes: Tuple[Route, ...] = ()
    rules: Tuple[Rule, ...] = ()
    neighbours: Tuple[Neighbour, ...] = ()
    metadata: Metadata = Metadata()
    leases: Tuple[Lease, ...] = ()
    # Guessed gateways that were probed: (interface, address) -> answered.
    probes: Mapping[Tuple[str, IPAddress], bool] = field(default_factory=dict)
    # Names of routing tables that others defined in the root: id -> name.
    foreign_tables: Mapping[int, str] = field(default_factory=dict)
    # Our own earlier table ids: interface name -> id.
    saved_tables: Mapping[str, int] = field(default_factory=dict)
    # net.ipv4.conf.<interface or "all">.<key>: (interface, key) -> value.
    sysctls: Mapping[Tuple[str, str], int] = field(default_factory=dict)
    # The checksum that our nftables table bears; "" when there is no such table,
    # None when nobody asked (published_ports is and was off).
    nftables: Optional[str] = None
    previous: Previous = Previous()
    # The rule_priority of the last apply; None when there was none.
    saved_rule_priority: Optional[int] = None
    warnings: Tuple[str, ...] = ()
