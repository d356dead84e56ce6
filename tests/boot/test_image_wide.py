"""Golden images that are on for all their servers, and servers with more NICs."""

from __future__ import annotations

from pathlib import Path

import pytest
from imagebuild import bake, recipe
from imagebuild.progress import Progress

from .story import OFF, ON, SILENT, first_boot

pytestmark = pytest.mark.boot


@pytest.fixture(scope="module")
def always_on(progress: Progress) -> Path:
    return bake.baked_root(
        recipe.Recipe("bookworm", "ifupdown"),
        progress,
        default_stanza="#cloud-config\nsource_routing: true\n",
    )


def test_a_server_of_an_image_that_is_on_answers_everywhere_without_user_data(
    always_on: Path, scratch: Path
) -> None:
    with first_boot(always_on, SILENT, scratch) as server:
        expected = server.expected(only_first_nic=False)
        assert server.comes_to_answer_everywhere() == expected
        assert server.check()[0] == 0


def test_user_data_turns_it_off_for_one_server(always_on: Path, scratch: Path) -> None:
    with first_boot(always_on, OFF, scratch) as server:
        expected = server.expected(only_first_nic=True)
        assert server.comes_to_answer_by_its_first_nic() == expected


def test_without_any_stanza_nothing_happens(bookworm: Path, scratch: Path) -> None:
    with first_boot(bookworm, SILENT, scratch) as server:
        expected = server.expected(only_first_nic=True)
        assert server.comes_to_answer_by_its_first_nic() == expected
        assert server.boot.status["status"] == "done"


@pytest.mark.thorough("four NICs of an image, and their reboot")
def test_four_nics_all_answer_and_go_on_after_a_reboot(bookworm: Path, scratch: Path) -> None:
    with first_boot(bookworm, ON, scratch, nics=4) as server:
        expected = server.expected(only_first_nic=False)
        assert server.comes_to_answer_everywhere() == expected
        server.reboot()
        assert server.comes_to_answer_everywhere() == expected
        assert [server.place.spoofed(port) for port in server.place.ports] == [0, 0, 0, 0]
        code, said = server.check()
        assert code == 0, said


def test_one_nic_needs_nothing_and_gets_nothing(bookworm: Path, scratch: Path) -> None:
    with first_boot(bookworm, ON, scratch, nics=1) as server:
        assert all(server.comes_to_answer_everywhere().values())
        assert "source-routing" not in server.guest.run(["ip", "rule"]).stdout
        kept = server.guest.run(["ls", "/etc/source-routing"]).stdout.split()
        assert kept == ["instance-id", "one-nic", "stanza.json"], "for a second one"
        hooks = server.guest.run(["ls", "/etc/network/if-up.d/source-routing"])
        assert hooks.returncode != 0
        assert server.boot.status["status"] == "done"
