"""Many at once: followers and commands wait for one another, and nothing is left half done."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from lab import Driver, Lab, SocketUnit, SourceRouting, following, snapshot, torn, wait_until

pytestmark = pytest.mark.kernel

PERSONS = 3


def acts(lab: Lab, deeds: list[list[str]], times: int, seed: int) -> None:
    """One person at a keyboard, who is never refused and never sees a traceback."""
    choose = random.Random(seed)
    with Driver(lab, "S") as driver:
        for _time in range(times):
            deed = choose.choice(deeds)
            done = driver(*deed)
            # While others are at work a check may find something.
            assert done.code in ((0, 1) if "check" in deed else (0,)), (deed, done)
            assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(3, id="for seconds"),
        pytest.param(
            60, id="for minutes", marks=pytest.mark.thorough("many commands at once for minutes")
        ),
    ],
)
def test_two_followers_and_whoever_applies_checks_and_removes_get_along(
    server, lab: Lab, times: int
):
    cloud, saved = server(hosts=False, container=False)
    saved.configure(None)
    nobody, nothing = snapshot(lab, "S"), saved.files()
    ours = SourceRouting(lab, "S", saved.root)
    ours.configure(cloud.stanza(renderer="ifupdown"), "ours")
    other = SourceRouting(lab, "S", saved.root)
    other.configure(cloud.stanza(renderer="ifupdown", table_base=800, rule_priority=7000), "other")
    deeds = [
        ours.argv("apply"),
        ours.argv("check"),
        other.argv("apply"),
        saved.argv("apply", "--again"),
        saved.argv("status"),
        saved.argv("remove"),
    ]
    ours.ok("apply")
    with SocketUnit(saved, idle=0.5) as unit, following(saved, begun=False) as follower:
        with ThreadPoolExecutor(PERSONS) as pool:
            persons = [pool.submit(acts, lab, deeds, times, seed) for seed in range(PERSONS)]
            for person in persons:
                person.result()
        assert follower.process.poll() in (None, 0)
        other.ok("apply")
        wait_until(lambda: unit.rests, story=unit.story)
        other.ok("check")
        saved.ok("remove")
        wait_until(lambda: unit.rests, story=unit.story)
        assert set(unit.ended) == {0}, unit.story()
    assert nobody.difference(snapshot(lab, "S")) == ""
    assert torn(saved.files(), nothing) == []
