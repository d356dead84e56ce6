"""`cloud-init clean` on a running server, before an image is made of it: no session is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from imagebuild import bake
from imagebuild.progress import Progress
from lab import wait_until

from ...sizes import one_each
from ..story import ON
from .meter import Streams
from .test_managers import Place, boot
from .worlds import WORLDS

pytestmark = pytest.mark.boot

STATIC = [world.name for world in WORLDS.values() if not world.dhcp and world.suite != "sid"]
RULES = "ip -N rule; ip -N -6 rule"


@pytest.fixture(
    params=one_each(STATIC, ("trixie-netplan",), "cloud-init clean, under the other managers")
)
def served(request: pytest.FixtureRequest, scratch: Path, progress: Progress) -> Iterator[Place]:
    world = WORLDS[request.param]
    with boot(world, bake.baked_root(world.recipe, progress), ON, scratch) as place:
        place.is_well()
        yield place


def test_it_takes_files_away_and_leaves_kernel_and_manager_alone(served: Place) -> None:
    before = served.shell(RULES)
    assert "from 10." in before and served.shell("ls /etc/source-routing/stanza.json")
    with Streams(served.server.place, served.addresses()) as streams:
        wait_until(lambda: not served.silent())
        served.shell("cloud-init clean")
        wait_until(lambda: not served.shell("systemctl list-jobs --no-legend").strip())
        # Whoever listened would look now.
        served.shell("ip link add br9 type bridge && ip link del br9")
        wait_until(lambda: not served.shell("systemctl list-jobs --no-legend").strip())
        assert served.silent() == []
    assert {ip: told.lost for ip, told in streams.outages().items() if told.lost} == {}
    assert served.shell(RULES) == before
    left = served.shell("ls -d /etc/source-routing /etc/systemd/network/*/50-source-routing* || :")
    assert left == ""
    assert served.shell("systemctl --failed --no-legend").strip() == ""


def test_where_there_is_nothing_it_does_nothing(served: Place) -> None:
    served.shell("source-routing remove")
    assert served.shell("source-routing remove --files-only") == (
        "Nothing to remove: there are no files of ours.\n"
    )
    served.shell("cloud-init clean")
    assert served.shell("systemctl --failed --no-legend").strip() == ""
