"""The script behind the kernel's own messages: it replays what differs, and then rests."""

from __future__ import annotations

import pytest

from cc_source_routing.render import common, network_manager
from cc_source_routing.render.link_events import SCRIPT_PATH

from ..unit.cases import plan_of
from .sandbox import SHELLS, Run, Sandbox

pytestmark = pytest.mark.kernel

PLAN = plan_of("network-manager-dual-stack")
KNOWN = {
    4: "2: ens3    inet 198.51.100.10/24 scope global\ndefault via 198.51.100.1\n",
    6: "2: ens3    inet6 2001:db8:1::10/64 scope global\ndefault via 2001:db8:1::1\n",
}
REPLAY = ["-4 -o -force -batch -", "-6 -o -force -batch -"]

# What the script looks at is answered from one file, a replay by family.
IP = """#!/bin/sh
echo "ip $*" >>"{box}/calls"
case "$*" in
*-batch*) cat >/dev/null; case "$*" in -4*) cat "{box}/answer4" ;; *) cat "{box}/answer6" ;; esac ;;
*) cat "{box}/answer" ;;
esac
"""


@pytest.fixture()
def box(tmp_path):
    files = network_manager.render(PLAN, network_manager.Facts())
    sandbox = Sandbox(tmp_path, (*common.common_files(PLAN), *files))
    sandbox.answer("", "ens3 UP 198.51.100.10/24 2001:db8:1::10/64\n")
    for family, text in KNOWN.items():
        sandbox.answer(family, text)
    sandbox.mock("sleep")
    return sandbox


def event(box: Sandbox, shell: str = "dash", links: str = "ens3", state: str = "up") -> Run:
    box._script(box.box / "ip", IP.format(box=box.box))
    box._script(box.box / "caller", f"#!/bin/sh\nexec 3</dev/null\nexec {shell} {SCRIPT_PATH}\n")
    prepare = "mount -t sysfs sysfs /sys\n"
    for link in links.split():
        prepare += (
            f"ip link add {link} type veth peer name peer-{link}\n"
            f"ip link set peer-{link} up\nip link set {link} {state}\n"
        )
    prepare += f'mount --bind {box.box}/ip "$(realpath "$(command -v ip)")"\n'
    return box.run(str(box.box / "caller"), prepare)


def replays(run: Run) -> list[str]:
    return sorted(call for call in run.ip if "-batch" in call)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_known_nic_that_is_up_is_replayed(box, shell):
    run = event(box, shell)
    assert (run.code, run.out, run.err, run.applies) == (0, "", "", [])
    assert replays(run) == REPLAY


@pytest.mark.parametrize("shell", SHELLS)
def test_what_is_as_it_was_is_left_alone_since_replaying_is_an_event_too(box, shell):
    event(box, shell)
    run = event(box, shell)
    assert (run.code, replays(run), run.applies) == (0, [], [])


def test_routes_that_are_gone_are_replayed_again(box):
    event(box)
    box.answer("", "ens3 UP 198.51.100.10/24\n")
    assert replays(event(box)) == REPLAY


def test_an_address_that_came_by_itself_is_planned_anew(box):
    """A router advertisement, long after NetworkManager called the NIC up."""
    box.answer(6, KNOWN[6] + "2: ens3    inet6 2001:db8:1::77/64 scope global\n")
    assert event(box).applies == ["apply --interface ens3"]


def test_a_nic_that_is_down_or_not_there_is_left_alone(box):
    for run in (event(box, state="down"), event(box, links="")):
        assert (run.code, replays(run), run.applies) == (0, [], [])


def test_a_nic_that_nobody_planned_is_left_to_its_manager(box):
    run = event(box, links="ens3 docker0")
    assert not any("docker0" in call for call in run.ip)


def test_without_a_plan_it_is_silent(tmp_path):
    files = network_manager.render(
        plan_of("network-manager-no-second-nic-yet"), network_manager.Facts()
    )
    box = Sandbox(tmp_path, files)
    box.answer("", "")
    box.mock("sleep")
    run = event(box)
    assert (run.code, run.out, run.err, replays(run), run.applies) == (0, "", "", [], [])
