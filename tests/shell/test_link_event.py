"""The script behind the kernel's own messages: it replays what differs, and then rests."""

from __future__ import annotations

import shutil

import pytest

from cc_source_routing.render import common, network_manager
from cc_source_routing.render.link_events import MANY_NICS, SCRIPT_PATH

from ..unit.cases import plan_of
from .sandbox import SHELLS, Run, Sandbox, until_up

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
*" route show proto kernel") cat "{box}/answer-prefixes" ;;
*" route show proto ra") ;;
"-4 -o route show proto static") cat "{box}/answer-static" 2>/dev/null || : ;;
*" route show proto static" | *" route show proto boot") ;;
"-6 -o route show default") cat "{box}/answer-routers" ;;
*" route show default") ;;
*) cat "{box}/answer" ;;
esac
"""


@pytest.fixture()
def box(tmp_path):
    files = network_manager.render(PLAN, network_manager.Facts())
    sandbox = Sandbox(tmp_path, (*common.common_files(PLAN), *files))
    sandbox.answer("", "2: ens3    inet 198.51.100.10/24 scope global\n")
    sandbox.answer("-prefixes", "")
    sandbox.answer("-routers", "")
    for family, text in KNOWN.items():
        sandbox.answer(family, text)
    sandbox.mock("sleep")
    after_an_earlier_event(sandbox)
    return sandbox


def after_an_earlier_event(box: Sandbox) -> None:
    for name in ("link-event", "link-event.ours"):
        (box.box / "state" / name).write_text("")


def event(
    box: Sandbox,
    shell: str = "dash",
    links: str = "ens3",
    state: str = "up",
    idle: str = "ens4",
) -> Run:
    """The script on a host with `links` and with others that are there, but down."""
    box._script(box.box / "caller", f"#!/bin/sh\nexec 3</dev/null\nexec {shell} {SCRIPT_PATH}\n")
    prepare = "mount -t sysfs sysfs /sys\n"
    for link in links.split():
        prepare += (
            f"ip link add {link} type veth peer name peer-{link}\n"
            f"ip link set peer-{link} up\nip link set {link} {state}\n"
        )
        prepare += until_up(link) if state == "up" else ""
    for link in idle.split():
        prepare += f"ip link add {link} type veth peer name peer-{link}\n"
    prepare += box.stand_in("ip", IP.format(box=box.box))
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
    assert replays(event(box, shell)) == REPLAY, "one run alone is not believed"
    run = event(box, shell)
    assert (run.code, replays(run), run.applies) == (0, [], [])


def test_routes_that_are_gone_are_replayed_again(box):
    event(box)
    box.answer("", "2: ens3    inet 198.51.100.11/24 scope global\n")
    assert replays(event(box)) == REPLAY


@pytest.mark.parametrize("shell", SHELLS)
def test_rules_of_ipv4_addresses_that_are_gone_go_at_once_and_the_command_follows(box, shell):
    """A lease is over; what is left of the NIC is replayed before, for it would bring them back."""
    event(box, shell)
    box.answer("", "2: ens3    inet6 2001:db8:1::10/64 scope global\n")
    box.answer(4, "")
    run = event(box, shell)
    batches = [call for call in run.ip if "-batch" in call]
    assert batches[-1] == "-4 -force -batch -" and sorted(batches[:-1]) == REPLAY
    assert run.applies == ["apply --interface ens3"]
    box.answer("-routers", "default via fe80::9 dev ens9\n")
    run = event(box, shell)
    assert run.applies == [] and "-4 -force -batch -" in run.ip, "once"


def test_an_address_that_came_by_itself_is_planned_anew(box):
    """A router advertisement, long after NetworkManager called the NIC up."""
    box.answer(6, KNOWN[6] + "2: ens3    inet6 2001:db8:1::77/64 scope global\n")
    assert event(box).applies == ["apply --interface ens3"]


def test_a_prefix_that_a_router_tells_of_is_planned_anew(box):
    """Siblings get a route to it; replaying knows nothing of that."""
    told = "2001:db8:9::/64 dev ens3 metric 256 expires {}sec pref medium\n"
    box.answer("-prefixes", told.format(1200))
    assert event(box).applies == ["apply"]
    assert event(box).applies == []
    box.answer("-prefixes", told.format(1170))
    run = event(box)
    assert (replays(run), run.applies) == ([], []), "time passes"
    box.answer("-prefixes", "2001:db8:9::/64 dev ens3 metric 256 pref medium\n")
    assert event(box).applies == ["apply"], "one that is set is no router's any more"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_nic_that_an_apply_has_seen_in_the_middle_of_a_flap_is_planned_again(box, shell):
    """It was there before and it is there after, as it was, but it was down meanwhile."""
    event(box, shell)
    file = "etc/source-routing/nics/ens3"
    box.mock("source-routing", f"rm -f /{file} {box.root}/{file}; echo 18 changes.")
    box.answer("-static", "10.0.0.0/8 via 198.51.100.7 dev ens9\n")
    assert event(box, shell).applies == ["apply"]
    box.mock("source-routing", "echo 'Nothing to change: all is as planned.'")
    assert event(box, shell).applies == ["apply --interface ens3"]
    assert event(box, shell).applies == [], "once"


@pytest.mark.parametrize("shell", SHELLS)
def test_many_nics_are_one_apply(box, shell):
    nics = box.root / "etc/source-routing/nics"
    for number in range(MANY_NICS):
        shutil.copy(nics / "ens4", nics / f"ens{10 + number}")
    run = event(box, shell)
    assert (run.code, replays(run), run.applies) == (0, [], ["apply"])
    event(box, shell)
    assert event(box, shell).applies == [], "believed after two that end the same"


def test_a_network_behind_a_gateway_that_goes_with_its_link_is_planned_anew(box):
    box.answer("-static", "10.0.0.0/8 via 198.51.100.7 dev ens3 metric 100\n")
    assert event(box).applies == ["apply"]
    assert event(box).applies == []
    box.answer("-static", "")
    assert event(box).applies == ["apply"]


def test_the_first_event_may_have_taken_something_away_already(box):
    (box.box / "state" / "link-event").unlink()
    assert event(box).applies == ["apply"]
    assert event(box).applies == []


def test_a_family_that_is_not_planned_is_handed_over_when_it_changes(tmp_path):
    """A router that comes back, while the NIC has gone on with IPv4 alone."""
    files = network_manager.render(plan_of("network-manager-1-the-seed"), network_manager.Facts())
    box = Sandbox(tmp_path, files)
    box.mock("sleep")
    after_an_earlier_event(box)
    box.answer("-prefixes", "")
    box.answer("-routers", "")
    box.answer(4, "2: ens3    inet 162.253.43.134/24 scope global\ndefault via 162.253.43.1\n")
    four = "2: ens3    inet 162.253.43.134/24 scope global\n"
    six = "2: ens3    inet6 2001:db8::1/64 scope global"
    for told, applies in {
        four: [],
        f"{four}{six} tentative\n": [],
        f"{four}{six}\n": ["apply --interface ens3"],
    }.items():
        box.answer("", told)
        assert event(box).applies == applies, told
    box.answer("-routers", "default via fe80::1 dev ens3 proto ra\n")
    assert event(box).applies == ["apply --interface ens3"]
    assert event(box).applies == []


def test_a_nic_that_gets_its_first_address_is_handed_over_once(box):
    box.answer(
        "",
        "2: ens3    inet 198.51.100.10/24 scope global\n"
        "3: ens9    inet6 2001:db8:9::1/64 scope global dynamic\n",
    )
    assert event(box, links="ens3 ens9").applies == ["apply --interface ens9"]
    box.answer(
        "",
        "2: ens3    inet 198.51.100.11/24 scope global\n"
        "3: ens9    inet6 2001:db8:9::1/64 scope global dynamic\n",
    )
    assert event(box, links="ens3 ens9").applies == [], "it is not one to be served"


def test_a_nic_that_is_down_is_left_alone(box):
    run = event(box, state="down")
    assert (run.code, replays(run), run.applies) == (0, [], [])


def test_a_nic_that_is_pulled_out_is_planned_anew_to_leave_nothing(box):
    assert event(box).applies == []
    run = event(box, idle="")
    assert (run.code, run.applies) == (0, ["apply"])
    assert event(box, idle="").applies == [], "once"


def test_a_nic_that_nobody_planned_is_left_to_its_manager(box):
    run = event(box, links="ens3 docker0")
    assert not any("docker0" in call for call in run.ip)


def test_without_a_plan_it_is_silent(tmp_path):
    files = network_manager.render(
        plan_of("network-manager-no-second-nic-yet"), network_manager.Facts()
    )
    box = Sandbox(tmp_path, files)
    box.answer("", "")
    box.answer("-prefixes", "")
    box.answer("-routers", "")
    box.mock("sleep")
    run = event(box, idle="")
    assert (run.code, run.out, run.err, replays(run), run.applies) == (0, "", "", [], [])
