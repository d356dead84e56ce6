"""Prefix arithmetic against the standard library's, which is slow but right."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, collapse_addresses

from hypothesis import given
from hypothesis import strategies as st

from cc_source_routing.plan.prefixes import Spans, collapse

v4 = st.builds(
    lambda bits, length: IPv4Network(((10 << 24) | (bits << (32 - length)) & 0xFFFFFF, length)),
    st.integers(0, 63),
    st.integers(26, 32),
)
v6 = st.builds(
    lambda bits, length: IPv6Network(((0xFD << 120) | bits << (128 - length), length)),
    st.integers(0, 63),
    st.integers(60, 66),
)


@given(st.one_of(st.lists(v4, max_size=40), st.lists(v6, max_size=40)))
def test_collapsing_is_what_the_standard_library_says(networks):
    assert collapse(networks) == sorted(collapse_addresses(networks))


@given(st.lists(v4, max_size=20), v4)
def test_overlaps_is_what_the_standard_library_says(networks, one):
    assert Spans(networks).overlaps(one) == any(one.overlaps(n) for n in networks)
