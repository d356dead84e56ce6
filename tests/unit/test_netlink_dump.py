"""A dump is the whole picture or an error: what half of it lacks would be taken away."""

from __future__ import annotations

import errno
import struct

import pytest

from cc_source_routing.errors import DiscoveryError
from cc_source_routing.kernel import netlink, wire
from cc_source_routing.model import Rule

A_RULE = wire.rule_body(Rule(4, 5000, 254, protocol=83))


class Answers:
    """A socket on which each request is answered by the next of some answers, or an error."""

    def __init__(self, *answers):
        self.answers, self.sequence, self.ready = list(answers), 0, []

    def sendall(self, request):
        self.sequence += 1
        self.ready = list(self.answers.pop(0))

    def recv(self, _size):
        answer = self.ready.pop(0)
        if isinstance(answer, OSError):
            raise answer
        kind, flags, body = answer
        return wire.message(kind, flags, self.sequence, body)

    def close(self):
        pass


def done(code=0):
    return (wire.NLMSG_DONE, 0, struct.pack("=i", -code))


RULE = (wire.RTM_NEWRULE, 0, A_RULE)
CHANGED = (wire.RTM_NEWRULE, wire.NLM_F_DUMP_INTR, A_RULE)


def dumped(*answers, monkeypatch):
    channel = Answers(*answers)
    monkeypatch.setattr(netlink.RouteSocket, "_open", lambda self: None)
    route_socket = netlink.RouteSocket()
    route_socket._socket = channel
    return route_socket.dump(wire.RTM_GETRULE, wire.rule_filter(4)), channel


@pytest.mark.parametrize(
    "first", [(RULE, OSError(errno.ENOBUFS, "")), (RULE, done(errno.ENOBUFS)), (CHANGED, done())]
)
def test_a_dump_that_is_not_whole_is_read_again(monkeypatch, first):
    bodies, channel = dumped(first, (RULE, RULE, done()), monkeypatch=monkeypatch)
    assert bodies == [A_RULE, A_RULE]
    assert channel.answers == []


@pytest.mark.parametrize("code", [errno.ENOMEM, errno.EMSGSIZE])
def test_a_dump_that_the_kernel_gives_up_is_an_error_and_no_short_list(monkeypatch, code):
    with pytest.raises(DiscoveryError, match="netlink dump failed"):
        dumped((RULE, done(code)), monkeypatch=monkeypatch)


@pytest.mark.parametrize("last", [OSError(errno.ENOBUFS, "no room"), done(errno.ENOBUFS)])
def test_a_dump_that_never_fits_is_an_error(monkeypatch, last):
    with pytest.raises(DiscoveryError, match="netlink dump failed"):
        dumped(*[(RULE, last)] * netlink.DUMP_ATTEMPTS, monkeypatch=monkeypatch)
