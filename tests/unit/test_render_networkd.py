"""The networkd renderer: whole trees, which file a NIC has, what is kept and what is told."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cc_source_routing.files.write import write_files
from cc_source_routing.model import OUR_PROTOCOL, PROTO_STATIC, PlannedNic, RoutingPlan
from cc_source_routing.plan.build import build_plan
from cc_source_routing.render import networkd
from cc_source_routing.render.networkd_files import (
    is_match,
    match_section,
    network_files,
    pins_one_device,
)
from cc_source_routing.render.units import FOLLOW_PATH
from cc_source_routing.stanza.parse import parse_stanza

from .cases import CASES, assert_tree, case_names, document_of, host_of, plan_of
from .roots import Root, shellcheck

MAC = "fa:16:3e:00:00:02"
NIC = PlannedNic("ens3", MAC, 500, ())


def index_of(case: str):
    """The kernel's numbering in a case: lo, then the NICs as told."""
    nics = document_of(case)["nics"]
    return {name: index for index, name in enumerate(nics, start=2)}.get


def facts_of(case: str, plan: RoutingPlan, root: Path | None = None) -> networkd.Facts:
    return networkd.inspect(root or CASES / case / "given", plan, index_of(case))


def drop_in(case: str, nic: str = "ens4") -> str:
    plan = plan_of(case)
    files = networkd.drop_ins(plan, facts_of(case, plan))
    return next(file.content for file in files if f"for {nic};" in file.content)


# -- whole trees -----------------------------------------------------------------


@pytest.mark.parametrize("case", case_names("networkd-"))
def test_the_whole_tree_is_as_expected(case):
    plan = plan_of(case)
    assert_tree(case, networkd.render(plan, facts_of(case, plan)))


def test_an_empty_plan_writes_nothing():
    assert networkd.render(RoutingPlan(), networkd.Facts()) == ()


def test_what_was_rendered_is_owned_and_goes_without_a_trace(tmp_path):
    case = "networkd-1-the-seed"
    shutil.copytree(CASES / case / "given", tmp_path / "root")
    root = tmp_path / "root"
    before = sorted(root.rglob("*"))
    plan = plan_of(case)
    files = networkd.render(plan, facts_of(case, plan, root))
    assert networkd.owned(root) == ()
    write_files(root, files, networkd.owned(root))
    assert sorted(networkd.owned(root)) == sorted(file.path for file in files)
    write_files(root, (), networkd.owned(root))
    left = [path for path in sorted(root.rglob("*")) if path.is_file() and path not in before]
    assert left == []
    assert not list(root.glob("etc/systemd/network/*.d"))


def test_a_drop_in_of_somebody_else_with_our_name_is_not_ours(tmp_path):
    Root(tmp_path).file("/etc/systemd/network/x.network.d/50-source-routing.conf", "[Link]\n")
    assert networkd.owned(tmp_path) == ()


# -- what stands in a drop-in ------------------------------------------------------


def test_no_gateway_route_can_be_refused_for_want_of_an_address():
    text = drop_in("networkd-dhcp")
    assert text.count("Gateway=") == text.count("GatewayOnLink=yes") > 0


def test_the_kernel_gets_them_as_networkd_does_which_would_set_again_what_it_finds():
    plan = networkd.as_declared(plan_of("networkd-dual-stack"))
    through = [route for route in plan.routes if route.family == 4 and route.gateway is not None]
    assert through and all(route.onlink for route in through)
    # The kernel may refuse it for IPv6, where main knows another way to the gateway.
    assert not any(route.onlink for route in plan.routes if route not in through)


def test_the_kernel_gets_rules_of_networkds_protocol_or_they_would_be_foreign_to_it():
    plan = networkd.as_declared(plan_of("networkd-dual-stack"))
    assert {rule.protocol for rule in plan.rules} == {PROTO_STATIC}
    assert [rule.key for rule in plan.rules] == [
        rule.key for rule in plan_of("networkd-dual-stack").rules
    ]


