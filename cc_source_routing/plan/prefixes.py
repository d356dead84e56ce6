"""Arithmetic on many prefixes at once.  Pure.

`ipaddress` needs a microsecond for each comparison of two networks, and a plan for a hundred NICs
compares millions.  Here a prefix is a pair of integers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

from ..model import IPNetwork

Span = tuple[int, int]  # first and last address


def span(network: IPNetwork) -> Span:
    """First and last address of a network, as integers."""
    first = int(network.network_address)
    return first, first | ((1 << (network.max_prefixlen - network.prefixlen)) - 1)


class Spans:
    """A set of spans with a fast overlap test."""

    def __init__(self, networks: Iterable[IPNetwork]):
        # Prefixes are nested or disjoint, so the outermost ones are enough.
        self._first: list[int] = []
        self._last: list[int] = []
        for first, last in sorted((span(n) for n in networks), key=lambda s: (s[0], -s[1])):
            if not self._last or first > self._last[-1]:
                self._first.append(first)
                self._last.append(last)

    def overlaps(self, network: IPNetwork) -> bool:
        return self.meet(*span(network))

    def meet(self, first: int, last: int) -> bool:
        """`overlaps` for a span."""
        at = bisect_right(self._first, last) - 1
        return at >= 0 and self._last[at] >= first


def collapse(networks: Iterable[IPNetwork]) -> list[IPNetwork]:
    """The fewest prefixes that cover the same addresses; all of one family."""
    known: dict[tuple[int, int], IPNetwork] = {}
    make = IPv4Network
    width = 32
    for network in networks:
        known[int(network.network_address), network.prefixlen] = network
        if network.version == 6:
            make, width = IPv6Network, 128  # type: ignore[assignment]
    merged: list[tuple[int, int]] = []
    end = -1
    for first, length in sorted(known):
        if first <= end:
            continue  # contained in the previous one
        end = first + (1 << (width - length)) - 1
        merged.append((first, length))
        while len(merged) > 1:
            (left, left_length), (right, right_length) = merged[-2:]
            size = 1 << (width - right_length)
            if left_length != right_length or left ^ right != size or left & size:
                break
            merged[-2:] = [(left, left_length - 1)]
    return [known.get(key) or make(key) for key in merged]
