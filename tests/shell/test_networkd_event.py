"""The script behind networkd's path unit: when it plans anew, and when it waits first."""

from __future__ import annotations

import pytest

from cc_source_routing.model import RoutingPlan
from cc_source_routing.render import networkd
from cc_source_routing.render.networkd_events import SCRIPT_PATH

from .sandbox import SHELLS, Sandbox

pytestmark = pytest.mark.kernel

BOTH = "2: ens3    inet 192.0.2.1/24 scope global\n3: ens4    inet 198.51.100.1/24 scope global\n"
ONE = "2: ens3    inet 192.0.2.1/24 scope global\n"
LINK = "/run/systemd/netif/links/2"
PREPARE = (
    f"mkdir -p /run/systemd/netif/links /run/systemd/netif/leases; echo ADMIN_STATE=%s >{LINK}\n"
)


@pytest.fixture()
def box(tmp_path):
    sandbox = Sandbox(tmp_path, networkd.render(RoutingPlan(), networkd.Facts()))
    sandbox.answer("", BOTH)
    # The script may not depend on time that the tests would have to spend.
    sandbox.mock("sleep", f"echo ADMIN_STATE=configured >{LINK}")
    return sandbox


def run(box: Sandbox, shell: str = "dash", state: str = "configured"):
    box._script(
        box.box / "ip", f'#!/bin/sh\necho "ip $*" >>{box.box}/calls\ncat {box.box}/answer\n'
    )
    mask = f'mount --bind {box.box}/ip "$(realpath "$(command -v ip)")"\n'
    return box.run(f"{shell} {SCRIPT_PATH}", PREPARE % state + mask)


def sleeps(box: Sandbox) -> list[str]:
    calls = (box.box / "calls").read_text().splitlines()
    return [call[6:] for call in calls if call.startswith("sleep ")]


@pytest.mark.parametrize("shell", SHELLS)
def test_an_event_is_one_apply(box, shell):
    done = run(box, shell)
    assert (done.code, done.applies, sleeps(box)) == (0, ["apply"], [])


def test_the_same_addresses_again_are_applied_again_since_rules_may_be_gone(box):
    run(box)
    assert run(box).applies == ["apply"]


@pytest.mark.parametrize("shell", ["dash", "bash --posix"])  # busybox sleeps by itself
def test_when_addresses_are_only_lost_it_waits_for_them_to_come_back(box, shell):
    run(box, shell)
    box.answer("", ONE)
    done = run(box, shell)
    assert (done.applies, sleeps(box)) == (["apply"], ["3"])


def test_when_one_is_lost_and_another_one_is_new_it_does_not_wait(box):
    run(box)
    box.answer("", ONE + "3: ens4    inet 198.51.100.99/24 scope global\n")
    assert (run(box).applies, sleeps(box)) == (["apply"], [])


def test_when_all_addresses_are_lost_it_waits_too(box):
    run(box)
    box.answer("", "")
    assert (run(box).applies, sleeps(box)) == (["apply"], ["3"])


def test_a_link_that_networkd_is_at_work_on_is_waited_for(box):
    done = run(box, state="configuring")
    assert (done.applies, sleeps(box)) == (["apply"], ["0.25"])


def test_but_not_for_ever(box):
    box.mock("sleep")
    done = run(box, state="configuring")
    assert done.applies == ["apply"]
    assert sleeps(box) == ["0.25"] * 40


def test_what_changes_meanwhile_is_looked_at_too(box):
    box.mock(
        "source-routing",
        f"/bin/sleep 0.02; [ -e {box.box}/again ] || {{ : >{box.box}/again; : >{LINK}; }}",
    )
    assert run(box).applies == ["apply", "apply"]


def test_a_link_that_never_rests_does_not_keep_it_for_ever(box):
    box.mock("source-routing", f"/bin/sleep 0.02; : >{LINK}")
    assert run(box).applies == ["apply"] * 5


def test_a_failing_apply_fails_the_unit(box):
    box.mock("source-routing", "exit 1")
    assert run(box).code == 1