def test_what_has_moved_before_a_tunnel_moves_in_the_kernel_alone():
    """Each change of a file has networkd configure links anew, and delete others' rules."""
    plan = plan_of("networkd-dual-stack")
    moved = replace(
        plan,
        rule_priority=plan.rule_priority - 100,
        nics=tuple(
            replace(
                nic,
                rules=tuple(r._replace(priority=r.priority - 100) for r in nic.rules),
            )
            for nic in plan.nics
        ),
    )
    facts = facts_of("networkd-dual-stack", plan)
    assert networkd.drop_ins(moved, facts) == networkd.drop_ins(plan, facts)
    assert {rule.protocol for rule in networkd.as_declared(moved).rules} == {OUR_PROTOCOL}


def test_a_nics_file_has_its_own_rules_and_no_others():
    for nic, other in (("ens3", "ens4"), ("ens4", "ens3")):
        told = drop_in("networkd-1-the-seed", nic)
        own = {nic.name: nic.addresses for nic in plan_of("networkd-1-the-seed").nics}
        assert f"From={own[nic][0].ip}/32" in told
        assert f"From={own[other][0].ip}/32" not in told


def test_the_rules_of_a_nic_that_networkd_does_not_configure_stand_in_every_file():
    """It deletes rules that are in no file of its own, whosever NIC they are for."""
    plan = plan_of("networkd-1-the-seed")
    facts = facts_of("networkd-1-the-seed", plan)
    (first, second) = plan.nics
    facts = replace(facts, files=tuple(pair for pair in facts.files if pair[0] == first.name))
    (file,) = networkd.drop_ins(plan, facts)
    assert file.content.startswith(f"# Written by source-routing for {first.name};")
    assert all(f"From={rule.src}" in file.content for rule in second.rules if rule.src)
    assert f"OutgoingInterface={second.name}\n" in file.content
    assert f"Table={second.table}\n" not in file.content.partition("[Route]")[2]
    hostile = replace(plan, nics=(first, replace(second, name="a b")))
    assert "From=10.13." not in networkd.drop_ins(hostile, facts)[0].content


def test_a_file_for_all_nics_gets_rules_but_neither_routes_nor_a_group():
    plan = plan_of("networkd-one-file-for-all")
    facts = facts_of("networkd-one-file-for-all", plan)
    (file,) = networkd.drop_ins(plan, facts)
    assert "[Route]" not in file.content and "[Link]" not in file.content
    for nic in plan.nics:
        assert all(f"From={rule.src}" in file.content for rule in nic.rules if rule.src)
    told = networkd.warnings(plan, facts)
    assert len(told) == 2 and "/etc/systemd/network/80-all.network" in told[0]


@pytest.mark.parametrize(
    ("version", "suppress", "group_rule", "group", "warned"),
    [
        (257, True, True, True, False),
        (250, True, True, True, False),
        (249, True, False, True, True),
        (245, True, False, False, True),
        (244, False, False, False, True),
        (None, True, True, True, False),
    ],
)
def test_a_release_gets_what_it_can_express(version, suppress, group_rule, group, warned):
    plan = plan_of("networkd-1-the-seed")
    facts = replace(facts_of("networkd-1-the-seed", plan), version=version)
    text = networkd.drop_ins(plan, facts)[0].content
    assert ("SuppressPrefixLength=" in text) is suppress
    assert ("SuppressInterfaceGroup=" in text) is group_rule
    assert ("Group=21330\n" in text.partition("[RoutingPolicyRule]")[0]) is group
    assert "From=162.253.43.134/32" in text and "[Route]" in text
    assert any("is older than 250" in line for line in networkd.warnings(plan, facts)) is warned


