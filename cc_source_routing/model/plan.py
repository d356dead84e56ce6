"""The desired state: gateways, routes and rules of each NIC, the plan of all NICs, and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .addresses import IPAddress, IPInterface, IPNetwork
from .constants import MARK_MASK, OUR_GROUP
from .host import Route, Rule

# Reasons why a NIC is not served that end without a change of configuration.
LINK_DOWN = "link is down"
NO_ADDRESS = "no global address"
NO_GATEWAY = "no gateway known"
NO_SIBLING = "no second NIC with a gateway in its family"
PASSING_REASONS = frozenset((LINK_DOWN, NO_ADDRESS, NO_GATEWAY, NO_SIBLING))


# Gateway sources that later runs compare by name.
EARLIER_RUN = "earlier run"
# A default route of main from a router advertisement.  While the NIC is up, it disappears only
# when the router revokes it or its lifetime expires.
ADVERTISED = "advertised default"
SILENT = "silent router"  # no gateway: a router solicitation got no answer


class Gateway(NamedTuple):
    """The gateway chosen for one NIC and family, and why."""

    ip: IPAddress
    source: str  # short and stable: "stanza", "metadata", "default route", "lease", ...
    reason: str  # for people: "default route via ens4 in table main (proto dhcp)"
    onlink: bool = False
    # Whether configuration or the network reports it.  One that is only assumed serves the NIC's
    # own packets, but not what its siblings send to its subnet.
    reported: bool = True


@dataclass(frozen=True)
class PlannedNic:
    """A managed NIC with everything that is planned for it."""

    name: str
    mac: str
    table: int
    addresses: tuple[IPInterface, ...]  # those that get rules, sorted
    sources: tuple[IPNetwork, ...] = ()  # further prefixes that get rules, sorted
    gateways: Mapping[int, Gateway] = field(default_factory=dict)  # by family
    routes: tuple[Route, ...] = ()  # of its table, both families
    rules: tuple[Rule, ...] = ()
    mark: int = 0  # connection mark of published_ports, within the plan's mask; 0: none

    def gateway(self, family: int) -> Gateway | None:
        return self.gateways.get(family)


@dataclass(frozen=True)
class RoutingPlan:
    """The result of planning; the kernel, the files and the checks all use it.

    Empty (`nics` is ()) when there is nothing to do; `reason` then says why.
    """

    nics: tuple[PlannedNic, ...] = ()
    group: int = OUR_GROUP
    rp_filter: int | None = None  # value for managed NICs; None: keep
    published_ports: bool = False
    mark_mask: int = MARK_MASK
    rule_priority: int = 5000  # of our first rule
    asked_priority: int = 5000  # the stanza's; it differs while a full tunnel precedes it
    reason: str = ""
    warnings: tuple[str, ...] = ()
    unserved: Mapping[str, str] = field(default_factory=dict)  # NIC -> why it is not managed
    # Tables of interfaces that are not planned now (down, no address yet).  They stay reserved,
    # since a network manager's own files may restore them by number.
    reserved_tables: Mapping[str, int] = field(default_factory=dict)
    # Table names that others define in rt_tables.
    taken_names: frozenset[str] = frozenset()

    @property
    def routes(self) -> tuple[Route, ...]:
        return tuple(route for nic in self.nics for route in nic.routes)

    @property
    def rules(self) -> tuple[Rule, ...]:
        return tuple(sorted((rule for nic in self.nics for rule in nic.rules), key=rule_order))

    def nic(self, name: str) -> PlannedNic | None:
        return next((nic for nic in self.nics if nic.name == name), None)


def rule_order(rule: Rule) -> tuple[Any, ...]:
    """Sort key: the order in which the kernel evaluates rules, by family."""
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


class ConfigFile(NamedTuple):
    """A file that a renderer wants written; `path` is absolute within the root."""

    path: str
    content: str
    mode: int = 0o644
