"""Send router solicitations (RFC 4861 6.3.7) and read which routers answer.

The kernel solicits routers where it accepts advertisements itself.  A network
manager that leases addresses by DHCPv6 and reads no advertisements
(NetworkManager's method "dhcp") disables that.  Then nobody solicits, and table
main gets no default.  The kernel still marks a router that advertises itself with
a flag in its neighbour cache (ndisc_router_discovery in net/ipv6/ndisc.c).  No
event announces that flag cheaply, so this module polls it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..model import Link, Neighbour

if TYPE_CHECKING:
    from .netlink import Kernel

# RFC 4861 10: a router answers within MAX_RA_DELAY_TIME (0.5 s), but not before
# MIN_DELAY_BETWEEN_RAS (3 s) after its last multicast advertisement.
ANSWER_SECONDS = 4.0
LOOK_SECONDS = 0.1

ALL_ROUTERS = "ff02::2"
HOP_LIMIT = 255  # any other is dropped (RFC 4861 6.1.1)
# Type, code, a checksum that the kernel fills in, and four reserved bytes.  Without
# options the answer is multicast, which the neighbour cache needs.
SOLICITATION = bytes([133, 0, 0, 0, 0, 0, 0, 0])


def ask_routers(kernel: Kernel, links: Sequence[Link], wait: float) -> tuple[Neighbour, ...]:
    """The neighbours, once each of `links` has a router or `wait` seconds have passed."""
    asked = frozenset(link.name for link in links if _solicit(link))
    deadline = time.monotonic() + wait
    while True:
        neighbours = kernel.neighbours()
        if asked <= _with_router(neighbours) or time.monotonic() >= deadline:
            return neighbours
        time.sleep(LOOK_SECONDS)


def _with_router(neighbours: Sequence[Neighbour]) -> frozenset[str]:
    return frozenset(n.dev for n in neighbours if n.router and n.ip.version == 6)


def _solicit(link: Link) -> bool:
    """Send a solicitation; False without the privilege or a link-local address."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as opened:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, HOP_LIMIT)
            opened.sendto(SOLICITATION, (ALL_ROUTERS, 0, 0, link.ifindex))
    except OSError:
        return False
    return True
