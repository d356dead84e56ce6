"""Which of a host's routes a plan can depend on, told before they are decoded.  Pure.

A routing daemon may have hundreds of thousands of routes in the kernel, and to decode one costs
twenty times as much as to look at its header.  What `plan` reads is:

* of every table our own routes, and the defaults, also those in two halves;
* of main the configured routes, which say what is behind a NIC;
* of main's other routes (a daemon's, and errors) those that overlap a network of some NIC's table:
  `plan.routes` leaves these to main;
* of each other table whether anybody has a route there (`plan.table_ids`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Callable

from ..model import OUR_PROTOCOL, TABLE_MAIN, Address, IPNetwork, Route
from ..plan.host_index import CONFIGURED_PROTOCOLS, is_specific
from ..plan.prefixes import Spans
from ..plan.rules import DEFAULT_LENGTH
from .messages import (
    AF,
    LOOKUP_TYPES,
    NLMSG,
    ROUTE_TYPE_NUMBERS,
    RT_TABLE_COMPAT,
    RTA_DST,
    RTA_TABLE,
    RTM_F_CLONED,
    RTMSG,
    attribute,
)

BITS = {AF[4]: 32, AF[6]: 128}
UNICAST = ROUTE_TYPE_NUMBERS["unicast"]
LOOKUP_TYPE_NUMBERS = frozenset(ROUTE_TYPE_NUMBERS[name] for name in LOOKUP_TYPES)


class NeededRoutes:
    """Tells the needed routes, given the networks that may be in the NICs' tables.

    Messages are of RTM_NEWROUTE or RTM_DELROUTE.
    """

    def __init__(self, networks: Iterable[IPNetwork]):
        spans: dict[int, list[IPNetwork]] = {number: [] for number in AF.values()}
        for network in networks:
            spans[AF[network.version]].append(network)
        self._spans = {number: Spans(own) for number, own in spans.items()}
        self.left_out = False  # whether a dump had routes of main that are far

    def is_far(self, message: bytes) -> bool:
        """Whether it is a route of main that no plan depends on."""
        family, length, _src, _tos, table, protocol, _scope, kind, _flags = RTMSG.unpack_from(
            message, NLMSG.size
        )
        if table != TABLE_MAIN or length <= DEFAULT_LENGTH or protocol == OUR_PROTOCOL:
            return False
        if family not in BITS or (kind == UNICAST and protocol in CONFIGURED_PROTOCOLS):
            return False
        first = int.from_bytes(attribute(message, RTA_DST), "big")
        last = first | ((1 << (BITS[family] - length)) - 1)
        return not self._spans[family].meet(first, last)

    def for_dump(self) -> Callable[[bytes], bool]:
        """A test for the messages of one dump: whether they are needed."""
        known: set[int] = set()  # tables of which one route has been seen

        def is_needed(message: bytes) -> bool:
            if self.is_far(message):
                self.left_out = True
                return False
            _family, length, _src, tos, table, protocol, _scope, kind, flags = RTMSG.unpack_from(
                message, NLMSG.size
            )
            if kind not in LOOKUP_TYPE_NUMBERS or tos or flags & RTM_F_CLONED:
                return False
            if table == TABLE_MAIN or length <= DEFAULT_LENGTH or protocol == OUR_PROTOCOL:
                return True
            if table in (0, RT_TABLE_COMPAT):
                table = int.from_bytes(attribute(message, RTA_TABLE), sys.byteorder)
            seen = table in known
            known.add(table)
            return not seen

        return is_needed


def networks_of_addresses(addresses: Iterable[Address]) -> frozenset[IPNetwork]:
    """The networks that addresses bring along, without those of routes."""
    found = {address.interface.network for address in addresses}
    return frozenset(found.union(address.peer for address in addresses if address.peer))


def networks_of_routes(routes: Iterable[Route]) -> frozenset[IPNetwork]:
    """The prefixes of needed routes that may be in a NIC's table.

    A daemon's prefix is, where it is on the link and contains one of the NIC's addresses.
    """
    return frozenset(
        route.dst
        for route in routes
        if route.table == TABLE_MAIN
        and route.type == "unicast"
        and is_specific(route.dst)
        and (route.protocol in CONFIGURED_PROTOCOLS or route.gateway is None)
    )
