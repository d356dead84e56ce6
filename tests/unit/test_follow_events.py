"""What the kernel's announcements ask for, read from their headers alone."""

from __future__ import annotations

import struct

import pytest

from cc_source_routing.follow.events import Heard, heard_in
from cc_source_routing.kernel.messages import (
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_F_CLONED,
    RTM_NEWLINK,
    RTM_NEWROUTE,
    RTM_NEWRULE,
)
from cc_source_routing.model import OUR_PROTOCOL, PROTO_STATIC

from .netlink import framed

OWN_PORT = 4321
NOTHING, CHANGED, MISSING = Heard(), Heard(changed=True), Heard(missing=True)


def route(protocol: int, flags: int = 0) -> bytes:
    return struct.pack("=8BI", 2, 24, 0, 0, 0, protocol, 0, 1, flags) + b"attributes"


def near(_message: bytes) -> bool:
    return False


def far(_message: bytes) -> bool:
    return True


@pytest.mark.parametrize(
    ("kind", "body", "heard"),
    [
        (RTM_NEWROUTE, route(PROTO_STATIC), CHANGED),
        (RTM_DELROUTE, route(PROTO_STATIC), CHANGED),
        (RTM_DELROUTE, route(OUR_PROTOCOL), MISSING),
        # networkd's, from our own files.
        (RTM_NEWROUTE, route(OUR_PROTOCOL), NOTHING),
        # A cached one, of a path MTU.
        (RTM_NEWROUTE, route(PROTO_STATIC, RTM_F_CLONED), NOTHING),
        (RTM_NEWRULE, b"\2" * 12, CHANGED),
        (RTM_DELRULE, b"\2" * 12, Heard(changed=True, missing=True)),
        (RTM_NEWLINK, b"\0" * 16, CHANGED),
        # Too short to be read: rather one look too many.
        (RTM_NEWROUTE, b"\2", CHANGED),
    ],
)
def test_what_a_message_asks_for(kind: int, body: bytes, heard: Heard):
    assert heard_in(framed(kind, body), OWN_PORT, near) == heard


@pytest.mark.parametrize("kind", [RTM_NEWROUTE, RTM_DELROUTE])
def test_a_route_on_which_no_plan_depends_asks_for_nothing(kind: int):
    assert heard_in(framed(kind, route(PROTO_STATIC)), OWN_PORT, far) == NOTHING


@pytest.mark.parametrize(
    ("kind", "body", "heard"),
    [
        (RTM_DELROUTE, route(OUR_PROTOCOL), MISSING),
        (RTM_NEWLINK, b"\0" * 16, CHANGED),
        (RTM_NEWROUTE, b"\2", CHANGED),
    ],
)
def test_what_is_ours_or_no_route_always_counts(kind: int, body: bytes, heard: Heard):
    assert heard_in(framed(kind, body), OWN_PORT, far) == heard


def test_the_echo_of_our_own_changes_asks_for_nothing():
    text = framed(RTM_DELRULE, b"\2" * 12, port=OWN_PORT) + framed(
        RTM_DELROUTE, route(OUR_PROTOCOL), port=OWN_PORT
    )
    assert heard_in(text, OWN_PORT, near) == NOTHING
    assert heard_in(text, OWN_PORT + 1, near) == Heard(changed=True, missing=True)


def test_all_messages_of_a_datagram_count():
    text = framed(RTM_NEWROUTE, route(OUR_PROTOCOL)) + framed(RTM_NEWLINK, b"odd")
    assert heard_in(text + framed(RTM_DELROUTE, route(OUR_PROTOCOL)), OWN_PORT, near) == Heard(
        changed=True, missing=True
    )


@pytest.mark.parametrize(
    "text", [b"", b"\0" * 3, b"\0" * 16, struct.pack("=IHHII", 4, 16, 0, 0, 0)]
)
def test_what_is_no_message_is_left_alone(text: bytes):
    assert heard_in(text, OWN_PORT, near) == NOTHING
