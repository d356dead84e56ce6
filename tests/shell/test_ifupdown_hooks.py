"""The hooks under several shells, with recorders for what they call: who is called, and when."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from cc_source_routing.host.leases.read import read_leases
from cc_source_routing.model import Link
from cc_source_routing.render import common, ifupdown

from ..unit.cases import plan_of
from .sandbox import DHCLIENT, DOWN, SHELLS, UP, Sandbox, logged

pytestmark = pytest.mark.kernel

PLAN = plan_of("ifupdown-dual-stack")
ENS3 = PLAN.nics[0]

ADDRESS4 = "2: ens3    inet 198.51.100.10/24 brd 198.51.100.255 scope global ens3\\       valid_lft"
ADDRESS6 = "2: ens3    inet6 2001:db8:1::10/64 scope global \\       valid_lft forever"
DEFAULT4 = "default via 198.51.100.1 "
DEFAULT6 = "default via fe80::1 proto ra metric 1024 expires 1700sec hoplimit 64 pref medium"
AS_PLANNED = {4: f"{ADDRESS4}\n{DEFAULT4}\n", 6: f"{ADDRESS6}\n{DEFAULT6}\n"}
EXISTS = "RTNETLINK answers: File exists\nCommand failed -:7\n"
GONE = "RTNETLINK answers: No such file or directory\nCommand failed -:1\n"
ASKED = {4: 2, 6: 3}  # lines before those that restore
REPLAY = ["-4 -o -force -batch -", "-6 -o -force -batch -"]
WITHDRAW = ["-4 -force -batch -", "-6 -force -batch -"]


@pytest.fixture()
def box(tmp_path):
    sandbox = Sandbox(tmp_path, (*common.common_files(PLAN), *ifupdown.render(PLAN, None)))
    for family, text in AS_PLANNED.items():
        sandbox.answer(family, text)
    # What the hooks wait for in the background is there or not from the beginning.
    sandbox.mock("sleep", "exec /bin/sleep 0.1")
    return sandbox


def up(box: Sandbox, shell: str = "dash", **env: str):
    environment = {"IFACE": "ens3", "ADDRFAM": "inet", "MODE": "start", "PHASE": "post-up", **env}
    return box.hook(UP, shell, **environment)


def down(box: Sandbox, shell: str = "dash", **env: str):
    environment = {"IFACE": "ens3", "ADDRFAM": "inet", "MODE": "stop", "PHASE": "post-down", **env}
    return box.hook(DOWN, shell, **environment)


# -- the fast path ---------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_a_known_nic_is_replayed_by_one_ip_a_family_and_nothing_else(box, shell):
    run = up(box, shell)
    assert (run.code, run.out, run.err) == (0, "", "")
    assert sorted(run.ip) == REPLAY
    assert run.applies == [] and run.log == []
    for family in (4, 6):
        assert box.batch(family)[ASKED[family] :] == list(common.batch_up(PLAN, ENS3, family))


@pytest.mark.parametrize("shell", SHELLS)
def test_rules_that_are_there_already_are_no_failure(box, shell):
    box.answer(4, AS_PLANNED[4], EXISTS)
    box.answer(6, AS_PLANNED[6], EXISTS + EXISTS)
    run = up(box, shell)
    assert (run.code, run.err, run.applies, run.log) == (0, "", [], [])


def test_a_nic_of_one_family_costs_one_ip(box):
    box.answer(4, "4: ens5    inet 192.0.2.10/24 scope global ens5\ndefault via 192.0.2.1\n")
    run = up(box, IFACE="ens5")
    assert run.ip == REPLAY[:1] and run.applies == []


@pytest.mark.parametrize("name", ["lo", "--all", ""])
def test_events_of_no_interface_are_passed_over(box, name):
    for hook in (up, down):
        run = hook(box, IFACE=name)
        assert (run.code, run.ip, run.applies, run.log) == (0, [], [], [])


@pytest.mark.parametrize(
    "name", ["ens4; reboot", "$(reboot)", "../nics/ens3", "-rf", "*", "a b", "..", "ens3\nens4"]
)
def test_a_hostile_interface_name_does_nothing(box, name):
    for hook in (up, down):
        run = hook(box, IFACE=name)
        assert (run.code, run.ip, run.applies, box.pending()) == (0, [], [], [])


def test_without_what_they_source_the_hooks_are_silent(box):
    (box.box / "root/etc/source-routing/hook.sh").unlink()
    for hook in (up, down):
        assert hook(box)[:3] == (0, "", "")


def test_rp_filter_is_set_where_the_stanza_asks_for_it(tmp_path):
    plan = replace(PLAN, rp_filter=2)
    box = Sandbox(tmp_path, ifupdown.render(plan, None))
    for family, text in AS_PLANNED.items():
        box.answer(family, text)
    box.mock("after", "cat /proc/sys/net/ipv4/conf/ens3/rp_filter")
    caller = box.box / "bin/caller"
    box._script(caller, f"#!/bin/sh\n{UP}\n/usr/local/bin/after\n")
    run = box.hook("/usr/local/bin/caller", "sh", IFACE="ens3", ADDRFAM="inet")
    assert run.out == "2\n" and run.applies == []


# -- what does not fit goes to the command -----------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_an_unknown_nic_with_an_address_is_planned_anew(box, shell):
    box.answer("", "9: ens9    inet 192.0.2.99/24 scope global ens9\n")
    run = up(box, shell, nics=("ens9",), IFACE="ens9")
    assert (run.code, run.applies) == (0, ["apply --interface ens9"])
    assert run.ip == ["-o address show dev ens9 scope global"]
    assert logged(run, shell, "ens9: is not known yet; planning anew")
    assert logged(run, shell, "applied 3 operations")


def test_an_unknown_nic_without_an_address_is_left_alone(box):
    run = up(box, IFACE="bond0")
    assert run.applies == [] and len(run.ip) == 1


@pytest.mark.parametrize("shell", SHELLS)
def test_an_address_that_the_plan_does_not_know_is_planned_anew(box, shell):
    box.answer(4, AS_PLANNED[4] + ADDRESS4.replace(".10/", ".11/") + "\n")
    run = up(box, shell)
    assert run.applies == ["apply --interface ens3"]
    assert logged(run, shell, "198.51.100.11/24 is new")


def test_another_prefix_length_is_another_address(box):
    box.answer(4, ADDRESS4.replace("/24", "/25") + "\n")
    assert up(box).applies == ["apply --interface ens3"]


def test_an_address_of_a_point_to_point_link_is_read_with_its_peers_length(box):
    line = "2: ens3    inet 198.51.100.10 peer 198.51.100.1/24 scope global ens3\n"
    box.answer(4, line + DEFAULT4 + "\n")
    assert up(box).applies == []


def test_a_new_static_address_is_not_replayed_over(box):
    """It is told in the environment, so the old lines need not run first."""
    run = up(box, IF_ADDRESS="198.51.100.77", IF_NETMASK="24")
    assert run.ip == [] and run.applies == ["apply --interface ens3"]


@pytest.mark.parametrize("address", ["198.51.100.10", "198.51.100.10/24"])
def test_a_static_address_that_is_known_is_replayed(box, address):
    assert up(box, IF_ADDRESS=address, IF_GATEWAY="198.51.100.1").applies == []


def test_a_changed_static_gateway_is_planned_anew(box):
    run = up(box, IF_ADDRESS="198.51.100.10/24", IF_GATEWAY="198.51.100.254")
    assert run.ip == [] and run.applies == ["apply --interface ens3"]
    assert logged(run, "dash", "198.51.100.254 instead of 198.51.100.1")


@pytest.mark.parametrize(
    ("family", "line"),
    [
        (4, "default via 198.51.100.254 proto dhcp src 198.51.100.10"),
        (6, "default via fe80::bad proto ra metric 1024"),
        (4, "default via inet6 fe80::1"),
    ],
)
def test_a_changed_default_in_main_is_planned_anew(box, family, line):
    address = {4: ADDRESS4, 6: ADDRESS6}[family]
    box.answer(family, f"{address}\n{line}\n")
    assert up(box).applies == ["apply --interface ens3"]


def test_the_planned_gateway_may_be_one_of_several(box):
    box.answer(6, f"{ADDRESS6}\n{other_router('metric 1024 pref medium')}\n{DEFAULT6}\n")
    assert up(box).applies == []


@pytest.mark.parametrize(
    ("words", "applies"),
    [
        ("metric 512 pref low", ["apply --interface ens3"]),
        ("metric 1024 pref high", ["apply --interface ens3"]),
        ("metric 1024 pref low", []),
        ("metric 2048 pref high", []),
    ],
)
def test_of_several_the_kernel_prefers_one_by_metric_and_then_by_its_own_word(box, words, applies):
    box.answer(6, f"{ADDRESS6}\n{other_router(words)}\n{DEFAULT6}\n")
    assert up(box).applies == applies


def test_of_two_routers_the_one_that_answers_is_preferred(box):
    failed = f"fe80::2 router FAILED\n{other_router('metric 1024 pref high')}"
    box.answer(6, f"{ADDRESS6}\n{failed}\n{DEFAULT6}\n")
    assert up(box).applies == []
    box.answer(6, f"{ADDRESS6}\n{failed}\n")
    assert up(box).applies == ["apply --interface ens3"]


def other_router(words: str) -> str:
    return f"default via fe80::2 proto ra expires 1700sec {words}"


def test_an_address_that_may_be_a_duplicate_is_left_until_that_is_known(box):
    trying = "2: ens3    inet6 2001:db8:1::99/64 scope global tentative dynamic"
    box.answer(6, f"{ADDRESS6}\n{trying}\n{trying.replace('tentative', 'dadfailed tentative')}\n")
    assert up(box).applies == []


def test_a_gateway_that_the_stanza_or_the_metadata_settled_is_not_compared(box):
    box.answer(4, "3: ens4    inet 203.0.113.10/24 scope global ens4\ndefault via 203.0.113.254\n")
    box.answer(6, "3: ens4    inet6 2001:db8:2::10/64 scope global\n")
    assert up(box, IFACE="ens4", IF_GATEWAY="203.0.113.254").applies == []


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "complaint",
    [
        'Cannot find device "ens3"\nCommand failed -:1\n',
        "RTNETLINK answers: Operation not permitted\nCommand failed -:3\n",
        "RTNETLINK answers: No such file or directory\nCommand failed -:3\n",
        "Error: Nexthop has invalid gateway.\nCommand failed -:5\n",
        "Segmentation fault\n",
        "*\n",
    ],
)
def test_any_other_message_of_ip_is_planned_anew(box, complaint, shell):
    box.answer(4, AS_PLANNED[4], complaint)
    run = up(box, shell)
    assert (run.code, run.applies) == (0, ["apply --interface ens3"])
    assert logged(run, shell, complaint.splitlines()[0].strip())


def test_an_apply_that_may_have_looked_too_early_is_followed_by_another(box):
    (box.box / "state/lock").write_text("1234 source-routing\n")
    for hook in (up, down):
        run = hook(box)
        assert len(run.ip) == 2 and run.applies == ["apply --interface ens3"]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "meanwhile",
    [
        "echo 1234 >/run/source-routing/lock",
        "echo up4= >>/etc/source-routing/nics/ens3",
        "rm -f /etc/source-routing/nics/ens3",
    ],
    ids=["is under way", "has planned other rules", "has given the NIC up"],
)
def test_nor_may_a_replay_outlast_an_apply_that_has_begun_meanwhile(box, shell, meanwhile):
    """It may have brought back what the apply has just taken away, and nobody would look again."""
    (box.box / "meanwhile").write_text(meanwhile)
    for hook in (up, down):
        assert hook(box, shell).applies == ["apply --interface ens3"]


# -- addresses that are absent -------------------------------------------------------


def test_addresses_of_the_other_family_may_come_later_without_an_event(box):
    box.answer(6, "")
    assert up(box, ADDRFAM="inet").applies == []


@pytest.mark.parametrize("shell", SHELLS)
def test_an_address_that_stays_away_is_planned_anew_after_a_while(box, shell):
    box.answer(6, "")
    # That it is no call of the command's would be noticed, too.
    early = f"echo source-routing before the hook has returned >>{box.box}/calls"
    box.mock("source-routing", f"[ -e {box.box}/ended ] || {early}")
    run = up(box, shell, ADDRFAM="inet6")
    assert run.applies == ["apply --interface ens3"]
    assert logged(run, shell, "absent: 2001:db8:1::10/64")


def test_an_address_that_comes_a_moment_later_costs_no_apply(box):
    """The second address of an alias stanza: ifup sets it after this hook."""
    box.answer(4, "")
    late = f"printf '%s' '{AS_PLANNED[4]}' >{box.box}/answer4"
    box._script(box.box / "bin/caller", f"#!/bin/sh\n{UP}\n{late}\n")
    run = box.hook("/usr/local/bin/caller", "sh", IFACE="ens3", ADDRFAM="inet")
    assert run.applies == [] and len(run.ip) == 4 and box.pending() == []


def test_without_a_family_both_have_to_be_there(box):
    """ifupdown-ng runs the hooks once for an interface and tells no ADDRFAM."""
    box.answer(6, "")
    assert up(box, ADDRFAM="").applies == ["apply --interface ens3"]


def test_a_family_that_the_plan_does_not_have_is_planned_anew(box):
    run = up(box, IFACE="ens5", ADDRFAM="inet6", nics=("ens5",))
    assert run.applies == ["apply --interface ens5"]


# -- going down ------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_a_nic_that_goes_down_takes_its_own_rules_along(box, shell):
    box.answer(4, "", GONE)
    box.answer(6, "")
    run = down(box, shell)
    assert (run.code, run.out, run.err) == (0, "", "")
    assert sorted(run.ip) == WITHDRAW and run.applies == [] and run.log == []
    for family in (4, 6):
        assert box.batch(family) == list(common.batch_down(PLAN, ENS3, family))


def test_an_unknown_nic_that_goes_down_is_nobodys_business(box):
    run = down(box, IFACE="ens9")
    assert (run.ip, run.applies) == ([], [])


def test_rules_that_cannot_be_taken_away_are_left_to_the_command(box):
    box.answer(4, "", "RTNETLINK answers: Operation not permitted\nCommand failed -:1\n")
    box.answer(6, "")
    assert down(box).applies == ["apply --interface ens3"]


def test_a_nic_that_has_vanished_is_not_named_to_the_command(box):
    box.answer(4, "", "what?\n")
    box.answer(6, "")
    assert down(box, nics=()).applies == ["apply"]


def test_an_alias_that_comes_is_its_interface_and_one_that_goes_takes_nothing_along(box):
    assert len(up(box, IFACE="ens3:1").ip) == 2
    run = down(box, IFACE="ens3:1")
    assert run.ip == [] and run.applies == ["apply --interface ens3"]


# -- in the background --------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_ifup_never_waits_for_the_command_nor_fails_with_it(box, shell):
    # It ends only when the hook has: one that waited for it would wait for ever.
    ended = f"while [ ! -e {box.box}/ended ]; do sleep 0.05; done"
    box.mock("source-routing", f"{ended}; echo 'source-routing: no such luck' >&2; exit 1")
    # Nor does one that reads what the hook prints until the end, as ifupdown2 does.
    box._script(box.box / "bin/caller", f"#!/bin/sh\necho $({shell} {UP} 2>&1)\n")
    run = box.hook(
        "/usr/local/bin/caller", "sh", IFACE="ens3", ADDRFAM="inet", IF_ADDRESS="192.0.2.1"
    )
    assert run.code == 0
    assert logged(run, shell, "apply failed (exit 1): source-routing: no such luck")


def test_many_nics_at_once_share_few_runs(box):
    names = [f"ens{number}" for number in range(10, 30)]
    box.answer("", "9: ensX    inet 192.0.2.99/24 scope global ensX\n")
    # The first run is under way until all have come.
    box.mock("source-routing", f"while [ ! -e {box.box}/ended ]; do sleep 0.05; done")
    start = "\n".join(f"IFACE={name} ADDRFAM=inet {UP}" for name in names)
    box._script(box.box / "bin/caller", f"#!/bin/sh\n{start}\n")
    run = box.hook("/usr/local/bin/caller", "sh", nics=names)
    # Which of them share one, and whether the first or the last one is alone, is the scheduler's.
    assert "apply" in run.applies and len(run.applies) <= 3
    assert box.pending() == []


def test_without_timeout_and_flock_it_works_too(box):
    """busybox systems may lack both."""
    hide = "mount --bind /dev/null /usr/bin/flock; mount --bind /dev/null /usr/bin/timeout; "
    called = f"until grep -q '^source-routing' {box.box}/calls; do sleep 1; done"
    box._script(box.box / "bin/caller", f"#!/bin/sh\n{hide}\n{UP}\n{called}\n")
    run = box.hook(
        "/usr/local/bin/caller", "sh", IFACE="ens3", ADDRFAM="inet", IF_ADDRESS="192.0.2.1"
    )
    assert run.applies == ["apply --interface ens3"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_broken_file_of_ours_fails_nothing_but_is_told(box, shell):
    nic = box.box / "root/etc/source-routing/nics/ens3"
    nic.write_text("addresses='unfinished\n")
    box.answer("", ADDRESS4)
    run = up(box, shell)
    assert run.code == 0 and sorted(run.ip) != REPLAY
    # bash goes on, as with a NIC that it does not know; the others stop.
    assert run.applies or logged(run, shell, "the hook failed")


# -- dhclient -----------------------------------------------------------------------------

OPTION121 = "new_rfc3442_classless_static_routes"
LEASE = {
    "interface": "ens3",
    "new_ip_address": "198.51.100.10",
    "new_subnet_mask": "255.255.255.0",
    "new_routers": "198.51.100.1",
}


def dhclient(box: Sandbox, reason: str, shell: str = "bash", old: dict | None = None, **new: str):
    before = {f"old_{key[4:]}": value for key, value in (old or {}).items() if key != "interface"}
    return box.source(DHCLIENT, shell, **{**LEASE, **before, **new, "reason": reason})


@pytest.mark.parametrize("shell", (*SHELLS, "bash"))
def test_a_lease_as_planned_is_replayed(box, shell):
    for reason in ("BOUND", "REBOOT", "TIMEOUT"):
        run = dhclient(box, reason, shell)
        assert (run.code, run.out, run.err) == (0, "status 0 \n", "")
        assert sorted(run.ip) == REPLAY and run.applies == []


@pytest.mark.parametrize("shell", (*SHELLS, "bash"))
def test_a_renewal_of_the_same_lease_does_nothing_at_all(box, shell):
    for reason in ("RENEW", "REBIND"):
        run = dhclient(box, reason, shell, old=LEASE)
        assert (run.out, run.ip, run.applies, run.log) == ("status 0 \n", [], [], [])


@pytest.mark.parametrize(
    "new",
    [
        {"new_ip_address": "198.51.100.11"},
        {"new_subnet_mask": "255.255.255.128"},
        {"new_routers": "198.51.100.254"},
        {OPTION121: "16 10 9 198 51 100 1 0 198 51 100 1"},
        {"new_static_routes": "10.9.0.0 198.51.100.1"},
    ],
)
def test_a_renewal_with_other_terms_is_planned_anew(box, new):
    assert dhclient(box, "RENEW", old=LEASE, **new).applies == ["apply --interface ens3"]


@pytest.mark.parametrize("shell", (*SHELLS, "bash"))
@pytest.mark.parametrize(
    ("new", "fits"),
    [
        ({"new_routers": "198.51.100.1 198.51.100.2"}, True),
        ({"new_routers": ""}, True),
        ({"new_routers": "198.51.100.2 198.51.100.1"}, False),
        # Neutron's: the metadata route and the default.
        (
            {OPTION121: "32 169 254 169 254 198 51 100 1 0 198 51 100 1"},
            True,
        ),
        ({OPTION121: "0 198 51 100 9 16 10 9 198 51 100 1"}, False),
        (
            {
                OPTION121: "16 10 9 198 51 100 1",
                "new_routers": "9.9.9.9",
            },
            True,
        ),
        ({OPTION121: "a[$(reboot)] 1 2 3 4 5"}, True),
        ({OPTION121: "33 1 2 3 4 5 6"}, True),
        ({OPTION121: "24 10 0"}, True),
        ({OPTION121: "* * * * * *"}, True),
        ({"new_ip_address": "198.51.100.99"}, False),
        ({"new_ip_address": "*"}, False),
    ],
)
def test_a_new_lease_is_measured_by_its_address_and_gateway(box, new, fits, shell):
    run = dhclient(box, "BOUND", shell, **new)
    assert run.out == "status 0 \n" and run.err == ""
    assert run.applies == ([] if fits else ["apply --interface ens3"])


def test_routes_of_the_lease_that_changed_since_the_last_one_are_planned_anew(box):
    """Same address and gateway, other option 121: only a note of the last lease tells."""
    routes = "16 10 9 198 51 100 1 0 198 51 100 1"
    assert dhclient(box, "BOUND", new_rfc3442_classless_static_routes=routes).applies == []
    assert dhclient(box, "BOUND", new_rfc3442_classless_static_routes=routes).applies == []
    more = f"24 10 8 7 198 51 100 1 {routes}"
    run = dhclient(box, "BOUND", new_rfc3442_classless_static_routes=more)
    assert run.applies == ["apply --interface ens3"]


@pytest.mark.parametrize("reason", ["EXPIRE", "FAIL", "RELEASE", "STOP"])
def test_a_lease_that_is_over_takes_its_rules_along_and_leaves_the_other_family(box, reason):
    """Who releases it is about to set the link down, and that has hooks of its own."""
    box.mock("sleep")
    box.answer(4, "", GONE)
    run = dhclient(box, reason, old=LEASE, new_ip_address="", new_routers="")
    assert run.ip == WITHDRAW[:1]
    assert run.applies == (["apply --interface ens3"] if reason in ("EXPIRE", "FAIL") else [])
    assert box.batch(4) == list(common.batch_down(PLAN, ENS3, 4))


def test_a_lease_that_never_was_takes_nothing_along(box):
    run = dhclient(box, "FAIL", new_ip_address="", new_routers="")
    assert run.ip == [] and run.applies == []


def test_when_other_addresses_remain_the_command_decides(box):
    run = dhclient(box, "EXPIRE", old={**LEASE, "new_ip_address": "198.51.100.50"})
    assert run.ip == [] and run.applies == ["apply --interface ens3"]


def test_leases_for_ipv6_are_told_by_their_own_reasons(box):
    lease = {"new_ip6_address": "2001:db8:1::10", "new_ip6_prefixlen": "64"}
    none = dict.fromkeys(("new_ip_address", "new_subnet_mask", "new_routers"), "")
    assert sorted(dhclient(box, "BOUND6", **lease, **none).ip) == REPLAY
    assert dhclient(box, "RENEW6", old=lease, **lease, **none).ip == []
    other = {**lease, "new_ip6_address": "2001:db8:1::11"}
    run = dhclient(box, "REBIND6", old=lease, **other, **none)
    assert run.applies == ["apply --interface ens3"]
    box.answer(6, "")
    box.mock("sleep")
    assert dhclient(box, "EXPIRE6", old=lease, **none).ip == WITHDRAW[1:]


@pytest.mark.parametrize("reason", ["PREINIT", "ARPSEND", "MEDIUM", "NBI", "DEPREF6", "$(reboot)"])
def test_other_reasons_are_none_of_ours(box, reason):
    run = dhclient(box, reason)
    assert (run.ip, run.applies) == ([], [])


@pytest.mark.parametrize("shell", ("dash", "bash"))
def test_dhclient_script_is_left_as_it_was(box, shell):
    """Variables, options, traps and its exit status; even when the hook fails inside."""
    before = "exit_status=7 nic=mine gateway=mine PATH=$PATH:/mine; set -f; trap 'echo bye' EXIT"
    tell = 'echo "$exit_status $nic $gateway ${PATH##*:} $-"'
    for spoil in (False, True):
        if spoil:
            (box.box / "root/etc/source-routing/hook.sh").write_text("exit 3\n")
        caller = box.box / "bin/caller"
        box._script(caller, f"{before}\n. {DHCLIENT}\n{tell}\n")
        run = box.hook("/usr/local/bin/caller", shell, **LEASE, reason="BOUND")
        assert run.code == 0
        first, second = run.out.splitlines()
        assert first.startswith("7 mine mine /mine ") and "f" in first.split()[-1]
        assert second == "bye"


NEUTRON = "32 169 254 169 254 198 51 100 1 0 198 51 100 1"


@pytest.mark.parametrize(
    ("more", "routers", "routes"),
    [
        ({"new_routers": "198.51.100.1 198.51.100.2"}, ("198.51.100.1", "198.51.100.2"), ()),
        ({OPTION121: NEUTRON}, (), ("198.51.100.1", "198.51.100.1")),
    ],
)
def test_a_lease_is_noted_for_the_command_before_dhclient_writes_it(box, more, routers, routes):
    dhclient(box, "BOUND", "dash", **more, new_expiry="4102444800")
    root = box.box / "host"
    shutil.copytree(box.box / "state", root / "run/source-routing")
    (lease,) = read_leases(root, [Link(2, "ens3")], 1.0).leases
    assert str(lease.address) == "198.51.100.10/24"
    assert tuple(str(route.via) for route in lease.classless_routes) == routes
    assert not routers or tuple(map(str, lease.routers)) == routers
    assert read_leases(root, [Link(2, "ens3")], 5e9).leases == ()


def test_a_lease_that_is_over_is_noted_no_longer(box):
    dhclient(box, "BOUND")
    noted = box.box / "state/dhclient.ens3.leases"
    assert noted.read_text()
    dhclient(box, "RELEASE", old=LEASE)
    assert noted.read_text() == ""


@pytest.mark.parametrize("text", ['1.2.3.4";}', "$(reboot)", "a b", "1.2.3.4\n# x"])
def test_a_lease_with_odd_texts_is_not_noted(box, text):
    dhclient(box, "BOUND", new_routers=text)
    assert not (box.box / "state/dhclient.ens3.leases").exists()


def test_gateways_of_leases_before_are_noted_as_long_as_the_address_is_there(box):
    """dhclient-script leaves their default in main when a renewal tells another."""
    dhclient(box, "BOUND")
    dhclient(box, "RENEW", old=LEASE, new_routers="198.51.100.2")
    third = {**LEASE, "new_routers": "198.51.100.2"}
    dhclient(box, "RENEW", old=third, new_routers="198.51.100.3")
    assert [str(ip) for ip in _noted(box).former] == ["198.51.100.1", "198.51.100.2"]
    dhclient(box, "EXPIRE", old={**LEASE, "new_routers": "198.51.100.3"})
    dhclient(box, "BOUND", new_routers="198.51.100.3")
    assert _noted(box).former == ()


def test_the_gateway_before_is_known_also_to_a_hook_that_came_later(box):
    dhclient(box, "RENEW", old=LEASE, new_routers="198.51.100.2")
    assert [str(ip) for ip in _noted(box).former] == ["198.51.100.1"]


def _noted(box):
    root = box.box / "host"
    shutil.copytree(box.box / "state", root / "run/source-routing", dirs_exist_ok=True)
    (lease,) = read_leases(root, [Link(2, "ens3")], 1.0).leases
    return lease
