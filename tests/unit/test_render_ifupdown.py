"""The ifupdown renderer: whole trees, what it refuses, when it is the one to use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jinja2
import pytest

from cc_source_routing.errors import FileError
from cc_source_routing.files.write import saved_tables, table_names, write_files
from cc_source_routing.model import ConfigFile, RoutingPlan, Rule
from cc_source_routing.render import common, hooks, ifupdown

from .cases import assert_tree, case_names, plan_of
from .roots import shellcheck

HOSTILE = [
    "ens4; reboot",
    "$(reboot)",
    "`reboot`",
    "a'b",
    'a"b',
    "a\nb",
    "a b",
    "../../etc/passwd",
    "-rf",
    "",
    ".",
    "a#b",
    "a\\b",
    "ens4\0",
    "é",
]


def rendered(plan: RoutingPlan) -> tuple[ConfigFile, ...]:
    return (*common.common_files(plan), *ifupdown.render(plan, None))


@pytest.mark.parametrize("case", case_names("ifupdown-"))
def test_the_whole_tree_is_as_expected(case):
    assert_tree(case, rendered(plan_of(case)))


def test_an_empty_plan_has_hooks_that_wait_for_the_first_event_and_no_nic():
    files = ifupdown.render(RoutingPlan(reason="no address yet"), None)
    assert [file.path for file in files] == [
        hooks.HOOK_PATH,
        ifupdown.UP_PATH,
        ifupdown.DOWN_PATH,
        ifupdown.DHCLIENT_PATH,
    ]


def test_what_was_rendered_is_owned_and_goes_when_it_is_not_wanted_any_more(tmp_path):
    plan = plan_of("ifupdown-dual-stack")
    files = ifupdown.render(plan, ifupdown.inspect(tmp_path, plan))
    assert ifupdown.owned(tmp_path) == ()
    write_files(tmp_path, files, ifupdown.owned(tmp_path))
    assert sorted(ifupdown.owned(tmp_path)) == sorted(file.path for file in files)
    write_files(tmp_path, (), ifupdown.owned(tmp_path))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert not (tmp_path / "etc/source-routing").exists()


def test_the_file_of_a_nic_that_is_gone_goes_too(tmp_path):
    plan = plan_of("ifupdown-dual-stack")
    write_files(tmp_path, rendered(plan), ())
    less = replace(plan, nics=plan.nics[:2])
    changes = write_files(tmp_path, rendered(less), ifupdown.owned(tmp_path))
    assert changes.removed == ("/etc/source-routing/nics/ens5",)


def test_somebody_elses_files_in_our_directories_are_not_ours(tmp_path):
    other = tmp_path / "etc/source-routing/nics/-odd name"
    other.parent.mkdir(parents=True)
    other.write_text("")
    assert ifupdown.owned(tmp_path) == ()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_interface_name_reaches_no_file(name):
    plan = plan_of("ifupdown-1-the-seed")
    nic = plan.nics[0]
    for rules in (nic.rules, tuple(rule._replace(oif=name) for rule in nic.rules)):
        hostile = replace(plan, nics=(replace(nic, name=name, rules=rules), *plan.nics[1:]))
        with pytest.raises(FileError):
            ifupdown.render(hostile, None)
    with pytest.raises(FileError):
        common.common_files(hostile)


# These mean nothing but themselves between quotes, so a template may print them.
HARMLESS_IN_QUOTES = ("-rf", "", ".", "a b", "../../etc/passwd")


@pytest.mark.parametrize("value", [*(n for n in HOSTILE if n not in HARMLESS_IN_QUOTES), 1.5, None])
def test_every_value_of_a_template_is_checked_as_it_is_printed(value):
    with pytest.raises(FileError, match="not fit for a shell script"):
        common.render_template("hook.sh.j2", nics=value)


def test_a_value_that_a_template_lacks_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="nics"):
        common.render_template("hook.sh.j2")


def test_a_rule_that_says_more_than_ours_do_is_refused():
    plan = plan_of("ifupdown-1-the-seed")
    odd = Rule(4, 1, 500, other=(("FRA_IIFNAME", "eth0"),))
    nic = replace(plan.nics[0], rules=(odd,))
    with pytest.raises(FileError):
        common.batch_up(plan, nic, 4)


def test_the_table_is_filled_before_any_rule_points_to_it():
    plan = plan_of("ifupdown-dual-stack")
    for nic in plan.nics:
        for family in nic.gateways:
            verbs = [line.split()[0] for line in common.batch_up(plan, nic, family)]
            assert verbs == sorted(verbs), "link, then routes, then rules"
            assert verbs[0] == "link" and verbs[-1] == "rule"


def test_going_down_takes_every_rule_that_coming_up_brings():
    plan = plan_of("ifupdown-dual-stack")
    up, down = (
        {
            line
            for nic in plan.nics
            for f in (4, 6)
            for line in batch(plan, nic, f)
            if line.startswith("rule")
        }
        for batch in (common.batch_up, common.batch_down)
    )
    assert {line.replace("rule add", "rule del") for line in up} == down


def test_our_table_names_can_be_read_back_also_where_another_table_has_the_nics(tmp_path):
    plan = plan_of("ifupdown-1-the-seed")
    main = replace(plan.nics[1], name="main")
    plan = replace(plan, nics=(plan.nics[0], main), taken_names=frozenset({"ens3"}))
    write_files(tmp_path, common.common_files(plan), ())
    names = tuple(table_names(tmp_path))
    assert [line.name for line in names] == ["source-routing-ens3", "source-routing-main"]
    assert saved_tables(names) == {"ens3": 500, "main": main.table}
    names = (tmp_path / "etc/iproute2/rt_protos.d/source-routing.conf").read_text()
    assert "83\tsource-routing\n" in names


def test_a_mark_of_published_ports_is_told_with_its_mask():
    plan = plan_of("ifupdown-1-the-seed")
    marked = Rule(4, 5010, 500, fwmark=0x100, fwmask=0xFF00, protocol=83)
    (line,) = common.batch_down(plan, replace(plan.nics[0], rules=(marked,)), 4)
    assert line == "rule del from all fwmark 0x100/0xff00 priority 5010 lookup 500 protocol 83"


@pytest.mark.parametrize("case", case_names("ifupdown-"))
def test_shellcheck_has_nothing_to_say(case, tmp_path):
    files = ifupdown.render(plan_of(case), None)
    write_files(tmp_path, files, ())
    assert shellcheck(*(tmp_path / file.path.lstrip("/") for file in files)) == ""


# -- available -------------------------------------------------------------------


def put(root: Path, path: str, text: str = "") -> None:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


INTERFACES = "auto lo\niface lo inet loopback\nsource /etc/network/interfaces.d/*\n"


def test_ifup_and_an_interface_in_its_configuration_make_it_available(tmp_path):
    assert ifupdown.available(tmp_path) == (False, "no ifup in usr/sbin or sbin")
    put(tmp_path, "sbin/ifup")
    assert not ifupdown.available(tmp_path).available
    put(tmp_path, "etc/network/interfaces", INTERFACES)
    evidence = ifupdown.available(tmp_path)
    assert not evidence.available and "names lo at most" in evidence.reason
    put(tmp_path, "etc/network/interfaces.d/50-cloud-init", "auto ens3\niface ens3 inet dhcp\n")
    evidence = ifupdown.available(tmp_path)
    assert evidence.available
    assert (
        evidence.reason
        == "sbin/ifup is there and etc/network/interfaces.d/50-cloud-init names ens3"
    )


def test_the_ifup_of_its_kin_may_be_a_link_within_the_image(tmp_path):
    put(tmp_path, "usr/share/ifupdown2/sbin/ifupdown2")
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin/ifup").symlink_to("/usr/share/ifupdown2/sbin/ifupdown2")
    put(tmp_path, "etc/network/interfaces", "iface ens3\n\taddress 192.0.2.1/24\n")
    assert ifupdown.available(tmp_path).available


def test_an_unreadable_configuration_is_no_evidence(tmp_path):
    put(tmp_path, "usr/sbin/ifup")
    (tmp_path / "etc/network/interfaces").mkdir(parents=True)
    assert not ifupdown.available(tmp_path).available
