"""Answers of the kernel that do not fit a receive buffer (ENOBUFS, netlink(7)).

What was lost is asked for again, or told; never is half a picture planned with.
"""

from __future__ import annotations

import errno

import pytest
from lab import Driver, Lab, nics_in_own_subnets, snapshot
from sizes import FAULT_STEPS

pytestmark = pytest.mark.kernel


@FAULT_STEPS
def test_an_overrun_at_any_answer_of_an_apply_is_made_good(server, lab: Lab, step: int):
    """Injected at the sockets, once at each receipt in turn: what was under way goes on."""
    _cloud, command = server()
    with Driver(lab, "S") as driver:
        before = snapshot(lab, "S")
        assert driver(*command.argv("apply")).code == 0
        applied = snapshot(lab, "S")
        for at in range(0, 300, step):
            assert driver(*command.argv("remove")).code == 0
            assert before.difference(snapshot(lab, "S")) == ""
            hurt = driver.faulty("answers", at, *command.argv("apply"), number=errno.ENOBUFS)
            assert (hurt.code, hurt.err) == (0, ""), hurt
            assert applied.difference(snapshot(lab, "S")) == "", hurt
            if not hurt.fault:
                break
        assert at > 20


@FAULT_STEPS
def test_an_overrun_at_any_answer_of_a_check_is_no_deviation(server, lab: Lab, step: int):
    _cloud, command = server()
    with Driver(lab, "S") as driver:
        assert driver(*command.argv("apply")).code == 0
        for at in range(0, 300, step):
            hurt = driver.faulty("answers", at, *command.argv("check"), number=errno.ENOBUFS)
            if hurt.code:
                # A single lookup is not asked again: then there is an error, and no finding.
                assert hurt.out == "", hurt
                assert "No buffer space available" in hurt.err, hurt
            else:
                assert hurt.out.startswith("All is well"), hurt
            if not hurt.fault:
                break
        assert at > 20


@pytest.mark.thorough("28 NICs and thousands of routes through the smallest receive buffer")
def test_many_nics_and_routes_go_through_the_smallest_buffer(server, lab: Lab):
    """Not injected: a buffer for two acknowledgements, a dump of thousands of routes."""
    cloud, command = server(nics_in_own_subnets(28), hosts=False, container=False)
    lab.batch("S", [f"route add 198.18.{n}.0/24 via 10.100.0.1" for n in range(256)])
    lab.batch("S", [f"-6 route add fd99:{n:x}::/64 via fd00:100::1" for n in range(1024)])
    with Driver(lab, "S") as driver:
        before = snapshot(lab, "S")
        assert driver(*command.argv("apply")).code == 0
        applied = snapshot(lab, "S")
        assert driver(*command.argv("remove")).code == 0
        for deed, left in (("apply", applied), ("check", applied), ("remove", before)):
            done = driver.faulty("narrow", 0, *command.argv(deed))
            assert (done.code, done.err) == (0, ""), done
            assert left.difference(snapshot(lab, "S")) == ""
