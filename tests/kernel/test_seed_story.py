"""The example that this project began with, on its own addresses: dead before, alive after."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lab import Cloud, Lab, SourceRouting, pings, route_get, seed_nics
from lab.probes import Ping, ping

pytestmark = pytest.mark.kernel

PUBLIC, PRIVATE, REMOTE = "162.253.43.134", "10.13.96.161", "64.31.0.51"
MAIN = (
    "10.0.0.0/8 via 10.13.96.1 dev ens4",
    "162.253.42.0/24 dev ens3 scope link",
    "169.254.169.254 via 162.253.43.1 dev ens3",
)


@pytest.fixture(params=["strict rp_filter", "rp_filter off and port security"])
def story(request: pytest.FixtureRequest, lab: Lab, root: Path) -> tuple[Cloud, SourceRouting]:
    """The two ways in which the second address is dead, and `source_routing: true`."""
    strict = request.param == "strict rp_filter"
    cloud = Cloud(
        lab,
        seed_nics(ipv6=False),
        rp_filter=1 if strict else 0,
        anti_spoofing=not strict,
        main_routes=MAIN,
    ).build()
    command = SourceRouting(lab, "S", root)
    command.config = root.parent / "user-data"
    command.config.write_text("#cloud-config\nsource_routing: true\n")
    return cloud, command


def test_the_second_address_is_dead_before_and_alive_after(story, lab: Lab):
    _cloud, command = story
    assert ping(lab, "R", PUBLIC)
    assert not ping(lab, "R", PRIVATE)
    command.ok("apply")
    assert ping(lab, "R", PUBLIC)
    assert ping(lab, "R", PRIVATE)
    command.ok("check")


def test_the_answer_leaves_by_the_nic_that_owns_its_address(story, lab: Lab):
    _cloud, command = story
    assert route_get(lab, "S", REMOTE, "from", PRIVATE).dev == "ens3"
    command.ok("apply")
    second = route_get(lab, "S", REMOTE, "from", PRIVATE)
    assert (second.dev, second.gateway) == ("ens4", "10.13.96.1")
    first = route_get(lab, "S", REMOTE, "from", PUBLIC)
    assert (first.dev, first.gateway) == ("ens3", "162.253.43.1")


def test_the_routing_table_is_listed_by_the_name_of_its_nic(story):
    _cloud, command = story
    command.ok("apply")
    lines = command.ip_with_names("route", "list", "table", "ens4").splitlines()
    told = {re.sub(r" (proto|scope|metric) \S+", "", line).strip() for line in lines}
    assert {"default via 10.13.96.1 dev ens4", "10.13.96.0/19 dev ens4"} <= told
    assert all(" dev ens4" in line for line in lines if not line.startswith("throw"))
    assert "default via 162.253.43.1 dev ens3" in command.ip_with_names(
        "route", "list", "table", "ens3"
    )


def test_the_rules_name_the_nics_too_and_stand_before_main(story):
    _cloud, command = story
    command.ok("apply")
    rules = command.ip_with_names("rule").splitlines()
    told = [re.sub(r"\s+", " ", re.sub(r"proto \S+", "", line)).strip() for line in rules]
    assert told[0] == "0: from all lookup local"
    assert told[-2:] == ["32766: from all lookup main", "32767: from all lookup default"]
    assert f"5030: from {PRIVATE} lookup ens4" in told
    assert f"5030: from {PUBLIC} lookup ens3" in told
    assert "5040: from all oif ens4 lookup ens4" in told


def test_what_main_says_is_left_as_it_was(story, lab: Lab):
    _cloud, command = story
    before = lab.ip("S", "route", "show", "table", "main")
    command.ok("apply")
    assert lab.ip("S", "route", "show", "table", "main") == before


def test_after_a_remove_the_story_begins_anew(story, lab: Lab):
    _cloud, command = story
    command.ok("apply")
    assert ping(lab, "R", PRIVATE)
    command.ok("remove")
    assert not ping(lab, "R", PRIVATE)
    assert ping(lab, "R", PUBLIC)


def test_every_other_ping_of_the_story_is_answered_too(story, lab: Lab):
    cloud, command = story
    command.ok("apply")
    wanted = cloud.matrix([4]) + cloud.unbound([4]) + cloud.by_device([4])
    assert pings(lab, wanted) == []


def test_without_the_stanza_nothing_happens(story, lab: Lab):
    _cloud, command = story
    command.config.write_text("#cloud-config\nhostname: web1\n")
    rules = lab.ip("S", "rule")
    command.ok("apply")
    assert lab.ip("S", "rule") == rules
    assert pings(lab, [Ping("R", PRIVATE)])
