"""Which of the kernel's announcements matter, by their fixed-size headers alone.  Pure.

A routing daemon may announce thousands of routes a second, so nothing is decoded here: what
matters is read from the kernel once the burst is over.  The structures are those of
linux/netlink.h, linux/rtnetlink.h and linux/fib_rules.h; see rtnetlink(7).
"""

from __future__ import annotations

from typing import Callable, NamedTuple

from ..kernel.messages import (
    NLMSG,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_F_CLONED,
    RTM_NEWROUTE,
    RTMSG,
    Undecoded,
    split,
)
from ..model import OUR_PROTOCOL


class Heard(NamedTuple):
    """What a burst of announcements asks for."""

    changed: bool = False  # what plans depend on may be different
    missing: bool = False  # what is ours may be gone

    def __or__(self, other: object) -> Heard:
        assert isinstance(other, Heard)
        return Heard(self.changed or other.changed, self.missing or other.missing)


def heard_in(datagram: bytes, own_port: int, is_far: Callable[[bytes], bool]) -> Heard:
    """What the messages of one datagram ask for.

    The kernel puts the port id of who made a change into its announcement, so those of
    changes that we made by the socket `own_port` are recognised and ask for nothing.  Nor
    do those of routes that `is_far` says no plan depends on.
    """
    heard = Heard()
    for message in split(datagram):
        if message.port != own_port or not message.port:
            heard |= _asked_by(message, is_far)
    return heard


def _asked_by(message: Undecoded, is_far: Callable[[bytes], bool]) -> Heard:
    if message.kind == RTM_DELRULE:
        # Whose rule it was is in an attribute; both questions are cheap to ask.
        return Heard(changed=True, missing=True)
    is_route = message.kind in (RTM_NEWROUTE, RTM_DELROUTE)
    if not is_route or len(message.data) < NLMSG.size + RTMSG.size:
        return Heard(changed=True)
    fields = RTMSG.unpack_from(message.data, NLMSG.size)
    protocol, flags = fields[5], fields[8]
    if flags & RTM_F_CLONED:
        return Heard()
    # A route of our protocol that somebody else has added is networkd's, from our files.
    if protocol == OUR_PROTOCOL:
        return Heard(missing=message.kind == RTM_DELROUTE)
    return Heard(changed=not is_far(message.data))
