"""Whether a host is as planned, asked of the kernel's own route lookup.

The invariant: a packet leaves by the interface that owns its source address.
Where main has a specific route that the plan leaves to main (a container
bridge, a routing daemon's network), main's own word is right too.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Dict, Iterable, List, NamedTuple, Optional, Tuple

from .diff import AddRule, DeleteRoute, DeleteRule, Operation, ReplaceRoute, SetGroup
from .hostindex import is_routable, is_specific
from .model import (
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

if TYPE_CHECKING:
    from .netlink import Kernel, Lookup

# RFC 5737 and RFC 3849: addresses that nobody has, as "some remote host".
SOMEWHERE: Dict[int, Tuple[IPAddress, ...]] = {
    4: tuple(ip_address(text) for text in ("192.0.2.1", "198.51.100.1", "203.0.113.1")),
    6: tuple(ip_address(text) for text in ("2001:db8:ffff:ffff::1", "2001:db8:fffe:ffff::1")),
}
KERNEL_RULES = {
    4: {0: TABLE_LOCAL, 32766: TABLE_MAIN, 32767: TABLE_DEFAULT},
    6: {0: TABLE_LOCAL, 32766: TABLE_MAIN},
}
SAMPLES = 16  # specific destinations asked per address


class Reply(NamedTuple):
    """Where a packet from one of our addresses goes, and whether that is right."""

    source: IPAddress
    destination: IPAddress
    owner: str
    lookup: Optional[Lookup]
    # Main's own specific route, where the plan leaves the destination to main.
    main_says: Optional[Route]

    @property
    def right(self) -> bool:
        if self.lookup is None:
            return self.main_says is not None and self.main_says.type != "unicast"
        if self.lookup.dev == self.owner:
            return True
        return self.main_says is not None and self.lookup.dev == self.main_says.dev


def deviations(operations: Iterable[Operation]) -> List[str]:
    """Differences between kernel and plan, as sentences for `check`."""
    told = []
    for operation in operations:
        text = operation.describe()
        if isinstance(operation, (ReplaceRoute, AddRule)):
            told.append(f"missing or different: {text.replace(' replace', '').replace(' add', '')}")
        elif isinstance(operation, (DeleteRule, DeleteRoute)):
            told.append(f"unexpected: {text.replace(' del', '')}")
        elif isinstance(operation, SetGroup):
            told.append(f"interface group of {operation.dev} is not {operation.group}")
        else:
            told.append(f"different: {text}")
    return told


def kernel_rule_deviations(state: HostState, families: Iterable[int]) -> List[str]:
    """Whether the rules for local, main and default are the kernel's own.

    One that was re-created without ``protocol kernel`` is deleted by networkd
    at its next reconfigure, and the host then has table local only.
    """
    told = []
    for family in families:
        have = {rule.priority: rule for rule in state.rules if rule.family == family}
        for priority, table in KERNEL_RULES[family].items():
            rule: Optional[Rule] = have.get(priority)
            if rule is None or rule.table != table:
                what = "; the host may not know its own addresses" if table == TABLE_LOCAL else ""
                told.append(f"IPv{family} rule {priority} (lookup table {table}) is missing{what}")
            elif rule.protocol != PROTO_KERNEL:
                told.append(
                    f"IPv{family} rule {priority} is not the kernel's own (proto {rule.protocol}); "
                    "systemd-networkd would delete it"
                )
    return told


def replies(kernel: Kernel, plan: RoutingPlan, state: HostState) -> List[Reply]:
    """Ask the kernel where replies from each managed address go."""
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
    """Ask the kernel for one way, and say what main's own word is worth there."""
    answer = kernel.lookup(destination, source)
    main_says = main_specific(state, destination)
    nic = plan.nic(owner)
    if main_says is not None and nic is not None and plan.nic(main_says.dev) is not None:
        # By a sibling NIC only where the own table leaves it to main.
        planned = longest(nic.routes, destination)
        if planned is not None and planned.type == "unicast":
            main_says = None
    return Reply(source, destination, owner, answer, main_says)


def somewhere(state: HostState, family: int) -> IPAddress:
    """An address that only a default route leads to."""
    for candidate in SOMEWHERE[family]:
        if main_specific(state, candidate) is None:
            return candidate
    return SOMEWHERE[family][0]


def destinations(
    plan: RoutingPlan, state: HostState, nic: PlannedNic, source: IPAddress
) -> List[IPAddress]:
    """Somewhere remote, and a host in each specific prefix of main, as many as `SAMPLES`."""
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


def main_specific(state: HostState, destination: IPAddress) -> Optional[Route]:
    """Table main's longest match for a destination, defaults left out."""
    return longest((r for r in state.routes if r.table == TABLE_MAIN), destination)


def longest(routes: Iterable[Route], destination: IPAddress) -> Optional[Route]:
    """The longest match of one table's routes for a destination, defaults left out."""
    best: Optional[Route] = None
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


def reply_deviations(answers: Iterable[Reply]) -> List[str]:
    """The replies that would leave by a wrong interface, as sentences."""
    told = []
    for answer in answers:
        if answer.right:
            continue
        way = f"by {answer.lookup.dev}" if answer.lookup else "nowhere (no route)"
        told.append(
            f"a packet from {answer.source} to {answer.destination} leaves {way}, "
            f"not by {answer.owner}"
        )
    return told
