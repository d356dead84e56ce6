"""The state of a namespace as text, to prove that two states are the same.

It contains rules, routes of all tables and the order of both, interface groups, the
sysctls that affect source addresses, and nftables, but not what changes by itself:
counters, timers, neighbour entries.
"""

from __future__ import annotations

import difflib
import json
import re
from typing import NamedTuple

from .netns import Lab

SYSCTLS = """
for f in /proc/sys/net/ipv4/conf/*/rp_filter /proc/sys/net/ipv4/conf/*/arp_ignore \
    /proc/sys/net/ipv4/conf/*/arp_announce /proc/sys/net/ipv4/conf/*/arp_filter \
    /proc/sys/net/ipv4/conf/*/src_valid_mark /proc/sys/net/ipv4/conf/*/forwarding \
    /proc/sys/net/ipv4/conf/*/accept_local /proc/sys/net/ipv6/conf/*/accept_ra \
    /proc/sys/net/ipv6/conf/*/forwarding; do
    printf '%s=%s\\n' "$f" "$(cat "$f")"
done
"""


class Snapshot(NamedTuple):
    rules: tuple[str, ...]
    routes: tuple[str, ...]
    links: tuple[str, ...]
    addresses: tuple[str, ...]
    sysctls: tuple[str, ...]
    nftables: tuple[str, ...]

    def difference(self, other: Snapshot) -> str:
        """The lines that `other` has more (+) or less (-); empty if they are equal."""
        lines = []
        for name, mine, theirs in zip(self._fields, self, other):
            lines += difflib.unified_diff(mine, theirs, name, name, n=0, lineterm="")
        return "\n".join(lines)


def snapshot(lab: Lab, netns: str) -> Snapshot:
    """Read the namespace; equal snapshots mean that nothing differs that affects routing."""
    numeric = ("-N", "-d", "-o")
    return Snapshot(
        rules=_lines(lab.ip(netns, *numeric, "-4", "rule") + lab.ip(netns, *numeric, "-6", "rule")),
        routes=_lines(
            lab.ip(netns, *numeric, "-4", "route", "show", "table", "all")
            + lab.ip(netns, *numeric, "-6", "route", "show", "table", "all")
        ),
        links=_links(lab.ip(netns, "-j", "-N", "link")),
        addresses=_lines(lab.ip(netns, *numeric, "address")),
        sysctls=_lines(lab.run(netns, "sh", "-ec", SYSCTLS).stdout),
        nftables=_lines(lab.run(netns, "nft", "-s", "list", "ruleset").stdout),
    )


def _links(text: str) -> tuple[str, ...]:
    kept = ("ifindex", "ifname", "flags", "mtu", "group", "master", "address")
    return tuple(
        " ".join(f"{key}={link[key]}" for key in kept if key in link) for link in json.loads(text)
    )


def _lines(text: str) -> tuple[str, ...]:
    text = re.sub(r"expires \d+sec|\b\d+sec\b", "", text)  # lifetimes count down
    return tuple(line.rstrip() for line in text.splitlines() if line.strip())
