"""The side of each managed NIC in the plan: addresses, prefixes, networks, gateway.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_network
from typing import NamedTuple

from ..model import Gateway, InterfaceStanza, IPInterface, IPNetwork, Link, Route
from .decide import prefixes_routed_to
from .host_index import CONFIGURED_PROTOCOLS, HostIndex, is_routable, is_specific, network_order


class Side(NamedTuple):
    """One address family of one NIC in the plan."""

    name: str
    table: int
    gateway: Gateway
    addresses: tuple[IPInterface, ...]
    sources: tuple[IPNetwork, ...]  # prefixes that leave by it, besides its addresses
    connected: tuple[IPNetwork, ...]
    static: Mapping[IPNetwork, Route]  # configured specific routes of main through it
    extra: tuple[Route, ...]  # the stanza's routes for its table

    @property
    def family(self) -> int:
        return self.gateway.ip.version

    @property
    def prefixes(self) -> set[IPNetwork]:
        """The prefixes that siblings reach by their own gateways; none if the gateway is assumed.

        Whether an assumed gateway routes is unknown, so there table main decides.
        """
        if not self.gateway.reported:
            return set()
        return set(self.connected) | set(self.static)


def claim_addresses(
    index: HostIndex,
    served: Sequence[tuple[Link, InterfaceStanza | None]],
    families: Iterable[int],
) -> tuple[dict[tuple[str, int], tuple[IPInterface, ...]], list[str]]:
    """The addresses of each NIC that get rules; an address on two NICs goes to the first."""
    claims: dict[tuple[str, int], tuple[IPInterface, ...]] = {}
    warnings: list[str] = []
    owner: dict[object, str] = {}
    for link, _entry in served:
        for family in families:
            mine = []
            for address in index.addresses(link.name, family):
                first = owner.setdefault(address.ip, link.name)
                if first == link.name:
                    mine.append(address.interface)
                else:
                    warnings.append(
                        f"{address.ip} is on both {first} and {link.name}; {first} keeps it"
                    )
            claims[link.name, family] = tuple(sorted(mine, key=lambda i: (int(i.ip), str(i))))
    return claims, warnings


def claim_sources(
    index: HostIndex,
    served: Sequence[tuple[Link, InterfaceStanza | None]],
    claims: Mapping[tuple[str, int], tuple[IPInterface, ...]],
) -> tuple[dict[tuple[str, int], tuple[IPNetwork, ...]], list[str]]:
    """The prefixes of each NIC that get rules, except those that overlap a sibling's.

    The rules of an address and of a prefix around it have the same priorities, and the kernel does
    not define which of them is evaluated first.
    """
    taken: list[tuple[IPNetwork, str]] = [
        (ip_network(interface.ip), name) for (name, _f), own in claims.items() for interface in own
    ]
    found: dict[tuple[str, int], tuple[IPNetwork, ...]] = {}
    warnings: list[str] = []
    for link, entry in served:
        for prefix in dict.fromkeys(prefixes_routed_to(index, link, entry)):
            clash = next(
                (
                    (other, name)
                    for other, name in taken
                    if name != link.name and prefix.version == other.version
                    if prefix.overlaps(other)
                ),
                None,
            )
            if clash is not None:
                warnings.append(
                    f"what comes from {prefix} is not routed by {link.name}: {clash[0]} is "
                    f"{clash[1]}'s"
                )
                continue
            taken.append((prefix, link.name))
            key = link.name, prefix.version
            found[key] = tuple(sorted((*found.get(key, ()), prefix), key=network_order))
    return found, warnings


def side_of(
    index: HostIndex,
    name: str,
    table: int,
    gateway: Gateway,
    addresses: tuple[IPInterface, ...],
    sources: tuple[IPNetwork, ...],
    extra: tuple[Route, ...],
) -> Side:
    """The side of the NIC `name` in its gateway's address family."""
    family = gateway.ip.version
    connected = tuple(index.connected(name, family))
    static = {
        route.dst: route
        for route in index.main_routes(name, family)
        if route.dst not in connected and _is_static(route, gateway)
    }
    return Side(name, table, gateway, addresses, sources, connected, static, extra)


def _is_static(route: Route, gateway: Gateway) -> bool:
    """Whether a route of main describes what is behind its NIC's gateway or link.

    A route through another next hop does not: the sibling's own gateway does not know the networks
    behind a neighbouring host (flannel's and Calico's pods).
    """
    return (
        is_specific(route.dst)
        and (is_routable(route.dst) or route.gateway is not None)
        and route.protocol in CONFIGURED_PROTOCOLS
        and (route.gateway is None or route.gateway == gateway.ip)
    )
