"""Look-ups over a `HostState` by interface, computed once.

Pure, and without decisions: the selection, the gateway ladder and the planner use these look-ups
instead of each iterating over the snapshot.
"""

from __future__ import annotations

from collections import defaultdict

from ..model import (
    PROTO_BOOT,
    PROTO_DHCP,
    PROTO_KERNEL,
    PROTO_RA,
    PROTO_STATIC,
    SCOPE_LINK,
    TABLE_MAIN,
    Address,
    HostState,
    IPAddress,
    IPNetwork,
    Lease,
    Link,
    MetadataPort,
    Neighbour,
    Route,
)

# Protocols of configured routes, as opposed to those of a routing daemon (linux/rtnetlink.h: the
# kernel's own, boot, static, ra, dhcp; 0 is "unspec").
CONFIGURED_PROTOCOLS = frozenset((0, PROTO_KERNEL, PROTO_BOOT, PROTO_STATIC, PROTO_RA, PROTO_DHCP))

# IFLA_INFO_KIND of links that carry other hosts' or virtual addresses: tunnels (whose far end is
# not an on-link gateway), bridges of containers and VMs, and dummies (kube-proxy's service
# addresses).
OVERLAY_KINDS = frozenset(
    """bareudp bridge dummy erspan fou geneve gre gretap gtp ifb ip6erspan ip6gre ip6gretap ip6tnl
    ip6_vti ipip l2tp netkit nlmon openvswitch ppp sit tun vcan vrf vti vxlan wireguard xfrm
    """.split()
)
# IFLA_INFO_KIND of links to containers or virtual machines, unless the host has only such links.
VIRTUAL_KINDS = frozenset(("veth", "macvlan", "macvtap", "ipvlan", "ipvtap"))

# The metric of ip6_null_entry (net/ipv6/route.c).
NULL_METRIC = 0xFFFFFFFF

Key = tuple[str, int]  # interface name, family


def is_serviceable(address: Address) -> bool:
    """Whether remote hosts may reach an address: it is global and not a duplicate."""
    ip = address.ip
    return not (
        address.scope >= SCOPE_LINK
        or address.failed
        or ip.is_link_local
        or ip.is_loopback
        or ip.is_multicast
        or ip.is_unspecified
    )


def is_specific(network: IPNetwork) -> bool:
    """Not a default, and not half of the 0/1 + 128/1 pair that VPNs use as a default."""
    return network.prefixlen > 1


def is_routable(network: IPNetwork) -> bool:
    """Neither link-local nor multicast: a prefix that a gateway can route."""
    first = network.network_address
    return not (first.is_link_local or first.is_multicast)


