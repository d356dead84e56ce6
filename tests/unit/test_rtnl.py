"""A dump is the whole picture or an error: what half of it lacks would be taken away."""

from __future__ import annotations

import errno
import os
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from cc_source_routing.errors import DiscoveryError
from cc_source_routing.kernel import listen, messages, netlink, rtnl
from cc_source_routing.model import Rule

from .netlink import body_of, framed


class Answers:
    """A socket on which each request is answered by the next of some answers, or an error."""

    def __init__(self, *answers):
        self.answers, self.sequence, self.ready = list(answers), 0, []
        self.marshal = MarshalRtnl()
        self.closed = 0

    def put(self, _message, _kind, _flags, msg_seq):
        self.sequence = msg_seq
        self.ready = list(self.answers.pop(0))

    def recv(self, _size, _flags=0):
        answer = self.ready.pop(0)
        if isinstance(answer, OSError):
            raise answer
        kind, flags, body = answer
        return framed(kind, body, flags, self.sequence)

    def setsockopt(self, *_option):
        pass

    def close(self):
        self.closed += 1


def done(code=0, flags=rtnl.NLM_F_MULTI):
    return (rtnl.NLMSG_DONE, flags, struct.pack("=i", -code))


A_RULE = Rule(4, 5000, 254, protocol=83)
BODY = body_of(messages.RTM_NEWRULE, messages.rule_request(A_RULE))
RULE = (messages.RTM_NEWRULE, rtnl.NLM_F_MULTI, BODY)
CHANGED = (messages.RTM_NEWRULE, rtnl.NLM_F_MULTI | rtnl.NLM_F_DUMP_INTR, BODY)
CHANGED_AT_THE_END = done(flags=rtnl.NLM_F_MULTI | rtnl.NLM_F_DUMP_INTR)


@pytest.fixture()
def dumped(monkeypatch):
    """The rules as a `Kernel` reads them: IPv4's as `answers` have it, and none of IPv6."""

    def dump(*answers):
        channel = Answers(*answers, (done(),))
        monkeypatch.setattr(rtnl, "open_socket", lambda: channel)
        with netlink.Kernel() as kernel:
            return kernel.rules(), channel

    return dump


@pytest.mark.parametrize(
    "first",
    [
        (RULE, OSError(errno.ENOBUFS, "")),
        (RULE, done(errno.ENOBUFS)),
        (CHANGED, done()),
        (RULE, CHANGED_AT_THE_END),
    ],
)
def test_a_dump_that_is_not_whole_is_read_again(dumped, first):
    rules, channel = dumped(first, (RULE, RULE, done()))
    assert rules == (A_RULE, A_RULE)
    assert channel.answers == []


@pytest.mark.parametrize("code", [errno.ENOMEM, errno.EMSGSIZE])
def test_a_dump_that_the_kernel_gives_up_is_an_error_and_no_short_list(dumped, code):
    with pytest.raises(DiscoveryError, match=f"netlink dump failed: .*{os.strerror(code)}"):
        dumped((RULE, done(code)))


@pytest.mark.parametrize("last", [OSError(errno.ENOBUFS, "no room"), done(errno.ENOBUFS)])
def test_a_dump_that_never_fits_is_an_error(dumped, last):
    with pytest.raises(DiscoveryError, match="netlink dump failed"):
        dumped(*[(RULE, last)] * rtnl.DUMP_ATTEMPTS)


def test_a_dump_that_changes_at_each_attempt_is_an_error(dumped):
    with pytest.raises(DiscoveryError, match="change too fast"):
        dumped(*[(CHANGED, done())] * rtnl.DUMP_ATTEMPTS)


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EAFNOSUPPORT])
def test_a_kernel_without_the_family_has_nothing_of_it(dumped, code):
    refusal = (rtnl.NLMSG_ERROR, 0, struct.pack("=i", -code) + bytes(16))
    assert dumped((refusal,))[0] == ()


def test_an_answer_that_does_not_come_is_not_waited_for_without_end(dumped):
    with pytest.raises(DiscoveryError, match="timed out"):
        dumped((RULE, BlockingIOError(errno.EAGAIN, "")))


@given(st.binary(max_size=200))
def test_a_broken_datagram_is_some_loss_and_no_end(data):
    ready = [data]

    class Broken:
        marshal = MarshalRtnl()

        def recv(self, _size, flags):
            assert flags == socket.MSG_DONTWAIT
            if not ready:
                raise BlockingIOError
            return ready.pop()

        def setsockopt(self, *_option):
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rtnl, "open_socket", lambda _groups: Broken())
        heard = listen.Listener().read()
    assert isinstance(heard.overrun, bool) and ready == []
