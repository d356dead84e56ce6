"""Check by the kernel's own route lookup whether a host matches its plan.

The invariant: a packet leaves by the interface that owns its source address.
Where table main has a specific route and the plan leaves that destination to main
(a container bridge, a routing daemon's network), main's route is right too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import (
    TYPE_CHECKING,
    NamedTuple,
)

from ..model import (
    PROTO_KERNEL,
    TABLE_DEFAULT,
    TABLE_LOCAL,
    TABLE_MAIN,
    HostState,
    IPAddress,
    PlannedNic,
    Route,
    RoutingPlan,
    Rule,
)
from ..plan.host_index import OVERLAY_KINDS, is_routable, is_specific
from ..plan.rules import STAGES_OF_OTHERS
from ..text.ip_words import describe_rule
from .diff import AddRule, DeleteRoute, DeleteRule, Operation, ReplaceRoute, SetGroup

if TYPE_CHECKING:
    from .netlink import Kernel, Lookup

# Documentation addresses (RFC 5737, RFC 3849) stand in for a remote host.
SOMEWHERE: dict[int, tuple[IPAddress, ...]] = {
    4: tuple(ip_address(text) for text in ("192.0.2.1", "198.51.100.1", "203.0.113.1")),
    6: tuple(ip_address(text) for text in ("2001:db8:ffff:ffff::1", "2001:db8:fffe:ffff::1")),
}
# The table and priority of the kernel's default rules.  Other software may move them: Cilium
# has local at 100, VRF set-ups at 32765 (vrf.rst), Shorewall main at 999.
KERNEL_RULES = {
    4: {TABLE_LOCAL: 0, TABLE_MAIN: 32766, TABLE_DEFAULT: 32767},
    6: {TABLE_LOCAL: 0, TABLE_MAIN: 32766},
}
SAMPLES = 16  # specific destinations looked up per address


class Reply(NamedTuple):
    """Where a packet from one of our addresses goes, and whether that is right."""

    source: IPAddress
    destination: IPAddress
    owner: str
    lookup: Lookup | None
    # Main's specific route, where the plan leaves the destination to main.
    main_route: Route | None
    # The devices of main's routes there: several, where it spreads flows over equal routes.
    main_devs: frozenset[str] = frozenset()
    # Whether main's route leaves by an unmanaged device: then only that device is right.
    elsewhere: bool = False
    # The rule that decided, if known, and whether it is a foreign one.
    rule: Rule | None = None
    foreign: bool = False
    # Whether one of our rules looked up a foreign table.
    by_others: bool = False
    # Whether the next hop answers ARP or neighbour discovery; None: not probed, or no next hop.
    next_hop_answers: bool | None = None

    @property
    def right(self) -> bool:
        if self.lookup is None:
            return self.main_route is not None and self.main_route.type != "unicast"
        if self.by_others:
            return True
        if self.elsewhere:
            return self.lookup.dev in self.main_devs
        return self.lookup.dev == self.owner or self.lookup.dev in self.main_devs


def deviations(operations: Iterable[Operation]) -> list[str]:
    """Differences between kernel and plan, as sentences for `check`."""
    lines = []
    for operation in operations:
        text = operation.describe()
        if isinstance(operation, (ReplaceRoute, AddRule)):
            lines.append(
                f"missing or different: {text.replace(' replace', '').replace(' add', '')}"
            )
        elif isinstance(operation, (DeleteRule, DeleteRoute)):
            lines.append(f"unexpected: {text.replace(' del', '')}")
        elif isinstance(operation, SetGroup):
            lines.append(f"interface group of {operation.dev} is not {operation.group}")
        else:
            lines.append(f"different: {text}")
    return lines


def kernel_rule_deviations(state: HostState, families: Iterable[int]) -> list[str]:
    """Sentences where the rules for local, main and default are not the kernel's own.

    networkd deletes a rule that was re-created without ``protocol kernel`` at its next
    reconfigure, and the host then has table local only.  A rule at another priority is
    deliberate (`KERNEL_RULES`).
    """
    found = []
    for family in families:
        unselective = [
            rule
            for rule in state.rules
            if rule.family == family
            and not (rule.src or rule.dst or rule.oif or rule.fwmark or rule.other)
            and rule.suppress_prefixlength is None
            and rule.suppress_ifgroup is None
        ]
        for table, priority in KERNEL_RULES[family].items():
            rules = [rule for rule in unselective if rule.table == table]
            if not rules:
                what = "; the host may not know its own addresses" if table == TABLE_LOCAL else ""
                found.append(f"IPv{family} rule {priority} (lookup table {table}) is missing{what}")
            elif all(r.priority == priority and r.protocol != PROTO_KERNEL for r in rules):
                found.append(
                    f"IPv{family} rule {priority} is not the kernel's own "
                    f"(proto {rules[0].protocol}); systemd-networkd would delete it"
                )
    return found


def replies(kernel: Kernel, plan: RoutingPlan, state: HostState) -> list[Reply]:
    """Look up in the kernel where replies from each managed address go."""
    answers = []
    for nic in plan.nics:
        for interface in nic.addresses:
            for destination in destinations(plan, state, nic, interface.ip):
                answers.append(reply(kernel, plan, state, nic.name, interface.ip, destination))
    return answers


def reply(
    kernel: Kernel,
    plan: RoutingPlan,
    state: HostState,
    owner: str,
    source: IPAddress,
    destination: IPAddress,
) -> Reply:
    """Look up one route in the kernel, and judge whether main's route applies there."""
    answer = kernel.lookup(destination, source)
    main_route = main_specific(state, destination)
    nic = plan.nic(owner)
    if main_route is not None and nic is not None and plan.nic(main_route.dev) is not None:
        # Main's route by a sibling NIC counts only where the owner's table leaves it to main.
        planned = longest(nic.routes, destination)
        if planned is not None and planned.type == "unicast":
            main_route = None
    elsewhere = (
        main_route is not None
        and main_route.type == "unicast"
        and plan.nic(owner) is not None
        and plan.nic(main_route.dev) is None
    )
    main_devs = frozenset(
        route.dev
        for route in (state.routes if main_route is not None else ())
        if route.table == TABLE_MAIN
        and main_route is not None
        and (route.dst, route.metric) == (main_route.dst, main_route.metric)
    )
    rule = matched_rule(answer, source, destination, state)
    ours = {own.key for own in plan.rules}
    foreign = rule is not None and rule.key not in ours and not _is_the_kernels(rule)
    by_others = (
        rule is not None and not foreign and rule.priority - plan.rule_priority in STAGES_OF_OTHERS
    )
    return Reply(
        source,
        destination,
        owner,
        answer,
        main_route,
        main_devs,
        elsewhere,
        rule,
        foreign,
        by_others,
    )


