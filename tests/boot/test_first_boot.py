"""A server with several NICs, from its first boot on: in a container and in a machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .story import OFF, ON, Server, first_boot, instance_of

pytestmark = pytest.mark.boot

# The quick one first.  The virtual machine adds firmware, boot loader, kernel,
# udev's names and ds-identify.
KINDS = ("container", "machine")


@pytest.fixture(scope="module", params=KINDS)
def image(request: pytest.FixtureRequest) -> Path:
    name = {"container": "bookworm", "machine": "bookworm_disk"}[request.param]
    return request.getfixturevalue(name)


# A class each, so that one machine runs at a time.
@pytest.fixture(scope="class")
def without(image: Path, scratch: Path) -> Iterator[Server]:
    """The negative control: the same image, the module told to keep out."""
    with first_boot(image, OFF, scratch) as server:
        yield server


@pytest.fixture(scope="class")
def served(image: Path, scratch: Path) -> Iterator[Server]:
    with first_boot(image, ON, scratch) as server:
        yield server


class TestWithoutTheModule:
    def test_only_the_first_nic_answers(self, without: Server) -> None:
        assert without.reachable() == without.expected(only_first_nic=True)

    def test_the_silent_nic_is_there_and_its_replies_were_lost_on_the_wrong_way(
        self, without: Server
    ) -> None:
        without.reachable()
        assert without.neighbours() == without.own_macs()
        first, second = without.place.ports
        assert without.place.spoofed(first) > 0
        assert without.place.spoofed(second) == 0

    def test_nothing_of_ours_is_in_kernel_or_files(self, without: Server) -> None:
        for family in ("-4", "-6"):
            rules = without.guest.run(["ip", family, "rule"]).stdout.split("\n")
            assert [rule for rule in rules if not re.match(r"(0|32766|32767):|$", rule)] == []
        listing = without.guest.run(["ls", "/etc/source-routing", "/etc/network/if-up.d"])
        assert "source-routing" not in listing.stdout


class TestWithTheStanza:
    def test_every_address_answers_the_remote_host(self, served: Server) -> None:
        assert served.comes_to_answer_everywhere() == served.expected(only_first_nic=False)

    def test_those_who_answered_are_this_guest(self, served: Server) -> None:
        served.comes_to_answer_everywhere()
        assert served.neighbours() == served.own_macs()
        assert instance_of(served) == served.guest.drive.uuid

    def test_no_packet_leaves_by_a_nic_that_does_not_own_its_source(self, served: Server) -> None:
        served.comes_to_answer_everywhere()
        assert [served.place.spoofed(port) for port in served.place.ports] == [0, 0]

    def test_cloud_init_is_done_without_errors(self, served: Server) -> None:
        assert served.boot.status_code == 0, served.boot.status
        assert served.boot.status["status"] == "done"
        assert served.boot.status["errors"] == []

    def test_the_guest_says_that_all_is_well(self, served: Server) -> None:
        code, said = served.check()
        assert code == 0, said

    def test_no_unit_has_failed(self, served: Server) -> None:
        failed = served.guest.run(["systemctl", "--failed", "--no-legend", "--plain"])
        assert failed.stdout == ""

    def test_applying_again_changes_nothing(self, served: Server) -> None:
        before = _routing(served)
        done = served.guest.run(["source-routing", "apply"])
        assert done.returncode == 0, done.stderr
        assert _routing(served) == before

    def test_after_a_reboot_every_address_answers_again(self, served: Server) -> None:
        served.reboot()
        assert served.comes_to_answer_everywhere() == served.expected(only_first_nic=False)
        assert [served.place.spoofed(port) for port in served.place.ports] == [0, 0]
        assert served.neighbours() == served.own_macs()
        assert served.boot.status["status"] == "done"
        code, said = served.check()
        assert code == 0, said


def _routing(server: Server) -> list[str]:
    commands = (
        ["ip", "rule"],
        ["ip", "-6", "rule"],
        ["ip", "route", "show", "table", "all"],
        ["ip", "-6", "route", "show", "table", "all"],
    )
    return [server.guest.run(command).stdout for command in commands]