class HostIndex:
    """Read-only look-ups over one `HostState`."""

    def __init__(self, state: HostState):
        self.state = state
        self.links: dict[str, Link] = {link.name: link for link in state.links}
        self._addresses: dict[Key, list[Address]] = defaultdict(list)
        for address in state.addresses:
            self._addresses[address.dev, address.family].append(address)
        self._ruled = {
            rule.src.network_address
            for rule in state.rules
            if rule.src is not None and rule.src.prefixlen == rule.src.max_prefixlen
        }
        self._main: dict[Key, list[Route]] = defaultdict(list)
        self.main_prefixes: dict[int, dict[IPNetwork, None]] = {4: {}, 6: {}}
        self._defaults: dict[tuple[int, str, int], list[Route]] = defaultdict(list)
        for route in state.routes:
            if route.dst.prefixlen == 0:
                self._defaults[route.table, route.dev, route.family].append(route)
            if route.table != TABLE_MAIN:
                continue
            self._main[route.dev, route.family].append(route)
            if is_specific(route.dst) and (is_routable(route.dst) or route.gateway):
                self.main_prefixes[route.family][route.dst] = None
        self._has_real_links = any(
            not (link.loopback or link.master or link.kind in VIRTUAL_KINDS | OVERLAY_KINDS)
            for link in state.links
        )
        self._neighbours: dict[Key, list[Neighbour]] = defaultdict(list)
        for neighbour in state.neighbours:
            self._neighbours[neighbour.dev, neighbour.ip.version].append(neighbour)
        self._leases: dict[Key, Lease] = {}
        for lease in state.leases:
            self._leases.setdefault((lease.dev, lease.family), lease)

    def addresses(self, dev: str, family: int) -> list[Address]:
        """The serviceable addresses of an interface, in the kernel's order."""
        return [
            address
            for address in self._addresses[dev, family]
            if is_serviceable(address) and not self._may_be_duplicate(address)
        ]

    def _may_be_duplicate(self, address: Address) -> bool:
        """Whether an address is not served until duplicate address detection ends.

        The kernel creates an address for each router advertisement and removes it again if another
        host has it; the end of the detection is an event.  A static address counts at once, since
        its rule harms nothing.  An address that already has a rule keeps it: an apply during the
        second that the detection takes must not remove the rule.
        """
        return address.tentative and address.dynamic and address.ip not in self._ruled

    def error_default(self, family: int) -> Route | None:
        """Table main's best default, if it is an error (``unreachable``, ``blackhole``...).

        The kernel's own last IPv6 route, with the highest possible metric, does not count.
        """
        found = [
            route
            for (table, _dev, version), routes in self._defaults.items()
            if table == TABLE_MAIN and version == family
            for route in routes
            if route.metric != NULL_METRIC
        ]
        best = min(found, key=lambda r: (r.metric, r.type != "unicast"), default=None)
        return best if best is not None and best.type != "unicast" else None

    def defaults(self, table: int, dev: str, family: int) -> list[Route]:
        """A table's unicast defaults through an interface."""
        return [
            route
            for route in self._defaults[table, dev, family]
            if route.type == "unicast" and route.dst.prefixlen == 0
        ]

    def main_routes(self, dev: str, family: int) -> list[Route]:
        """Table main's unicast routes through an interface."""
        return [route for route in self._main[dev, family] if route.type == "unicast"]

    def neighbours(self, dev: str, family: int) -> list[Neighbour]:
        return self._neighbours[dev, family]

    def lease(self, dev: str, family: int) -> Lease | None:
        """The lease of an address that the interface has now.

        A lease for another address belongs to another network; it may come from an image or a
        snapshot.
        """
        lease = self._leases.get((dev, family))
        if lease is None or lease.address is None:
            return lease
        return lease if self._has(dev, lease.address.ip) else None

    def delegated(self, dev: str) -> tuple[IPNetwork, ...]:
        """The prefixes that a DHCPv6 server has delegated to the interface."""
        lease = self.lease(dev, 6)
        return lease.delegated if lease is not None else ()

    def port(self, link: Link) -> MetadataPort | None:
        """The metadata port of a link; None if none can be attributed to it.

        A MAC alone does not identify the port: a VLAN may share the MAC of its parent port (Neutron
        recommends it), and a bond has the MAC of a member.
        """
        macs = {mac for mac in (link.mac, link.permanent_mac) if mac}
        ports = [
            port
            for port in self.state.metadata.ports
            if (port.mac in macs if port.mac else port.name == link.name)
        ]
        for port in ports:
            if any(self._has(link.name, interface.ip) for interface in port.addresses):
                return port
        for port in ports:
            if port.name == link.name:
                return port
        sharing = [
            other
            for other in self.state.links
            if not other.master and macs.intersection((other.mac, other.permanent_mac))
        ]
        if len(sharing) > 1 and link.kind:
            return None  # a link stacked on the port's own link
        alike = [port for port in ports if not port.vlan or not sharing[1:]]
        alike = [port for port in alike if port.vlan == (link.kind == "vlan")] or alike
        return alike[0] if len(alike) == 1 else None

    def _has(self, dev: str, ip: IPAddress) -> bool:
        return any(address.ip == ip for address in self._addresses[dev, ip.version])

    def is_virtual(self, link: Link) -> bool:
        """Whether a link has a kind used for containers and VMs, on a host with real links."""
        return link.kind in VIRTUAL_KINDS and self._has_real_links

    def connected(self, dev: str, family: int) -> list[IPNetwork]:
        """Prefixes that are on the interface's own link, sorted, longest first.

        They come from its addresses, unless the prefix is flagged as not on-link
        (``noprefixroute``, as for SLAAC without the L flag, RFC 4861 4.6.2) and main has no such
        route; and from main's on-link routes that contain one of its addresses (a DHCPv6 /128 in an
        advertised prefix).
        """
        on_link = {
            route.dst
            for route in self.main_routes(dev, family)
            if route.gateway is None and is_specific(route.dst)
        }
        found: dict[IPNetwork, None] = {}
        for address in self.addresses(dev, family):
            network = address.peer or address.interface.network
            host_only = network.prefixlen == network.max_prefixlen
            if not host_only and (not address.noprefixroute or network in on_link):
                found[network] = None
            for prefix in on_link:
                if address.ip in prefix and prefix.prefixlen < prefix.max_prefixlen:
                    found[prefix] = None
        return sorted(found, key=network_order)

    def is_on_link(self, dev: str, ip: IPAddress) -> bool:
        """Whether an address is in one of the interface's connected prefixes."""
        if ip.version == 6 and ip.is_link_local:
            return True
        return any(ip in network for network in self.connected(dev, ip.version))


def network_order(network: IPNetwork) -> tuple[int, int, int]:
    """Sort key: by family, then by address, then longer prefixes first."""
    return (network.version, int(network.network_address), -network.prefixlen)