def _is_the_kernels(rule: Rule) -> bool:
    return rule.table in (TABLE_LOCAL, TABLE_MAIN, TABLE_DEFAULT) and not (rule.src or rule.dst)


def matched_rule(
    lookup: Lookup | None, source: IPAddress, destination: IPAddress, state: HostState
) -> Rule | None:
    """The rule at which the kernel's lookup ended: the first that can select that table.

    The kernel reports table and prefix of a lookup, but not the rule.  A rule whose
    suppressor rejects the prefix is excluded (net/core/fib_rules.c).
    """
    if lookup is None:
        return None
    groups = {link.name: link.group for link in state.links}
    for rule in sorted(state.rules, key=lambda rule: rule.priority):
        if rule.family != source.version or rule.table != lookup.table:
            continue
        if not _selects(rule, source, destination):
            continue
        limit = rule.suppress_prefixlength
        if limit is not None and lookup.dst.prefixlen <= limit:
            continue
        if rule.suppress_ifgroup is not None:
            if groups.get(lookup.dev) == rule.suppress_ifgroup:
                continue
        return rule
    return None


def _selects(rule: Rule, source: IPAddress, destination: IPAddress) -> bool:
    """Whether a rule matches an unmarked local packet that is bound to no device."""
    inverted = rule.other == (("invert", "1"),)
    if rule.other and not inverted:
        return False
    matches = (
        (rule.src is None or source in rule.src)
        and (rule.dst is None or destination in rule.dst)
        and not (rule.oif or rule.fwmark)
    )
    return matches != inverted


