"""Which of the kernel's announcements matter, by their fixed-size headers alone.  Pure.

A routing daemon may announce thousands of routes a second, so nothing is decoded here: what
matters is read from the kernel once the burst is over.  The structures are those of
linux/netlink.h, linux/rtnetlink.h and linux/fib_rules.h; see rtnetlink(7).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ..kernel.messages import RTM_DELROUTE, RTM_DELRULE, RTM_F_CLONED, RTM_NEWROUTE
from ..model import OUR_PROTOCOL

NLMSG = struct.Struct("=IHHII")  # length, type, flags, sequence, port id
ALIGNMENT = 4
RTMSG = struct.Struct("=8BI")  # the sixth is the protocol; the last are flags


class Heard(NamedTuple):
    """What a burst of announcements asks for."""

    changed: bool = False  # what plans depend on may be different
    missing: bool = False  # what is ours may be gone

    def __or__(self, other: object) -> Heard:
        assert isinstance(other, Heard)
        return Heard(self.changed or other.changed, self.missing or other.missing)


def heard_in(datagram: bytes, own_port: int) -> Heard:
    """What the messages of one datagram ask for.

    The kernel puts the port id of who made a change into its announcement, so those of
    changes that we made by the socket `own_port` are recognised and ask for nothing.
    """
    heard = Heard()
    for kind, port, body in _messages(datagram):
        if port != own_port or not port:
            heard |= _asked_by(kind, body)
    return heard


def _messages(datagram: bytes) -> Iterator[tuple[int, int, bytes]]:
    start = 0
    while start + NLMSG.size <= len(datagram):
        length, kind, _flags, _sequence, port = NLMSG.unpack_from(datagram, start)
        if length < NLMSG.size:
            return
        yield kind, port, datagram[start + NLMSG.size : start + length]
        start += (length + ALIGNMENT - 1) & ~(ALIGNMENT - 1)


def _asked_by(kind: int, body: bytes) -> Heard:
    if kind == RTM_DELRULE:
        # Whose rule it was is in an attribute; both questions are cheap to ask.
        return Heard(changed=True, missing=True)
    if kind not in (RTM_NEWROUTE, RTM_DELROUTE) or len(body) < RTMSG.size:
        return Heard(changed=True)
    fields = RTMSG.unpack_from(body)
    protocol, flags = fields[5], fields[8]
    if flags & RTM_F_CLONED:
        return Heard()
    # A route of our protocol that somebody else has added is networkd's, from our files.
    if protocol == OUR_PROTOCOL:
        return Heard(missing=kind == RTM_DELROUTE)
    return Heard(changed=True)
