"""NetworkManager: nothing is written, what 0.1.0 wrote goes, and what is worth telling."""

from __future__ import annotations

import pytest

from cc_source_routing.files.write import write_files
from cc_source_routing.model import RoutingPlan
from cc_source_routing.render import network_manager

from .cases import case_names, plan_of
from .roots import Root


@pytest.mark.parametrize("case", case_names("ifupdown-"))
def test_it_writes_nothing_neither_profile_nor_script(case):
    assert network_manager.render(plan_of(case), network_manager.Facts()) == ()


def test_what_0_1_0_wrote_goes(tmp_path):
    old = {
        "/etc/NetworkManager/dispatcher.d/50-source-routing",
        "/etc/source-routing/hook.sh",
        "/etc/source-routing/nics/ens3",
    }
    root = Root(tmp_path).file("/etc/NetworkManager/dispatcher.d/10-other")
    for path in old:
        root.file(path)
    changes = write_files(tmp_path, (), network_manager.owned(tmp_path))
    assert set(changes.removed) == old
    assert (tmp_path / "etc/NetworkManager/dispatcher.d/10-other").exists()
    assert network_manager.owned(tmp_path) == ()


def test_nm_cloud_setup_is_told_of_since_it_makes_rules_too(tmp_path):
    Root(tmp_path).enabled("nm-cloud-setup.timer", "timers.target")
    told = network_manager.warnings(RoutingPlan(), network_manager.inspect(tmp_path, RoutingPlan()))
    assert len(told) == 1 and "nm-cloud-setup is enabled" in told[0]


def test_an_ordinary_root_is_no_reason_for_a_warning(tmp_path):
    facts = network_manager.inspect(tmp_path, RoutingPlan())
    assert network_manager.warnings(RoutingPlan(), facts) == ()