def somewhere(state: HostState, family: int) -> IPAddress:
    """An address that only a default route leads to."""
    for candidate in SOMEWHERE[family]:
        if main_specific(state, candidate) is None:
            return candidate
    return SOMEWHERE[family][0]


def destinations(
    plan: RoutingPlan, state: HostState, nic: PlannedNic, source: IPAddress
) -> list[IPAddress]:
    """A remote host, and a host in each specific prefix of main, up to `SAMPLES`."""
    own = {address.ip for address in state.addresses}
    found = [somewhere(state, source.version)]
    for route in state.routes:
        if len(found) > SAMPLES:
            break
        if route.table != TABLE_MAIN or route.family != source.version:
            continue
        if not (is_specific(route.dst) and is_routable(route.dst)):
            continue
        host = route.dst.network_address
        if route.dst.prefixlen < route.dst.max_prefixlen - 1:
            host += 2
        if host not in own and host not in found:
            found.append(host)
    return found


def main_specific(state: HostState, destination: IPAddress) -> Route | None:
    """Table main's longest match for a destination, without default routes."""
    return longest((r for r in state.routes if r.table == TABLE_MAIN), destination)


def longest(routes: Iterable[Route], destination: IPAddress) -> Route | None:
    """The longest match of one table's routes for a destination, without default routes."""
    best: Route | None = None
    for route in routes:
        if route.family != destination.version:
            continue
        if not is_specific(route.dst) or destination not in route.dst:
            continue
        longer = best is None or route.dst.prefixlen > best.dst.prefixlen
        cheaper = (
            best is not None
            and route.dst.prefixlen == best.dst.prefixlen
            and route.metric < best.metric
        )
        if longer or cheaper:
            best = route
    return best


def rp_filter(state: HostState, dev: str) -> int:
    """The effective rp_filter of an interface: 0 off, 1 strict, 2 loose.

    The larger of its own value and that of "all" (ip-sysctl.rst).
    """
    return max(state.sysctls.get((name, "rp_filter"), 0) for name in ("all", dev))


def dropped_by_rp_filter(answer: Reply, plan: RoutingPlan, state: HostState) -> bool:
    """Whether packets from the destination to the source are dropped on arrival.

    Strict reverse path filtering (RFC 3704) accepts a packet only on the interface by which
    its reply would leave; loose filtering accepts it if there is any route back.  IPv6 has
    no such sysctl.  What leaves by a device that is not a cloud port also returns by it.
    """
    if answer.source.version != 4:
        return False
    if answer.lookup is None:
        return rp_filter(state, answer.owner) in (1, 2)
    if answer.lookup.type in ("local", "broadcast") or answer.lookup.dev == answer.owner:
        return False
    ported = not plan.nics or plan.nic(answer.lookup.dev) is not None
    return ported and rp_filter(state, answer.owner) == 1


def reply_deviations(answers: Iterable[Reply], plan: RoutingPlan, state: HostState) -> list[str]:
    """Sentences for the replies that would leave by a wrong interface."""
    found = []
    for answer in answers:
        if answer.right:
            continue
        way = f"by {answer.lookup.dev}" if answer.lookup else "nowhere (no route)"
        due = answer.owner
        if answer.elsewhere and answer.main_route is not None:
            due = answer.main_route.dev
        why = ""
        if answer.foreign and answer.rule is not None:
            why = f", since a rule that is not ours decides: {describe_rule(answer.rule)}"
        if dropped_by_rp_filter(answer, plan, state):
            why += f"; rp_filter on {answer.owner} drops what comes in from there"
        found.append(
            f"a packet from {answer.source} to {answer.destination} leaves {way}, not by {due}{why}"
        )
    return found


