"""Published container ports: connection marks that route replies.  Pure.

A reply from a container has the container's source address until NAT is reversed, so no source rule
can match it.  A connection that arrives on a managed NIC and is translated to an address behind
another device is marked.  Its replies arrive on that device and get the mark before they are
routed, and ``fwmark`` rules next to each source rule select the NIC's table.  Under strict reverse
path filtering the original direction needs the mark as well, with ``src_valid_mark``
(ip-sysctl.rst).

Nothing else is marked: neither what this server forwards or masquerades for others, nor what it
translates to a host behind a managed NIC.  The chain runs after the translation (priority dstnat,
nft(8)), where both are known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from ..model import RoutingPlan

NFT_TABLE = "inet source_routing"
MARKS = 255


class Ruleset(NamedTuple):
    """The text for ``nft -f`` and the checksum that its table has as a comment."""

    text: str
    checksum: str


NO_RULESET = Ruleset("", "")


def allocate_marks(tables: Sequence[int], base: int, mask: int) -> dict[int, int]:
    """A mark within `mask` for each table, as stable as the table ids; 0 when none is free."""
    lowest = mask & -mask
    marks: dict[int, int] = {}
    for table in sorted(tables):
        wish = (table - base) % MARKS
        free = ((1 + (wish + step) % MARKS) * lowest for step in range(MARKS))
        marks[table] = next((mark for mark in free if mark not in marks.values()), 0)
    return marks


def ruleset(plan: RoutingPlan) -> Ruleset:
    """The nftables table of a plan; an empty one when the plan marks nothing."""
    marked = [nic for nic in plan.nics if nic.mark]
    if not plan.published_ports or not marked:
        return NO_RULESET
    mask = plan.mark_mask
    rest = ~mask & 0xFFFFFFFF
    names = ", ".join(f'"{nic.name}"' for nic in marked)
    lines = []
    for nic in marked:
        mark, keep = f"{nic.mark:#010x}", f"and {rest:#010x} or"
        published = (
            f'iifname "{nic.name}" ct direction original ct status dnat '
            f"fib daddr oifname != {{ {names} }}"
        )
        lines += [
            f"{published} ct state new ct mark set ct mark {keep} {mark}",
            f"{published} ct mark and {mask:#010x} == {mark} meta mark set meta mark {keep} {mark}",
            f"iifname != {{ {names} }} ct direction reply ct status dnat "
            f"ct mark and {mask:#010x} == {mark} meta mark set meta mark {keep} {mark}",
        ]
    chain = "\n".join(f"    {line}" for line in lines)
    body = (
        "  chain prerouting {\n"
        "    type filter hook prerouting priority dstnat + 1; policy accept;\n"
        f"{chain}\n"
        "  }\n"
    )
    checksum = hashlib.sha256(body.encode()).hexdigest()[:16]
    # Declare, delete and fill the table in one transaction, so that no packet goes unmarked.
    text = (
        f"table {NFT_TABLE}\n"
        f"delete table {NFT_TABLE}\n"
        f"table {NFT_TABLE} {{\n"
        f'  comment "source-routing {checksum}"\n'
        f"{body}"
        "}\n"
    )
    return Ruleset(text, checksum)
