"""What the kernel tells by itself of links, addresses, routes and rules, as model values.  Pure.

The messages of the multicast groups in rtnetlink(7) have the form of a dump's;
routes and rules are read by `wire`, links and addresses here.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Network, IPv6Network, ip_interface
from typing import Callable, Dict, List, NamedTuple, Optional, Union

from ..model import Address, IPNetwork, Link, Route, Rule
from .wire import (
    AF,
    FAMILY,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_NEWROUTE,
    RTM_NEWRULE,
    Message,
    ip_of,
    read_attributes,
    routes_of,
    rule_of,
)

# linux/rtnetlink.h
RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_DELADDR = 16, 17, 20, 21
GONE = frozenset((RTM_DELLINK, RTM_DELADDR, RTM_DELROUTE, RTM_DELRULE))
# RTNLGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE
GROUP_NUMBERS = (1, 5, 7, 8, 9, 11, 19)
GROUPS = sum(1 << (number - 1) for number in GROUP_NUMBERS)

# linux/if.h, linux/if_addr.h, linux/if_link.h
IFF_UP, IFF_LOOPBACK, IFF_LOWER_UP = 0x1, 0x8, 0x10000
IFA_F_TEMPORARY, IFA_F_OPTIMISTIC, IFA_F_DADFAILED = 0x01, 0x04, 0x08
IFA_F_TENTATIVE, IFA_F_PERMANENT, IFA_F_NOPREFIXROUTE = 0x40, 0x80, 0x200
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 10, 18
IFLA_GROUP, IFLA_PERM_ADDRESS, IFLA_INFO_KIND = 27, 54, 1
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8

_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg
_U32 = struct.Struct("=I")

NameOf = Callable[[int], str]


class Change(NamedTuple):
    """One thing that came, changed, or went."""

    gone: bool
    thing: Union[Link, Address, Route, Rule]
    carrier: Optional[bool] = None  # of a link


def changes_of(message: Message, name: NameOf) -> List[Change]:
    """What a message says; [] for what is of no interest (other families, cached routes)."""
    gone = message.kind in GONE
    if message.kind in (RTM_NEWLINK, RTM_DELLINK):
        link = link_of(message.body, name)
        if link is None:
            return []
        flags = _LINK.unpack_from(message.body)[3]
        return [Change(gone, link, bool(flags & IFF_LOWER_UP))]
    if message.kind in (RTM_NEWADDR, RTM_DELADDR):
        address = address_of(message.body, name)
        return [] if address is None else [Change(gone, address)]
    if message.kind in (RTM_NEWROUTE, RTM_DELROUTE):
        return [Change(gone, route) for route in routes_of(message.body, name)]
    if message.kind in (RTM_NEWRULE, RTM_DELRULE):
        rule = rule_of(message.body)
        return [] if rule is None else [Change(gone, rule)]
    return []


def link_of(body: bytes, name: NameOf) -> Optional[Link]:
    """The link in an ifinfomsg; None for what a bridge tells of its ports (AF_BRIDGE)."""
    family, _kind, index, flags, _change = _LINK.unpack_from(body)
    if family != 0:
        return None
    found = read_attributes(body, _LINK.size)
    info: Dict[int, bytes] = read_attributes(found.get(IFLA_LINKINFO, b""), 0)
    master = _u32(found, IFLA_MASTER)
    return Link(
        index=index,
        name=_text(found, IFLA_IFNAME),
        mac=_mac(found.get(IFLA_ADDRESS, b"")),
        permanent_mac=_mac(found.get(IFLA_PERM_ADDRESS, b"")),
        up=bool(flags & IFF_UP),
        kind=_text(info, IFLA_INFO_KIND),
        master=name(master) if master else "",
        group=_u32(found, IFLA_GROUP),
        loopback=bool(flags & IFF_LOOPBACK),
    )


def address_of(body: bytes, name: NameOf) -> Optional[Address]:
    """The address in an ifaddrmsg; None for other families."""
    number, length, old_flags, scope, index = _ADDRESS.unpack_from(body)
    family = FAMILY.get(number)
    found = read_attributes(body, _ADDRESS.size)
    far_end = found.get(IFA_ADDRESS)
    packed = found.get(IFA_LOCAL, far_end)
    if family is None or packed is None:
        return None
    flags = _u32(found, IFA_FLAGS) or old_flags
    peer: Optional[IPNetwork] = None
    if far_end is not None and far_end != packed:
        # Point to point: the prefix is the far end's, not ours.
        kind = IPv4Network if family == 4 else IPv6Network
        peer = kind((int.from_bytes(far_end, "big"), length), strict=False)
        length = peer.max_prefixlen
    return Address(
        dev=name(index),
        interface=ip_interface(f"{ip_of(packed)}/{length}"),
        scope=scope,
        noprefixroute=bool(flags & IFA_F_NOPREFIXROUTE),
        tentative=bool(flags & IFA_F_TENTATIVE) and not flags & IFA_F_OPTIMISTIC,
        failed=bool(flags & IFA_F_DADFAILED),
        # In IPv4 the same bit means a secondary address.
        temporary=number == AF[6] and bool(flags & IFA_F_TEMPORARY),
        dynamic=not flags & IFA_F_PERMANENT,
        peer=peer,
    )


def _u32(found: Dict[int, bytes], kind: int) -> int:
    value = found.get(kind)
    return int(_U32.unpack(value)[0]) if value else 0


def _text(found: Dict[int, bytes], kind: int) -> str:
    return found.get(kind, b"").rstrip(b"\0").decode("ascii", "replace")


def _mac(value: bytes) -> str:
    return ":".join(f"{byte:02x}" for byte in value) if len(value) == 6 else ""
