"""The words that all other modules speak: plain frozen values.

No I/O, no netlink, no cloud-init, no decisions.  Interfaces are known by
name (files need names, and the kernel's index is an affair of the netlink
edge); addresses and prefixes are `ipaddress` objects, so that ``fd00:0::1``
and ``fd00::1`` are one value.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Any, Dict, FrozenSet, Mapping, NamedTuple, Optional, Tuple, Union

IPAddress = Union[IPv4Address, IPv6Address]
IPInterface = Union[IPv4Interface, IPv6Interface]
IPNetwork = Union[IPv4Network, IPv6Network]

# Families are told by their IP version: 4 or 6.
FAMILIES = (4, 6)

# linux/rtnetlink.h
TABLE_UNSPEC, TABLE_DEFAULT, TABLE_MAIN, TABLE_LOCAL = 0, 253, 254, 255
RESERVED_TABLES = frozenset((TABLE_UNSPEC, TABLE_DEFAULT, TABLE_MAIN, TABLE_LOCAL))
PROTO_KERNEL, PROTO_BOOT, PROTO_STATIC, PROTO_RA, PROTO_DHCP = 2, 3, 4, 9, 16
SCOPE_UNIVERSE, SCOPE_LINK = 0, 253

# By these we know what is ours.  None is assigned in linux/rtnetlink.h or in
# iproute2's rt_protos; the group only has to differ from what others use.
OUR_PROTOCOL = 83
OUR_PROTOCOL_NAME = "source-routing"
OUR_GROUP = 21330

# The byte of connection and packet marks that published_ports uses, unless another is
# chosen.  Kubernetes takes lower ones; Calico's 0x01000000 lies in it, and with Cilium it
# is a part of the identity of endpoints.
MARK_MASK = 0xFF000000

# The keys of net.ipv4.conf.* that we may set on managed NICs.
SYSCTLS = ("rp_filter", "src_valid_mark")

# Route replacement is keyed on the metric, so it never varies.  It is one that main's
# routes do not have: strongSwan dumps all tables without asking rules (strongswan#3138),
# and of two equal routes it may take ours.
METRIC = 4000

# Where the kernel asks table main (fib_default_rules_init in net/ipv4/fib_rules.c).
MAIN_PRIORITY = 32766


# --------------------------------------------------------------------------
# What the host is: observed
# --------------------------------------------------------------------------


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


# --------------------------------------------------------------------------
# What the user wants: the stanza
# --------------------------------------------------------------------------


@dataclass(frozen=True)
class StanzaRoute:
    to: IPNetwork
    via: Optional[IPAddress] = None
    on_link: bool = False


@dataclass(frozen=True)
class InterfaceStanza:
    """One entry of ``interfaces:``."""

    id: str
    match_name: str = ""  # glob
    match_macaddress: str = ""  # lower case
    enabled: bool = True
    table: Optional[int] = None
    gateway4: Optional[IPv4Address] = None
    gateway6: Optional[IPv6Address] = None
    routes: Tuple[StanzaRoute, ...] = ()
    on_link: bool = False  # the gateways need not lie in a subnet of the NIC
    sources: Tuple[IPNetwork, ...] = ()  # prefixes that the cloud routes to this port


@dataclass(frozen=True)
class Stanza:
    """The validated ``source_routing:`` stanza, every default filled in."""

    enabled: bool = True
    renderer: str = "auto"
    families: FrozenSet[int] = frozenset(FAMILIES)
    gateway_guess: str = "verify"  # never | verify | always
    rp_filter: str = "keep"  # keep | loose | strict
    published_ports: bool = False
    published_ports_mark: int = MARK_MASK  # one byte of 32 bits, as a mask
    table_base: int = 500
    rule_priority: int = 5000
    exclude: Tuple[str, ...] = ()
    interfaces: Tuple[InterfaceStanza, ...] = ()


# Why a NIC is not served just now, of the kind that passes by itself.
LINK_DOWN = "link is down"
NO_ADDRESS = "no global address"
NO_GATEWAY = "no gateway known"
NO_SIBLING = "no second NIC with a gateway in its family"
PASSING_REASONS = frozenset((LINK_DOWN, NO_ADDRESS, NO_GATEWAY, NO_SIBLING))

# --------------------------------------------------------------------------
# What shall be: the plan
# --------------------------------------------------------------------------


class Gateway(NamedTuple):
    """The gateway chosen for one NIC and family, and why."""

    ip: IPAddress
    source: str  # short and stable: "stanza", "metadata", "default route", "lease", ...
    reason: str  # for people: "default route via ens4 in table main (proto dhcp)"
    onlink: bool = False
    outlived: Tuple[IPAddress, ...] = ()  # gateways of main's defaults that count no more
    # Whether somebody has told of it.  Another is good enough for the NIC's own
    # packets, not for what its siblings send to its subnet.
    told: bool = True


@dataclass(frozen=True)
class PlannedNic:
    """One managed NIC with all that is planned for it."""

    name: str
    mac: str
    table: int
    addresses: Tuple[IPInterface, ...]  # those that get rules, sorted
    sources: Tuple[IPNetwork, ...] = ()  # prefixes that get rules beside them, sorted
    gateways: Mapping[int, Gateway] = field(default_factory=dict)  # by family
    routes: Tuple[Route, ...] = ()  # of its table, both families
    rules: Tuple[Rule, ...] = ()
    mark: int = 0  # connection mark of published_ports, within the plan's mask; 0: none

    def gateway(self, family: int) -> Optional[Gateway]:
        return self.gateways.get(family)


@dataclass(frozen=True)
class RoutingPlan:
    """The one result of planning: feeds the kernel, the files and the checks.

    Empty (`nics` is ()) when there is nothing to do; `reason` then says why.
    """

    nics: Tuple[PlannedNic, ...] = ()
    group: int = OUR_GROUP
    rp_filter: Optional[int] = None  # value for managed NICs; None: keep
    published_ports: bool = False
    mark_mask: int = MARK_MASK
    rule_priority: int = 5000  # of our first rule
    asked_priority: int = 5000  # the stanza's: another one where a full tunnel has come before it
    reason: str = ""
    warnings: Tuple[str, ...] = ()
    unserved: Mapping[str, str] = field(default_factory=dict)  # NIC -> why it is not managed
    # Tables of names that are not planned just now (down, no address yet): kept for
    # them, since a network manager's own files may bring them back by number.
    reserved_tables: Mapping[str, int] = field(default_factory=dict)
    # Names that somebody else gives to tables in rt_tables.
    taken_names: FrozenSet[str] = frozenset()

    @property
    def routes(self) -> Tuple[Route, ...]:
        return tuple(route for nic in self.nics for route in nic.routes)

    @property
    def rules(self) -> Tuple[Rule, ...]:
        return tuple(sorted((rule for nic in self.nics for rule in nic.rules), key=rule_order))

    def nic(self, name: str) -> Optional[PlannedNic]:
        return next((nic for nic in self.nics if nic.name == name), None)


def rule_order(rule: Rule) -> Tuple[Any, ...]:
    """Sort key: the order in which the kernel reads rules, families apart."""
    src, dst = rule.src, rule.dst
    return (
        rule.family,
        rule.priority,
        int(src.network_address) if src else -1,
        src.prefixlen if src else -1,
        rule.oif,
        rule.fwmark,
        int(dst.network_address) if dst else -1,
        dst.prefixlen if dst else -1,
        rule.table,
    )


# --------------------------------------------------------------------------
# Files
# --------------------------------------------------------------------------


class ConfigFile(NamedTuple):
    """A file that a renderer wants under the root; `path` is absolute there."""

    path: str
    content: str
    mode: int = 0o644


JsonDict = Dict[str, Any]
