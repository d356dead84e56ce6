"""Each row of docs/coexistence.md, with real packets: without us, and with us both ways."""

from __future__ import annotations

import pytest
from lab import Lab

from .containers import CONTAINERS
from .policies import POLICIES
from .proxies import PROXIES
from .software import ALONE, WAYS, WE_FIRST, Software, lost
from .vpns import VPNS

pytestmark = pytest.mark.kernel

ALL = (*VPNS, *CONTAINERS, *PROXIES, *POLICIES)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("software", ALL, ids=str)
def test_what_it_reached_without_us_it_reaches_with_us(
    server, lab: Lab, software: Software, way: str
):
    cloud, command = server(
        container=software.container,
        stanza=dict(software.stanza),
        main_routes=("10.0.0.0/8 via 10.13.96.1",),
    )
    if way == WE_FIRST:
        command.ok("apply")
    software.set_up(lab, cloud)
    cloud.settle()
    dead = software.dead(way)
    if way == WE_FIRST:
        # Nobody has told us yet, and what worked without us works.
        at_once = [one for one in software.works if one not in software.next_run]
        assert lost(lab, at_once) == set()
    if way != ALONE:
        # What a service that listens to the kernel runs on an event.
        command.ok("apply")
    gone = lost(lab, [*software.living(way), *dead], tries=1)
    assert dead <= gone
    # A busy machine loses a packet now and then; nobody waits twice for what is lost anyway.
    late = gone - dead
    assert not late or lost(lab, late) == set()
