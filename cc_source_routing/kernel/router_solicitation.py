"""Asks the routers of a link to speak up (router solicitation, RFC 4861 6.3.7).

The kernel asks where it accepts advertisements itself.  A network manager that
leases addresses by DHCPv6 and reads no advertisements (NetworkManager's method
"dhcp") has told it not to, and then nobody asks and table main gets no default.
The kernel notes all the same who advertises itself, as a flag in its neighbour
cache (ndisc_router_discovery in net/ipv6/ndisc.c), and that flag gives no event
which could be listened to cheaply.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, FrozenSet, Sequence, Tuple

from ..model import Link, Neighbour

if TYPE_CHECKING:
    from .netlink import Kernel

# RFC 4861 10: a router answers within MAX_RA_DELAY_TIME (0.5 s), but not before
# MIN_DELAY_BETWEEN_RAS (3 s) have passed since it last spoke to all.
ANSWER_SECONDS = 4.0
LOOK_SECONDS = 0.1

ALL_ROUTERS = "ff02::2"
HOP_LIMIT = 255  # any other is dropped (RFC 4861 6.1.1)
# Type, code, a checksum that the kernel fills in, and four reserved bytes.  No
# option: the answer then goes to all, which is what the neighbour cache needs.
SOLICITATION = bytes([133, 0, 0, 0, 0, 0, 0, 0])


def ask_routers(kernel: Kernel, links: Sequence[Link], wait: float) -> Tuple[Neighbour, ...]:
    """The neighbours, once a router of each of `links` is among them or `wait` seconds are over."""
    asked = frozenset(link.name for link in links if _ask(link))
    deadline = time.monotonic() + wait
    while True:
        neighbours = kernel.neighbours()
        if asked <= _with_router(neighbours) or time.monotonic() >= deadline:
            return neighbours
        time.sleep(LOOK_SECONDS)


def _with_router(neighbours: Sequence[Neighbour]) -> FrozenSet[str]:
    return frozenset(n.dev for n in neighbours if n.router and n.ip.version == 6)


def _ask(link: Link) -> bool:
    """Whether the question could be sent; without the right or a link-local address it cannot."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as asking:
            asking.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, HOP_LIMIT)
            asking.sendto(SOLICITATION, (ALL_ROUTERS, 0, 0, link.ifindex))
    except OSError:
        return False
    return True