def test_a_name_that_could_be_more_than_a_name_gets_no_file():
    plan = plan_of("networkd-1-the-seed")
    facts = facts_of("networkd-1-the-seed", plan)
    (one, *others) = plan.nics
    hostile = replace(plan, nics=(replace(one, name="a\n[Route]"), *others))
    files = tuple((name if name != one.name else "a\n[Route]", f) for name, f in facts.files)
    rendered = networkd.drop_ins(hostile, replace(facts, files=files))
    assert [file.path.split("/")[4] for file in rendered] == ["10-cloud-init-ens4.network.d"]


# -- a NIC that is only away for a while -------------------------------------------


def written(tmp_path: Path, case: str) -> Path:
    root = tmp_path / "root"
    shutil.copytree(CASES / case / "given", root)
    plan = plan_of(case)
    write_files(root, networkd.render(plan, facts_of(case, plan, root)), ())
    return root


def changed_host(case: str, **changes):
    document = document_of(case)
    stanza = parse_stanza(changes.pop("stanza", document["source_routing"]))
    host = host_of(document)
    links = tuple(
        link._replace(up=False) if link.name == changes.get("down") else link for link in host.links
    )
    addresses = tuple(a for a in host.addresses if a.dev != changes.get("silent"))
    return build_plan(stanza, replace(host, links=links, addresses=addresses))


@pytest.mark.parametrize("away", [{"down": "ens4"}, {"silent": "ens4"}])
def test_a_nic_that_is_down_or_waits_for_its_address_keeps_its_drop_in(tmp_path, away):
    case = "networkd-1-the-seed"
    root = written(tmp_path, case)
    plan = changed_host(case, **away)
    assert plan.nics == ()  # one NIC alone needs nothing
    kept = networkd.render(plan, facts_of(case, plan, root))
    changes = write_files(root, kept, networkd.owned(root))
    assert not changes.changed
    assert "ens4" in drop_in(case)


@pytest.mark.parametrize("noticed", [False, True])
def test_a_nic_whose_file_is_missing_keeps_its_drop_in_until_networkd_notices(tmp_path, noticed):
    """netplan removes all its files and writes them anew whenever systemd is reloaded."""
    case = "networkd-1-the-seed"
    root = written(tmp_path, case)
    plan = plan_of(case)
    for nic, index in (("ens3", 2), ("ens4", 3)):
        path = f"/etc/systemd/network/10-cloud-init-{nic}.network"
        (root / path[1:]).unlink()
        if noticed:
            Root(root).file(f"/run/systemd/netif/links/{index}", "ADMIN_STATE=unmanaged\n")
    facts = facts_of(case, plan, root)
    assert bool(networkd.warnings(plan, facts)) is noticed
    changes = write_files(root, networkd.render(plan, facts), networkd.owned(root))
    assert len(changes.removed) == (2 if noticed else 0) and not changes.written


def test_a_nic_that_the_stanza_excludes_loses_its_drop_in(tmp_path):
    case = "networkd-1-the-seed"
    root = written(tmp_path, case)
    plan = changed_host(case, stanza={"exclude": ["ens4"]})
    changes = write_files(
        root, networkd.render(plan, facts_of(case, plan, root)), networkd.owned(root)
    )
    assert changes.removed == (
        "/etc/systemd/network/10-cloud-init-ens4.network.d/50-source-routing.conf",
    )


# -- which file is the active one --------------------------------------------------


def files(root: Path, index: int | None = 2):
    return dict(network_files(root, (NIC,), lambda _name: index))


def test_what_networkd_says_counts_and_not_what_would_match(tmp_path):
    Root(tmp_path).file("/etc/systemd/network/10-a.network", "[Match]\nName=ens3\n").file(
        "/run/systemd/network/10-netplan-public.network", f"[Match]\nPermanentMACAddress={MAC}\n"
    ).file(
        "/run/systemd/netif/links/2",
        "ADMIN_STATE=configured\nNETWORK_FILE=/run/systemd/network/10-netplan-public.network\n",
    )
    file = files(tmp_path)["ens3"]
    assert file.path == "/run/systemd/network/10-netplan-public.network"
    assert file.drop_in_directory == "/etc/systemd/network/10-netplan-public.network.d"
    assert not file.shared


