"""The dispatcher script under several shells: which event replays, which plans anew."""

from __future__ import annotations

import pytest

from cc_source_routing.render import common, network_manager

from ..unit.cases import plan_of
from .sandbox import SHELLS, Sandbox, logged

pytestmark = pytest.mark.kernel

PLAN = plan_of("network-manager-dual-stack")
ENS3 = PLAN.nics[0]
SCRIPT = network_manager.DISPATCHER_PATH
ADDRESS4 = "2: ens3    inet 198.51.100.10/24 brd 198.51.100.255 scope global ens3\\       valid_lft"
ADDRESS6 = "2: ens3    inet6 2001:db8:1::10/64 scope global \\       valid_lft forever"
ASKED = {4: 2, 6: 3}  # lines before those that restore
REPLAY = ["-4 -o -force -batch -", "-6 -o -force -batch -"]
WITHDRAW = ["-4 -force -batch -", "-6 -force -batch -"]


@pytest.fixture()
def box(tmp_path):
    files = network_manager.render(PLAN, network_manager.Facts())
    sandbox = Sandbox(tmp_path, (*common.common_files(PLAN), *files))
    sandbox.answer(4, f"{ADDRESS4}\ndefault via 198.51.100.1\n")
    sandbox.answer(6, f"{ADDRESS6}\ndefault via 2001:db8:1::1\n")
    return sandbox


def event(box: Sandbox, action: str, shell: str = "dash", nic: str = "ens3", **env: str):
    environment = {"DEVICE_IFACE": nic, "DEVICE_IP_IFACE": nic, **env}
    return box.hook(f"{SCRIPT} '{nic}' {action}", shell, **environment)


def batches(run) -> list[str]:
    return sorted(call for call in run.ip if "-batch" in call)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("action", ["up", "reapply", "dhcp4-change", "dhcp6-change"])
def test_a_known_nic_is_replayed_without_an_apply(box, shell, action):
    run = event(box, action, shell, IP4_GATEWAY="198.51.100.1", IP6_NUM_ADDRESSES="2")
    assert (run.code, run.out, run.err, run.applies) == (0, "", "", [])
    assert batches(run) == REPLAY
    for family in (4, 6):
        assert box.batch(family)[ASKED[family] :] == list(common.batch_up(PLAN, ENS3, family))


@pytest.mark.parametrize("shell", SHELLS)
def test_a_nic_that_goes_down_loses_its_rules(box, shell):
    for family in (4, 6):
        box.answer(family, "")
    run = event(box, "down", shell)
    assert (run.code, run.err, run.applies) == (0, "", [])
    assert sorted(run.ip) == WITHDRAW
    for family in (4, 6):
        assert box.batch(family) == list(common.batch_down(PLAN, ENS3, family))


@pytest.mark.parametrize(
    "action",
    ["connectivity-change", "hostname", "pre-up", "pre-down", "vpn-up", "dns-change", "", "$(id)"],
)
def test_other_events_do_nothing(box, action):
    run = event(box, f"'{action}'")
    assert (run.code, run.ip, run.applies, run.log) == (0, [], [], [])


@pytest.mark.parametrize("name", ["lo", "", "none; reboot", "$(reboot)", "-rf", "a b", ".."])
def test_a_hostile_interface_name_does_nothing(box, name):
    run = event(box, "up", nic=name)
    assert (run.code, run.ip, run.applies, box.pending()) == (0, [], [], [])


def test_another_gateway_than_the_planned_one_is_planned_anew(box):
    # The default in main is the plan's word; a lease that says otherwise counts.
    run = event(box, "dhcp4-change", IP4_GATEWAY="198.51.100.254")
    assert run.applies == ["apply --interface ens3"]


def test_a_new_address_of_a_lease_is_planned_anew(box):
    run = event(box, "dhcp4-change", DHCP4_IP_ADDRESS="198.51.100.77")
    assert run.applies == ["apply --interface ens3"]
    assert logged(run, "dash", "198.51.100.77 is new")


def test_no_gateway_is_no_change(box):
    assert event(box, "up", IP4_GATEWAY="0.0.0.0").applies == []


def test_an_unknown_nic_with_an_address_is_planned_anew(box):
    box.answer("", "9: ens9    inet 192.0.2.99/24 scope global ens9\n")
    run = box.hook(f"{SCRIPT} ens9 up", nics=("ens9",), DEVICE_IP_IFACE="ens9")
    assert run.applies == ["apply --interface ens9"]


def test_without_what_it_sources_the_script_is_silent(box):
    (box.root / "etc/source-routing/hook.sh").unlink()
    assert event(box, "up")[:3] == (0, "", "")


def test_beside_networkd_every_event_is_planned_anew(tmp_path):
    files = network_manager.render(PLAN, network_manager.Facts(), replay=False)
    box = Sandbox(tmp_path, files)
    for action in ("up", "down"):
        run = event(box, action)
        assert run.applies == ["apply --interface ens3"]
        assert batches(run) == []
