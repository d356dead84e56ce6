"""Switched off it is off, and leaves nothing behind: no file, no failed unit, nothing pending."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from imagebuild import bake
from imagebuild.lab.config_drive import ConfigDrive
from imagebuild.lab.guest import wait_for_boot
from imagebuild.progress import Progress
from lab import wait_until

from ...sizes import one_each
from ..story import OFF, ON
from .meter import Streams
from .test_instances import FILES
from .test_managers import Place, boot
from .worlds import WORLDS, World

pytestmark = pytest.mark.boot

RELEASED = [world.name for world in WORLDS.values() if world.suite != "sid"]
RULES = "ip -N rule; ip -N -6 rule"
EMPTY = "find /etc -xdev -type d -empty"
PENDING = "systemctl show '*' -p Id -p NeedDaemonReload | grep -B1 -x NeedDaemonReload=yes || :"


@pytest.fixture(params=one_each(RELEASED, ("trixie-netplan",), "off, under the other managers"))
def world(request: pytest.FixtureRequest) -> World:
    return WORLDS[request.param]


@pytest.fixture()
def image(world: World, progress: Progress) -> Path:
    return bake.baked_root(world.recipe, progress)


@pytest.fixture()
def served(world: World, image: Path, scratch: Path) -> Iterator[Place]:
    with boot(world, image, ON, scratch) as place:
        place.is_well()
        yield place


def settles(place: Place) -> None:
    """Waits until nothing of ours runs any more, whatever was told to whom."""
    wait_until(lambda: place.shell("systemctl list-jobs --no-legend --plain") == "")
    wait_until(lambda: "source-routing" not in place.shell("ps -eo args | grep [s]ource-r || :"))


def nothing_is_left(place: Place, image: Path) -> None:
    settles(place)
    assert place.shell("systemctl --failed --no-legend --plain") == ""
    assert place.guest.run(["systemctl", "is-system-running"]).stdout.strip() == "running"
    assert place.shell(PENDING) == ""
    assert place.shell(FILES) == ""
    left = {name.lstrip("/") for name in place.shell(EMPTY).split()}
    assert [name for name in sorted(left) if not (image / name).is_dir()] == []


def test_removed_it_is_gone(served: Place, image: Path) -> None:
    served.shell("source-routing remove")
    nothing_is_left(served, image)
    assert "5000:" not in served.shell(RULES)
    served.shell(served.world.events["the link flaps"])
    served.has_its_addresses()
    assert "5000:" not in served.shell(RULES), "the manager has forgotten it, too"
    served.shell("source-routing apply")
    served.is_well()


def test_false_in_user_data_takes_it_away(served: Place, image: Path) -> None:
    drive = ConfigDrive(served.server.place.ports, OFF, uuid=served.guest.drive.uuid)
    served.guest.reboot(drive)
    served.server.boot = wait_for_boot(served.guest)
    assert served.server.boot.status["status"] == "done", served.server.boot.status
    served.has_its_addresses()
    nothing_is_left(served, image)
    assert "5000:" not in served.shell(RULES)
    told = served.shell("source-routing check")
    assert told == "Nothing is managed here: source routing is off in the stanza.\n"


def test_without_a_renderer_the_kernel_keeps_what_it_has(served: Place, image: Path) -> None:
    before = served.shell(RULES)
    served.shell("printf 'source_routing: {{renderer: none}}\\n' >/root/none.yaml")
    with Streams(served.server.place, served.addresses()) as streams:
        wait_until(lambda: streams.answering_since(0), story=served.silent)
        served.shell("source-routing --config /root/none.yaml apply")
        settles(served)
        assert served.silent() == []
    assert {ip: told.lost for ip, told in streams.outages().items() if told.lost} == {}
    assert served.shell(RULES).split() == before.split()
    assert served.shell("source-routing check").startswith("All is well")
    served.shell("source-routing remove")
    nothing_is_left(served, image)