def main_by_sibling(answers: Iterable[Reply], plan: RoutingPlan, state: HostState) -> list[str]:
    """A sentence if replies that are left to main leave by a sibling NIC; else [].

    They go to networks behind a host in a sibling's subnet, which the owner's gateway does
    not know.
    """
    found = [
        answer
        for answer in answers
        if answer.right
        and answer.lookup is not None
        and answer.lookup.dev != answer.owner
        and plan.nic(answer.lookup.dev) is not None
        and not answer.by_others
    ]
    if not found:
        return []
    first = found[0]
    assert first.lookup is not None
    more = len({(a.source, a.lookup and a.lookup.dst) for a in found}) - 1
    text = (
        f"packets from {first.source} to {first.lookup.dst} leave by {first.lookup.dev} as table "
        f"main says, since the gateway of {first.owner} may not know that network; a port with "
        "anti-spoofing drops them"
    )
    if dropped_by_rp_filter(first, plan, state):
        text += f", and rp_filter on {first.owner} what comes in from there"
    return [f"{text} ({more} more such)" if more else text]


# -- gateways --------------------------------------------------------------------


def gateways_to_ask(plan: RoutingPlan, state: HostState) -> list[tuple[str, IPAddress]]:
    """The gateways of the plan and of main's defaults, each with its interface."""
    asked = {(nic.name, gateway.ip): None for nic in plan.nics for gateway in nic.gateways.values()}
    versions = {ip.version for _dev, ip in asked}
    for route in _main_gateways(state):
        if route.family in versions and route.gateway is not None:
            asked[route.dev, route.gateway] = None
    tunnels = {link.name for link in state.links if link.kind in OVERLAY_KINDS}
    return [(dev, ip) for dev, ip in asked if dev not in tunnels]


def answering(
    kernel: Kernel, state: HostState, hops: Iterable[tuple[str, IPAddress]]
) -> dict[tuple[str, IPAddress], bool]:
    """Which of the next hops answer on their interface.

    Routers whose neighbour entry has failed are not probed again: a probe would make them
    untried again, both for the kernel's choice among routers and for ours.
    """
    failed = {(neighbour.dev, neighbour.ip) for neighbour in state.neighbours if neighbour.failed}
    answered = dict.fromkeys(hops, False)
    answered.update(kernel.probe([hop for hop in answered if hop not in failed], hosts=True))
    return answered


def silent_gateways(
    plan: RoutingPlan, state: HostState, answered: Mapping[tuple[str, IPAddress], bool]
) -> tuple[list[str], list[str]]:
    """Gateways of the plan that do not answer: those where main's does, and the others.

    `answered` is the result of `answering` for `gateways_to_ask`.
    """
    beaten, alone = [], []
    for nic in plan.nics:
        for family, gateway in sorted(nic.gateways.items()):
            if answered.get((nic.name, gateway.ip), True):
                continue
            how = "ARP" if family == 4 else "neighbour discovery"
            text = f"{nic.name}'s gateway {gateway.ip} ({gateway.reason}) does not answer {how}"
            alive = [
                route
                for route in _main_gateways(state)
                if route.family == family
                and route.gateway is not None
                and answered.get((route.dev, route.gateway), False)
            ]
            if not alive:
                alone.append(text)
                continue
            best = min(alive, key=lambda route: (route.dev != nic.name, route.metric))
            beaten.append(f"{text}, and table main's {best.gateway} by {best.dev} does")
    return beaten, alone


def _main_gateways(state: HostState) -> list[Route]:
    return [
        route
        for route in state.routes
        if route.table == TABLE_MAIN and route.dst.prefixlen == 0 and route.gateway is not None
    ]
