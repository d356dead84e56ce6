"""Decide which NICs are managed, which gateways they have, and which questions are open.

Pure.  Two facts are only known from the network: whether an address answers, and whether a router
answers a solicitation.  Where a decision depends on one of them, it is an open question here.  The
caller asks it, adds the answer to the `HostState` and decides again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import Fault
from ..model import (
    FAMILIES,
    NO_GATEWAY,
    Gateway,
    HostState,
    InterfaceStanza,
    IPAddress,
    IPNetwork,
    Link,
    Stanza,
)
from .gateway import (
    Question,
    choose_gateway,
    has_no_gateway,
    is_evident,
    stanza_gateway_fault,
    unprobed_guesses,
    was_revoked,
)
from .host_index import HostIndex
from .nics import Selection, select_links

ISOLATED = "the cloud gives it no gateway"


@dataclass(frozen=True)
class Decisions:
    """What a `RoutingPlan` is built from, without another look at the host.

    Only `stanza` and `index` are set when the stanza is off.
    """

    stanza: Stanza
    index: HostIndex
    selection: Selection = Selection((), {}, (), ())
    # By interface name, then by family; empty for a managed NIC without a gateway.
    gateways: Mapping[str, Mapping[int, Gateway]] = field(default_factory=dict)
    # Why a NIC has no table: the selection excludes it, or it has no gateway.
    unserved: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    # Open question: does one of these (interface, address) pairs answer ARP or neighbour discovery?
    # Answered by `HostState.probes`.
    probes: tuple[tuple[str, IPAddress], ...] = ()
    # Open question: does a router on these links answer a router solicitation?  Answered by
    # `HostState.neighbours` and `HostState.routes`, or by silence.
    routerless: tuple[Link, ...] = ()

    @property
    def should_wait_for_router(self) -> bool:
        """Whether one of `routerless` has not been solicited before: waiting is worthwhile."""
        previous = self.index.state.previous.gateways
        earlier = {key[0]: gateway.mac for key, gateway in previous.items() if key[1] == 6}
        return any(earlier.get(link.name) != link.mac for link in self.routerless)

    @property
    def served(self) -> list[tuple[Link, InterfaceStanza | None]]:
        """The managed NICs that have a gateway, each with its stanza entry."""
        return [(link, entry) for link, entry in self.selection.managed if self.gateways[link.name]]


def decide(stanza: Stanza, state: HostState) -> Decisions:
    """Walk the gateway ladder once for each managed NIC and family."""
    index = HostIndex(state)
    if not stanza.enabled:
        return Decisions(stanza, index)
    selection = select_links(stanza, index)
    gateways: dict[str, dict[int, Gateway]] = {}
    faults: list[Fault] = []
    probes: list[tuple[str, IPAddress]] = []
    routerless: list[Link] = []
    for link, entry in selection.managed:
        gateways[link.name] = {}
        for family in sorted(stanza.families):
            addresses = index.addresses(link.name, family)
            if not addresses and not _has_prefix(index, link, entry, family):
                continue
            question = Question(link, family, index, entry, stanza.gateway_guess)
            fault = stanza_gateway_fault(question)
            if fault is not None:
                faults.append(fault)
            gateway = choose_gateway(question)
            if gateway is not None:
                gateways[link.name][family] = gateway
            if not addresses or has_no_gateway(question) or was_revoked(question):
                continue
            probes += [(link.name, ip) for ip in unprobed_guesses(question, gateway)]
            # A static address would come with a static gateway.
            if family == 6 and not is_evident(gateway) and any(a.dynamic for a in addresses):
                routerless.append(link)
    return Decisions(
        stanza,
        index,
        selection,
        gateways,
        _unserved(index, selection, gateways),
        (*faults, *selection.faults),
        tuple(probes),
        # With IPv6 on a single NIC, table main's default is enough.
        tuple(routerless) if _with_ipv6(index) > 1 else (),
    )


def prefixes_routed_to(
    index: HostIndex, link: Link, entry: InterfaceStanza | None
) -> tuple[IPNetwork, ...]:
    """Prefixes that are routed to a NIC: those of the stanza and those delegated by DHCPv6."""
    return (*(entry.sources if entry is not None else ()), *index.delegated(link.name))


def _has_prefix(index: HostIndex, link: Link, entry: InterfaceStanza | None, family: int) -> bool:
    return any(prefix.version == family for prefix in prefixes_routed_to(index, link, entry))


def _with_ipv6(index: HostIndex) -> int:
    links = index.state.links
    return sum(bool(index.addresses(link.name, 6)) for link in links if not link.loopback)


def _unserved(
    index: HostIndex, selection: Selection, gateways: Mapping[str, Mapping[int, Gateway]]
) -> dict[str, str]:
    unserved = dict(selection.left_out)
    for link, _entry in selection.managed:
        if not gateways[link.name]:
            unserved[link.name] = ISOLATED if _is_isolated(link, index) else NO_GATEWAY
    return unserved


def _is_isolated(link: Link, index: HostIndex) -> bool:
    """Whether the metadata or a lease gives no gateway in each family that the NIC has."""
    questions = [
        Question(link, family, index, None, "never")
        for family in FAMILIES
        if index.addresses(link.name, family)
    ]
    return all(has_no_gateway(question) for question in questions)
