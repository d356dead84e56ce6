"""Hosts in a few words, and a route lookup over plain values, for the pure tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_interface, ip_network

from cc_source_routing.model import (
    PROTO_BOOT,
    PROTO_KERNEL,
    SCOPE_LINK,
    TABLE_MAIN,
    Address,
    HostState,
    IPAddress,
    Link,
    Route,
    RoutingPlan,
    Rule,
)


def mac_of(index: int) -> str:
    return f"fa:16:3e:00:00:{index:02x}"


def link(name: str, index: int, **fields: object) -> Link:
    return Link(index, name, mac_of(index))._replace(**fields)  # type: ignore[arg-type]


def route(text: str, dev: str = "", protocol: int = PROTO_BOOT, metric: int = 0) -> Route:
    """A route of main from ``PREFIX [via GATEWAY]``."""
    words = text.split()
    dst = ip_network({"default": "0.0.0.0/0", "default6": "::/0"}.get(words[0], words[0]))
    via = ip_address(words[2]) if len(words) > 1 else None
    scope = SCOPE_LINK if via is None and dst.version == 4 else 0
    return Route(TABLE_MAIN, dst, dev, via, metric, protocol, scope)


def host(
    nics: dict, routes: Sequence[Route] = (), links: Sequence[Link] = (), **fields
) -> HostState:  # type: ignore[no-untyped-def,type-arg]
    """A host with `nics`: name -> addresses, each with its connected route in main."""
    all_links: list[Link] = [Link(1, "lo", loopback=True)]
    addresses: list[Address] = []
    main = list(routes)
    for number, (name, texts) in enumerate(nics.items(), start=2):
        all_links.append(link(name, number))
        for text in texts:
            interface = ip_interface(text)
            addresses.append(Address(name, interface))
            network = interface.network
            if network.prefixlen < network.max_prefixlen:
                main.append(route(str(network), name, PROTO_KERNEL))
    return HostState(
        links=(*all_links, *links), addresses=tuple(addresses), routes=tuple(main), **fields
    )


SEED = host(
    {"ens3": ["162.253.43.134/24"], "ens4": ["10.13.96.161/19"]},
    [
        route("default via 162.253.43.1", "ens3"),
        route("10.0.0.0/8 via 10.13.96.1", "ens4"),
        route("162.253.42.0/24", "ens3"),
        route("169.254.169.254/32 via 162.253.43.1", "ens3"),
    ],
)


def lookup(
    plan: RoutingPlan, main: Iterable[Route], source: IPAddress, destination: IPAddress
) -> tuple[Route | None, int]:
    """The kernel's algorithm (net/core/fib_rules.c) over values: route and rule priority."""
    tables: dict = {TABLE_MAIN: [r for r in main if r.table == TABLE_MAIN]}  # type: ignore[type-arg]
    for planned in plan.routes:
        tables.setdefault(planned.table, []).append(planned)
    managed = {nic.name for nic in plan.nics}
    family = source.version
    last = Rule(family, 32766, TABLE_MAIN)
    for rule in [r for r in plan.rules if r.family == family] + [last]:
        if rule.oif or (rule.src is not None and source not in rule.src):
            continue
        found = longest(tables.get(rule.table, []), destination)
        if found is None or found.type == "throw":
            continue
        if found.type == "unicast":
            limit = rule.suppress_prefixlength
            if limit is not None and found.dst.prefixlen <= limit:
                continue
            if rule.suppress_ifgroup is not None and found.dev in managed:
                continue
        return found, rule.priority
    return None, 0


def longest(routes: Iterable[Route], destination: IPAddress) -> Route | None:
    matching = [r for r in routes if r.family == destination.version and destination in r.dst]
    if not matching:
        return None
    return max(matching, key=lambda r: (r.dst.prefixlen, -r.metric))
