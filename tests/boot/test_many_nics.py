"""28 NICs that come up at once, under the managers that come with a server: few runs of Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from imagebuild import bake
from imagebuild.lab.network import MOST_PORTS
from imagebuild.progress import Progress

from ..results import Measured
from ..sizes import one_each
from .managers.test_managers import Place, boot
from .managers.worlds import WORLDS
from .story import ON

pytestmark = pytest.mark.boot

RUNS = "/run/lab-runs"
# How many runs there are must not depend on how quick the machine is: none gets on
# before all NICs are there.
GATE = "/etc/lab-gate"
# Notes each run before it runs.
NOTED = {
    "/usr/bin/source-routing": (
        f'#!/bin/sh\necho "$*" >>{RUNS}\nwhile [ -e {GATE} ]; do sleep 0.1; done\n'
        'exec /usr/bin/python3 -m cc_source_routing "$@"\n'
    )
}
KEEP = "sysctl -q net.ipv6.conf.default.keep_addr_on_down=1 net.ipv6.conf.all.keep_addr_on_down=1"
FLAP_ALL = (
    "nics=$(ls /sys/class/net | grep -v lo); for nic in $nics; do ip link set $nic down; done; "
    "sleep 1; for nic in $nics; do ip link set $nic up; done"
)


@pytest.fixture(
    scope="module",
    params=one_each(
        ("trixie-networkd", "trixie-network-manager"),
        ("trixie-networkd",),
        "28 NICs under NetworkManager",
    ),
)
def served(request: pytest.FixtureRequest, scratch: Path, progress: Progress) -> Iterator[Place]:
    world = WORLDS[request.param]
    world = dataclasses.replace(world, nics=MOST_PORTS, overlay={**world.overlay, **NOTED})
    with boot(world, bake.baked_root(world.recipe, progress), ON, scratch) as place:
        place.shell(KEEP)
        yield place


def runs(served: Place) -> list[str]:
    """What has been run since the last time; `check` is the tests' own."""
    told = served.shell(f"touch {RUNS}; cat {RUNS}; rm {RUNS}").splitlines()
    return [words for words in told if words != "check"]


def test_all_answer_after_the_first_boot(served: Place) -> None:
    served.has_its_addresses()
    served.is_well()
    assert len(served.rules()) == 2 * MOST_PORTS


def test_a_reboot_takes_few_runs(
    served: Place, record_property: Callable[[str, object], None]
) -> None:
    served.shell(f"touch {GATE}")
    served.server.reboot()
    served.has_its_addresses()
    served.shell(f"rm {GATE}")
    served.is_well()
    counted = runs(served)
    seconds = [served.server.boot.seconds]
    record_property(*Measured(served.world.name, f"boot, {len(counted)} runs", seconds).recorded())
    assert len(counted) <= 5, counted


def test_a_flap_of_all_at_once_takes_few_runs(
    served: Place, record_property: Callable[[str, object], None]
) -> None:
    served.shell(KEEP)
    runs(served)
    served.shell(f"touch {GATE}")
    served.shell(FLAP_ALL)
    served.has_its_addresses()
    served.shell(f"rm {GATE}")
    seconds = [served.becomes_well()]
    assert served.silent() == []
    counted = runs(served)
    event = f"all NICs flap, {len(counted)} runs"
    record_property(*Measured(served.world.name, event, seconds).recorded())
    assert len(counted) <= 6, counted
