"""netplan: networkd's part and NetworkManager's, by what netplan has generated."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from cc_source_routing.files.write import write_files
from cc_source_routing.model import RoutingPlan
from cc_source_routing.render import netplan, networkd

from .cases import CASES, assert_tree, case_names, plan_of
from .roots import Root
from .test_render_networkd import index_of


def facts_of(case: str, plan: RoutingPlan) -> netplan.Facts:
    return netplan.inspect(CASES / case / "given", plan, index_of(case))


def paths(case: str) -> list[str]:
    plan = plan_of(case)
    return [file.path for file in netplan.render(plan, facts_of(case, plan))]


@pytest.mark.parametrize("case", case_names("netplan-"))
def test_the_whole_tree_is_as_expected(case):
    plan = plan_of(case)
    assert_tree(case, netplan.render(plan, facts_of(case, plan)))


def test_drop_ins_go_by_netplans_id_and_not_by_the_interfaces_name():
    found = [path for path in paths("netplan-ids-are-not-names") if ".network.d/" in path]
    assert found == [
        "/etc/systemd/network/10-netplan-id0.network.d/50-source-routing.conf",
        "/etc/systemd/network/10-netplan-public.network.d/50-source-routing.conf",
    ]


def test_each_nic_is_kept_by_the_renderer_that_it_has():
    """NetworkManager's needs no file."""
    assert paths("netplan-one-nic-each") == [
        "/etc/systemd/network/10-netplan-ens3.network.d/50-source-routing.conf"
    ]


def test_a_nic_of_networkmanager_is_no_reason_for_a_warning():
    plan = plan_of("netplan-one-nic-each")
    facts = facts_of("netplan-one-nic-each", plan)
    assert netplan.warnings(plan, facts) == ()
    alone = replace(facts, network_manager=None)
    assert netplan.warnings(plan, alone) == (
        "ens4 has no .network file: networkd does not configure it",
    )


def test_where_networkmanager_has_them_all_nothing_is_written(tmp_path):
    case = "netplan-one-nic-each"
    plan = plan_of(case)
    root = tmp_path / "root"
    shutil.copytree(CASES / case / "given", root)
    shutil.rmtree(root / "run/systemd")
    facts = netplan.inspect(root, plan, index_of(case))
    assert facts.network_manager is not None
    assert netplan.render(plan, facts) == ()
    assert netplan.warnings(plan, facts) == ()


def test_it_owns_what_either_of_the_two_has_written(tmp_path):
    """NetworkManager's half has been written by 0.1.0."""
    plan = plan_of("netplan-one-nic-each")
    files = netplan.render(plan, facts_of("netplan-one-nic-each", plan))
    write_files(tmp_path, files, ())
    script = "/etc/NetworkManager/dispatcher.d/50-source-routing"
    Root(tmp_path).file(script)
    assert sorted(netplan.owned(tmp_path)) == sorted([script, *(file.path for file in files)])


def test_networkd_is_told_as_it_is_without_netplan():
    conf = "/etc/systemd/network/10-netplan-x.network.d/50-source-routing.conf"
    assert netplan.after([conf], []) == networkd.after([conf], []) != ()
