"""NetworkManager: the dispatcher script, and what is worth telling."""

from __future__ import annotations

import pytest

from cc_source_routing.files.write import write_files
from cc_source_routing.model import RoutingPlan
from cc_source_routing.render import network_manager
from cc_source_routing.render.link_events import START, STOP

from .cases import CASES, assert_tree, case_names, plan_of
from .roots import Root


@pytest.mark.parametrize("case", case_names("network-manager-"))
def test_the_whole_tree_is_as_expected(case):
    plan = plan_of(case)
    facts = network_manager.inspect(CASES / case / "given", plan)
    assert_tree(case, network_manager.render(plan, facts))


def test_no_profile_is_written():
    plan = plan_of("network-manager-1-the-seed")
    files = network_manager.render(plan, network_manager.Facts())
    assert not any("system-connections" in file.path for file in files)


def test_the_script_has_the_mode_that_the_dispatcher_demands():
    files = network_manager.render(RoutingPlan(), network_manager.Facts())
    (script,) = (file for file in files if file.path == network_manager.DISPATCHER_PATH)
    assert script.mode == 0o755


def test_what_was_rendered_is_owned_and_goes_when_it_is_not_wanted(tmp_path):
    plan = plan_of("network-manager-dual-stack")
    files = network_manager.render(plan, network_manager.Facts())
    assert network_manager.owned(tmp_path) == ()
    write_files(tmp_path, files, ())
    assert sorted(network_manager.owned(tmp_path)) == sorted(file.path for file in files)
    write_files(tmp_path, (), network_manager.owned(tmp_path))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_nics_that_only_wait_at_a_boot_keep_what_the_hook_replays(tmp_path):
    case = "network-manager-1-the-seed"
    plan = plan_of(case)
    write_files(tmp_path, network_manager.render(plan, network_manager.Facts()), ())
    early = RoutingPlan(unserved={"ens3": "link is down", "ens4": "no global address"})
    kept = network_manager.render(early, network_manager.inspect(tmp_path, early))
    assert not write_files(tmp_path, kept, network_manager.owned(tmp_path)).changed
    excluded = RoutingPlan(unserved={"ens3": "link is down", "ens4": "excluded by the stanza (e*)"})
    kept = network_manager.render(excluded, network_manager.inspect(tmp_path, excluded))
    removed = write_files(tmp_path, kept, network_manager.owned(tmp_path)).removed
    assert removed == ("/etc/source-routing/nics/ens4",)


def test_nm_cloud_setup_is_told_of_since_it_makes_rules_too(tmp_path):
    Root(tmp_path).enabled("nm-cloud-setup.timer", "timers.target")
    told = network_manager.warnings(RoutingPlan(), network_manager.inspect(tmp_path, RoutingPlan()))
    assert len(told) == 1 and "nm-cloud-setup is enabled" in told[0]


def test_a_masked_dispatcher_is_told_of(tmp_path):
    Root(tmp_path).masked("NetworkManager-dispatcher.service")
    told = network_manager.warnings(RoutingPlan(), network_manager.inspect(tmp_path, RoutingPlan()))
    assert len(told) == 1 and "dispatcher" in told[0]


def test_an_ordinary_root_is_no_reason_for_a_warning(tmp_path):
    facts = network_manager.inspect(tmp_path, RoutingPlan())
    assert network_manager.warnings(RoutingPlan(), facts) == ()


def test_listening_to_the_kernel_begins_and_ends_with_its_files():
    unit = "/etc/systemd/system/source-routing-link.socket"
    assert network_manager.after([unit], []) == (START,)
    assert network_manager.after([], [unit]) == (STOP,)
    assert network_manager.after([network_manager.DISPATCHER_PATH], []) == ()