def test_a_state_file_cannot_lead_a_drop_in_astray(tmp_path):
    for told in ("/etc/passwd", "/run/systemd/network/../../x.network", "x.network", '"a b"'):
        Root(tmp_path).file("/run/systemd/netif/links/2", f"NETWORK_FILE={told}\n")
        assert files(tmp_path) == {}


def test_without_networkd_the_first_file_by_name_that_matches_is_the_one(tmp_path):
    Root(tmp_path).file("/usr/lib/systemd/network/80-x.network", "[Match]\nName=e*\n").file(
        "/run/systemd/network/20-x.network", "[Match]\nName=ens3\n"
    )
    assert files(tmp_path, None)["ens3"].path == "/run/systemd/network/20-x.network"


@pytest.mark.parametrize(
    ("section", "fits"),
    [
        ("Name=ens3", True),
        ("Name=ens4", False),
        ("Name=ens4 ens3", True),
        ("Name=en*", True),
        ("Name=!ens3", False),
        ("Name=!ens4 ens5", True),
        (f"MACAddress={MAC}", True),
        ("MACAddress=FA-16-3E-00-00-02", True),
        ("PermanentMACAddress=fa16.3e00.0002", True),
        (f"MACAddress=00:00:00:00:00:01 {MAC}", True),
        (f"MACAddress={MAC}\nName=ens4", False),
        (f"MACAddress={MAC}\nDriver=virtio_net", True),
        ("Driver=virtio_net", False),
        ("Type=ether", False),
        ("", False),
        ("Name=ens4\nName=\nName=ens3", True),
        ("Name=ens4 \\\nens3", True),
        ("#Name=ens3", False),
    ],
)
def test_a_match_section_means_what_the_manual_says(section, fits):
    document = f"[Link]\nName=ens3\n[Match]\n{section}\n[Network]\n"
    assert is_match(match_section(document), NIC) is fits


@pytest.mark.parametrize(
    ("section", "one"),
    [
        ("Name=ens3", True),
        ("Name=ens3 ens4", False),
        ("Name=en*", False),
        ("Name=!ens4", False),
        (f"MACAddress={MAC}", True),
        (f"Name=e*\nPermanentMACAddress={MAC}", True),
        (f"MACAddress={MAC} 00:00:00:00:00:01", False),
        ("Path=pci-0000:00:03.0", True),
        ("Type=ether", False),
        ("", False),
    ],
)
def test_a_file_holds_routes_only_when_it_cannot_mean_two_devices(section, one):
    assert pins_one_device(match_section(f"[Match]\n{section}\n")) is one


# -- telling the running networkd ----------------------------------------------------


def test_networkd_is_told_of_drop_ins_that_came_and_that_went():
    conf = "/etc/systemd/network/10-x.network.d/50-source-routing.conf"
    assert networkd.after([conf, conf], []) == (networkd.RELOAD,)
    assert networkd.after([], [conf]) == (networkd.RELOAD,)
    assert networkd.after(["/etc/source-routing/stanza.json"], []) == ()
    assert networkd.after([], []) == ()


def test_once_nobody_follows_networkd_is_told_though_that_ends_leases():
    conf = "/etc/systemd/network/10-x.network.d/50-source-routing.conf"
    assert networkd.after([], [conf, FOLLOW_PATH]) == (networkd.RELOAD_ALL,)
    assert networkd.after([], [FOLLOW_PATH]) == (), "it has no file of ours"


def test_shellcheck_has_nothing_to_say_about_what_tells_it(tmp_path):
    assert shellcheck(Root(tmp_path).file("/script", networkd.RELOAD_SCRIPT).path / "script") == ""
