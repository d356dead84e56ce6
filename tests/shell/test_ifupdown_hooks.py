"""The hooks under several shells, with recorders for what they call: who is called, and when."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from cc_source_routing.host.leases.read import read_leases
from cc_source_routing.model import Lease, Link
from cc_source_routing.render import common, ifupdown

from ..unit.cases import plan_of
from .sandbox import DHCLIENT, DOWN, SHELLS, UP, WITH_SYSTEMD, Run, Sandbox, logged

pytestmark = pytest.mark.kernel

PLAN = plan_of("ifupdown-dual-stack")
ENS3 = PLAN.nics[0]
REPLAY = ["-4 -force -batch -", "-6 -force -batch -"]
HOSTILE = ["ens4; reboot", "$(reboot)", "../nics/ens3", "-rf", "*", "a b", "..", "ens3\nens4"]
APPLY = ["source-routing apply --again"]
START = ["systemctl --no-block start source-routing.service"]


@pytest.fixture()
def bare(tmp_path: Path) -> Sandbox:
    """The hooks where no systemd runs."""
    return Sandbox(tmp_path, (*common.common_files(PLAN), *ifupdown.render(PLAN, None)))


@pytest.fixture()
def held(bare: Sandbox) -> int:
    """The pipe by which `source-routing follow` is told to look."""
    return bare.listen()


@pytest.fixture()
def box(bare: Sandbox, held: int) -> Sandbox:
    """The hooks where systemd listens."""
    return bare


def up(box: Sandbox, shell: str = "dash", iface: str = "ens3", prepare: str = "") -> Run:
    return box.hook(UP, shell, prepare, IFACE=iface, ADDRFAM="inet", PHASE="post-up")


def down(box: Sandbox, shell: str = "dash", iface: str = "ens3") -> Run:
    return box.hook(DOWN, shell, IFACE=iface, ADDRFAM="inet", PHASE="post-down")


# -- what is replayed --------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_a_nic_that_comes_up_is_replayed_by_one_ip_a_family_and_looked_at(box, shell):
    run = up(box, shell)
    assert run.is_silent, "what is there already is no failure"
    assert (run.ip, run.calls, run.looks) == (REPLAY, [], 1)
    for family in (4, 6):
        assert box.batch(family) == list(common.batch_up(PLAN, ENS3, family))


@pytest.mark.parametrize("shell", SHELLS)
def test_a_nic_that_goes_down_takes_its_own_rules_along_and_is_looked_at(box, shell):
    run = down(box, shell)
    assert run.is_silent, "what is gone already is no failure"
    assert (run.ip, run.calls, run.looks) == (REPLAY, [], 1)
    for family in (4, 6):
        assert box.batch(family) == list(common.batch_down(PLAN, ENS3, family))


def test_a_nic_of_one_family_costs_one_ip(box):
    assert up(box, iface="ens5").ip == REPLAY[:1]


@pytest.mark.parametrize("hook", [up, down])
def test_a_nic_that_is_not_known_is_looked_at(box, hook):
    run = hook(box, iface="ens9")
    assert (run.ip, run.looks) == ([], 1)


def test_an_alias_that_comes_is_its_interface_and_one_that_goes_takes_nothing_along(box):
    assert up(box, iface="ens3:1").ip == REPLAY
    run = down(box, iface="ens3:1")
    assert (run.ip, run.looks) == ([], 1)


@pytest.mark.parametrize("hook", [up, down])
@pytest.mark.parametrize("name", ["lo", "--all", "", *HOSTILE])
def test_a_name_of_no_interface_does_nothing(box, hook, name):
    run = hook(box, iface=name)
    assert run.is_silent
    assert (run.ip, run.calls, run.looks) == ([], [], 0)


@pytest.mark.parametrize("hook", [up, down])
def test_without_what_they_source_the_hooks_are_silent(box, hook):
    (box.root / "etc/source-routing/hook.sh").unlink()
    run = hook(box)
    assert run.is_silent
    assert (run.ip, run.looks) == ([], 0)


def test_rp_filter_is_set_where_the_stanza_asks_for_it(tmp_path):
    box = Sandbox(tmp_path, ifupdown.render(replace(PLAN, rp_filter=2), None))
    caller = box.caller(UP, "cat /proc/sys/net/ipv4/conf/ens3/rp_filter")
    run = box.hook(caller, IFACE="ens3", prepare="sysctl -q net.ipv4.conf.ens3.rp_filter=0\n")
    assert run.out == "2\n"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("path", ["nics/ens3", "hook.sh"])
def test_a_broken_file_of_ours_fails_nothing_but_is_told(box, shell, path):
    (box.root / "etc/source-routing" / path).write_text("up4='unfinished\n")
    run = up(box, shell)
    assert (run.code, run.out, run.ip) == (0, "", [])
    assert logged(run, shell, "the hook failed")


# -- who looks, and that nobody waits for it -----------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_where_nobody_listens_yet_systemd_is_to_start_the_follower(bare, shell):
    run = up(bare, shell, prepare=WITH_SYSTEMD)
    assert run.is_silent
    assert run.calls == START


@pytest.mark.parametrize("shell", SHELLS)
def test_without_systemd_the_command_looks(bare, shell):
    run = up(bare, shell)
    assert run.is_silent
    assert run.calls == APPLY


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("systemd", [True, False], ids=["systemd", "no systemd"])
def test_who_reads_what_the_hook_prints_waits_for_no_look_and_a_failure_is_told(
    bare, shell, systemd
):
    """As ifupdown2 reads it, until nobody can write any more."""
    ended = bare.box / "ended"
    # It ends only when the hook has: one that waited for it would wait for ever.
    script = f"while [ ! -e {ended} ]; do sleep 0.05; done; echo oh; echo 'no luck' >&2; exit 1"
    bare.mock("systemctl" if systemd else "source-routing", script)
    caller = bare.caller(f"said=$({shell} {UP} 2>&1)", f': >{ended}; echo "$? <$said>"')
    run = bare.hook(caller, prepare=WITH_SYSTEMD if systemd else "", IFACE="ens3")
    assert (run.out, run.err) == ("0 <>\n", "")
    assert run.calls == (START if systemd else APPLY)
    assert systemd or logged(run, shell, "source-routing apply failed (exit 1): no luck")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_pipe_that_nobody_reads_is_not_waited_for(bare, shell):
    os.mkfifo(bare.look)
    assert up(bare, shell).is_silent


@pytest.mark.parametrize("shell", SHELLS)
def test_a_pipe_that_is_full_is_not_waited_for_and_one_for_all_waits_for_room(box, held, shell):
    for piece in (b"\n" * 65536, b"\n"):
        with suppress(BlockingIOError):
            while True:
                os.write(held, piece)
    inode = "$(stat -c %i /run/source-routing/look.lock 2>/dev/null || echo none)"
    caller = box.caller(
        f"said=$({shell} {UP} 2>&1)",
        f'until grep -q ":{inode} 0 EOF" /proc/locks; do sleep 0.05; done',
        # Whatever those leave behind has ended, too.
        f": $({{ {shell} {UP}; {shell} {UP}; }} 7>&1 >/dev/null)",
        "dd if=/run/source-routing/look bs=65536 count=1 iflag=nonblock >/dev/null 2>&1",
    )
    run = box.hook(caller, IFACE="ens3")
    assert run.is_silent
    assert run.looks == 1


def test_many_nics_at_once_share_few_looks(bare):
    # The first one is at work until all have come.
    bare.mock("source-routing", f"while [ ! -e {bare.box}/ended ]; do sleep 0.05; done")
    names = " ".join(f"ens{number}" for number in range(10, 30))
    each = f"for name in {names}; do IFACE=$name {UP}; done"
    begun = f"until grep -q apply {bare.box}/calls; do sleep 0.05; done"
    run = bare.hook(bare.caller(each, begun, each, f": >{bare.box}/ended"))
    assert run.is_silent
    assert run.calls == APPLY * 2, "what came after the first had begun is one more"


def test_without_flock_it_looks_too(bare):
    """busybox systems may lack it."""
    hide = 'mount --bind /dev/null "$(command -v flock)"\n'
    assert up(bare, prepare=hide).calls == APPLY


def test_nobody_but_root_can_hold_the_lock(bare):
    up(bare)
    assert stat.S_IMODE((bare.box / "state/look.lock").stat().st_mode) == 0o600


# -- dhclient -----------------------------------------------------------------------

OPTION121 = "new_rfc3442_classless_static_routes"
NEUTRON = "32 169 254 169 254 198 51 100 1 0 198 51 100 1"
LEASE = {
    "interface": "ens3",
    "new_ip_address": "198.51.100.10",
    "new_subnet_mask": "255.255.255.0",
    "new_routers": "198.51.100.1",
}


def dhclient(
    box: Sandbox, reason: str, shell: str = "bash", old: "dict[str, str] | None" = None, **new: str
) -> Run:
    before = {f"old_{key[4:]}": value for key, value in (old or {}).items() if key != "interface"}
    run = box.source(DHCLIENT, shell, **{**LEASE, **before, **new, "reason": reason})
    assert (run.code, run.out, run.err, run.ip) == (0, "status 0\n", "", [])
    return run


def note(box: Sandbox) -> Path:
    return box.box / "state/dhclient.ens3.leases"


def noted(box: Sandbox, now: float = 1.0) -> "tuple[Lease, ...]":
    """What the command reads of leases."""
    root = box.box / "host"
    place = root / "run/source-routing"
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(note(box), place)
    return read_leases(root, [Link(2, "ens3")], now).leases


@pytest.mark.parametrize("shell", (*SHELLS, "bash"))
@pytest.mark.parametrize("reason", ["BOUND", "REBOOT", "TIMEOUT"])
def test_a_lease_is_noted_and_looked_at(box, shell, reason):
    assert dhclient(box, reason, shell).looks == 1
    (lease,) = noted(box)
    assert (str(lease.address), str(lease.routers[0])) == ("198.51.100.10/24", "198.51.100.1")


@pytest.mark.parametrize("shell", (*SHELLS, "bash"))
def test_a_renewal_of_the_same_lease_does_nothing_at_all(box, shell):
    for reason in ("RENEW", "REBIND"):
        run = dhclient(box, reason, shell, old=LEASE)
        assert (run.looks, run.calls, run.log) == (0, [], [])
    assert not note(box).exists()


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
def test_a_renewal_with_other_terms_is_looked_at(box, new):
    assert dhclient(box, "RENEW", old=LEASE, **new).looks == 1
    assert note(box).exists()


@pytest.mark.parametrize("reason", ["EXPIRE", "FAIL", "RELEASE", "STOP"])
def test_a_lease_that_is_over_is_noted_no_longer_and_looked_at(box, reason):
    assert dhclient(box, reason, new_ip_address="", new_routers="").looks == 1
    assert not note(box).exists(), "there was none"
    dhclient(box, "BOUND")
    assert dhclient(box, reason, old=LEASE, new_ip_address="", new_routers="").looks == 1
    assert note(box).read_text() == ""


@pytest.mark.parametrize("reason", ["BOUND6", "RENEW6", "REBIND6", "EXPIRE6", "RELEASE6", "STOP6"])
def test_leases_for_ipv6_are_looked_at(box, reason):
    assert dhclient(box, reason).looks == 1


@pytest.mark.parametrize("reason", ["PREINIT", "ARPSEND", "MEDIUM", "NBI", "DEPREF6", "$(reboot)"])
def test_other_reasons_are_none_of_ours(box, reason):
    assert dhclient(box, reason).looks == 0


@pytest.mark.parametrize("name", ["lo", "", *HOSTILE])
def test_a_lease_of_no_interface_is_passed_over(box, name):
    assert dhclient(box, "BOUND", interface=name).looks == 0
    assert not list((box.box / "state").glob("dhclient*"))


@pytest.mark.parametrize("shell", ("dash", "bash"))
@pytest.mark.parametrize("hook", ["as it is", "missing", "broken"])
def test_dhclient_script_is_left_as_it_was(box, shell, hook):
    """Variables, options, traps and its exit status; even when the hook fails inside."""
    path = box.root / "etc/source-routing/hook.sh"
    if hook == "missing":
        path.unlink()
    elif hook == "broken":
        path.write_text("exit 3\n")
    caller = box.caller(
        "exit_status=7 nic=mine note=mine PATH=$PATH:/mine; set -f; trap 'echo bye' EXIT",
        f". {DHCLIENT}",
        'echo "$exit_status $nic $note ${PATH##*:} $(umask) $-"',
    )
    run = box.hook(caller, shell, **LEASE, reason="BOUND")
    assert run.code == 0
    first, second = run.out.splitlines()
    assert first.startswith("7 mine mine /mine 0022 ")
    assert "f" in first.split()[-1]
    assert second == "bye"
    assert any("the hook failed" in line for line in run.log) == (hook == "broken")


@pytest.mark.parametrize(
    ("more", "routers", "routes"),
    [
        ({"new_routers": "198.51.100.1 198.51.100.2"}, ("198.51.100.1", "198.51.100.2"), ()),
        ({OPTION121: NEUTRON}, (), ("198.51.100.1", "198.51.100.1")),
    ],
)
def test_a_lease_is_noted_for_the_command_before_dhclient_writes_it(box, more, routers, routes):
    dhclient(box, "BOUND", "dash", **more, new_expiry="4102444800")
    (lease,) = noted(box)
    assert str(lease.address) == "198.51.100.10/24"
    assert tuple(str(route.via) for route in lease.classless_routes) == routes
    assert not routers or tuple(map(str, lease.routers)) == routers
    assert noted(box, now=5e9) == ()


@pytest.mark.parametrize("text", ['1.2.3.4";}', "$(reboot)", "a b", "1.2.3.4\n# x", "*"])
@pytest.mark.parametrize("key", ["new_ip_address", "new_routers", OPTION121, "new_expiry"])
def test_a_lease_with_odd_texts_is_not_noted(box, key, text):
    assert dhclient(box, "BOUND", **{key: text}).looks == 1
    assert not note(box).exists()


def test_gateways_of_leases_before_are_noted_as_long_as_the_address_is_there(box):
    """dhclient-script leaves their default in main when a renewal tells another."""
    dhclient(box, "BOUND")
    dhclient(box, "RENEW", old=LEASE, new_routers="198.51.100.2")
    third = {**LEASE, "new_routers": "198.51.100.2"}
    dhclient(box, "RENEW", old=third, new_routers="198.51.100.3")
    assert former(box) == ["198.51.100.1", "198.51.100.2"]
    dhclient(box, "EXPIRE", old={**LEASE, "new_routers": "198.51.100.3"})
    dhclient(box, "BOUND", new_routers="198.51.100.3")
    assert former(box) == []


def test_the_gateway_before_is_known_also_to_a_hook_that_came_later(box):
    dhclient(box, "RENEW", old=LEASE, new_routers="198.51.100.2")
    assert former(box) == ["198.51.100.1"]


def former(box: Sandbox) -> list[str]:
    (lease,) = noted(box)
    return [str(ip) for ip in lease.former]
