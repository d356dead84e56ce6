"""The script behind networkd's path unit: when it plans anew, and when it waits first."""

from __future__ import annotations

import os
import re

import pytest

from cc_source_routing.model import RoutingPlan
from cc_source_routing.render import networkd
from cc_source_routing.render.networkd_events import SCRIPT_PATH, SERVICE_UNIT

from .sandbox import SHELLS, Sandbox, until_up

pytestmark = pytest.mark.kernel

BOTH = "2: ens3    inet 192.0.2.1/24 scope global\n3: ens4    inet 198.51.100.1/24 scope global\n"
NOTHING = "echo 'Nothing to change: all is as planned.'"
ONE = "2: ens3    inet 192.0.2.1/24 scope global\n"
LINK = "/run/systemd/netif/links/2"
PREPARE = (
    f"mkdir -p /run/systemd/netif/links /run/systemd/netif/leases; echo ADMIN_STATE=%s >{LINK}\n"
)

# ens4 is there, and down.
DOWN = "mount -t sysfs sysfs /sys; ip link add ens4 type veth peer name peer\n"


@pytest.fixture()
def box(tmp_path):
    sandbox = Sandbox(tmp_path, networkd.render(RoutingPlan(), networkd.Facts()))
    sandbox.answer("", BOTH)
    sandbox.mock("source-routing", NOTHING)
    # The script may not depend on time that the tests would have to spend.
    sandbox.mock("sleep", f"echo ADMIN_STATE=configured >{LINK}")
    return sandbox


def run(
    box: Sandbox,
    shell: str = "dash",
    state: str = "configured",
    prepare: str = "",
    command: str = "",
):
    ip = (
        f'#!/bin/sh\necho "ip $*" >>{box.box}/calls\ncat {box.box}/answer\n'
        f"[ ! -e {box.box}/meanwhile ] || . {box.box}/meanwhile\n"
    )
    prepare += box.stand_in("ip", ip)
    return box.run(command or f"{shell} {SCRIPT_PATH}", PREPARE % state + prepare)


def sleeps(box: Sandbox) -> list[str]:
    calls = (box.box / "calls").read_text().splitlines()
    return [call[6:] for call in calls if call.startswith("sleep ")]


@pytest.mark.parametrize("shell", SHELLS)
def test_an_event_is_one_apply(box, shell):
    done = run(box, shell)
    assert (done.code, done.applies, sleeps(box)) == (0, ["apply"], [])


def test_the_same_addresses_again_are_applied_again_since_rules_may_be_gone(box):
    run(box)
    assert run(box).applies == ["apply"]


@pytest.mark.parametrize("shell", ["dash", "bash --posix"])  # busybox sleeps by itself
def test_when_addresses_are_only_lost_it_waits_for_them_to_come_back(box, shell):
    run(box, shell)
    box.answer("", ONE)
    done = run(box, shell, prepare=DOWN)
    assert (done.applies, sleeps(box)) == (["apply"], ["3"])


@pytest.mark.parametrize("shell", ["dash", "bash --posix"])
def test_a_link_that_is_gone_does_not_come_back_in_a_moment(box, shell):
    run(box, shell)
    box.answer("", ONE)
    assert (run(box, shell).applies, sleeps(box)) == (["apply"], ["0.5"])


@pytest.mark.parametrize("shell", ["dash", "bash --posix"])
def test_ipv4_addresses_of_links_that_are_up_are_waited_for_less(box, shell):
    """Nothing has flapped: a lease is over."""
    up = DOWN + "ip link set peer up; ip link set ens4 up\n"
    run(box, shell)
    box.answer("", ONE)
    assert (run(box, shell, prepare=up).applies, sleeps(box)) == (["apply"], ["0.5"])
    box.answer("", BOTH + "3: ens4    inet6 2001:db8::1/64 scope global\n")
    run(box, shell, prepare=up)
    box.answer("", ONE)
    assert (run(box, shell, prepare=up).applies, sleeps(box)) == (["apply"], ["3"])


@pytest.mark.parametrize("shell", ["dash", "bash --posix"])
def test_an_ipv6_address_whose_link_has_kept_another_one_is_waited_for_less(box, shell):
    """A flap takes all of them."""
    up = DOWN + "ip link set peer up; ip link set ens4 up\n"
    kept = BOTH + "3: ens4    inet6 2001:db8::1/64 scope global\n"
    box.answer("", kept + "3: ens4    inet6 2001:db8::2/64 scope global\n")
    run(box, shell, prepare=up)
    box.answer("", kept)
    assert (run(box, shell, prepare=up).applies, sleeps(box)) == (["apply"], ["0.5"])
    box.answer("", BOTH)
    assert (run(box, shell, prepare=up).applies, sleeps(box)) == (["apply"], ["3"])


def test_when_one_is_lost_and_another_one_is_new_it_does_not_wait(box):
    run(box)
    box.answer("", ONE + "3: ens4    inet 198.51.100.99/24 scope global\n")
    assert (run(box).applies, sleeps(box)) == (["apply"], [])


def test_when_all_addresses_are_lost_it_waits_too(box):
    run(box)
    box.answer("", "")
    assert (run(box, prepare=DOWN).applies, sleeps(box)) == (["apply"], ["3"])


def test_a_link_that_networkd_is_at_work_on_is_waited_for(box):
    done = run(box, state="configuring")
    assert (done.applies, sleeps(box)) == (["apply"], ["0.5"])


def test_but_not_once_networkd_does_nothing_about_it(box):
    """A NIC without a cable or with a silent DHCP server stays unfinished for ever."""
    box.mock("sleep")
    done = run(box, state="configuring")
    assert (done.applies, sleeps(box)) == (["apply"], ["0.5"])


def test_as_long_as_networkd_is_busy_with_it_but_not_for_ever(box):
    box.mock("sleep", f"echo LEASE_COMES_NEARER >>{LINK}")
    done = run(box, state="configuring")
    assert (done.applies, sleeps(box)) == (["apply"], ["0.5"] * 20)


def test_what_changes_meanwhile_is_looked_at_too(box):
    box.mock(
        "source-routing",
        f"/bin/sleep 0.02; [ -e {box.box}/again ] || {{ : >{box.box}/again; : >{LINK}; }}; "
        f"{NOTHING}",
    )
    assert run(box).applies == ["apply", "apply"]


def test_a_link_that_never_rests_does_not_keep_it_for_ever(box):
    box.mock("source-routing", f"/bin/sleep 0.02; : >{LINK}; {NOTHING}")
    assert run(box).applies == ["apply"] * 5


@pytest.mark.parametrize(
    ("late", "again"),
    [(":", False), (f"echo >>{LINK}", True), (f"touch -d 1980-01-01 {LINK}", True)],
)
@pytest.mark.parametrize("shell", ["dash", "bash --posix"])  # busybox has a find of its own
def test_what_changes_when_it_is_about_to_end_starts_it_again(box, shell, late, again):
    assert (
        started_again(box, f"{shell} {SCRIPT_PATH}; {late}; {shell} {SCRIPT_PATH} again") == again
    )


def test_what_never_rests_is_looked_at_again_after_pauses_that_grow(box):
    box.mock("source-routing", f"/bin/sleep 0.02; : >{LINK}; {NOTHING}")
    box.mock("systemd-run")
    command = f"dash {SCRIPT_PATH}; dash {SCRIPT_PATH} again"
    for pause in (1, 2, 4, 8, 16, 32, 60, 60):
        (box.box / "calls").write_text("")
        assert not started_again(box, command), "not at once"
        assert f"--on-active={pause} " in (box.box / "calls").read_text()
    box.mock("source-routing", NOTHING)
    (box.box / "calls").write_text("")
    assert not started_again(box, command)
    assert "systemd-run" not in (box.box / "calls").read_text()


def test_what_never_rests_is_left_alone_where_there_is_no_room_to_note_the_pause(box):
    box.mock("systemd-run")
    script = f"dash {SCRIPT_PATH}"
    assert not started_again(box, f"{script}; {script} again")
    box.mock("source-routing", f"/bin/sleep 0.02; : >{LINK}; {NOTHING}")
    full = "ln -s /dev/full /run/source-routing/networkd-restless"
    assert not started_again(box, f"{full}; {script}; {script} again")
    assert "systemd-run" not in (box.box / "calls").read_text()


def test_nor_is_what_fails(box):
    box.mock("source-routing", f"echo >>{LINK}; exit 1")
    assert not started_again(box, f"dash {SCRIPT_PATH}; dash {SCRIPT_PATH} again")


def test_nor_anything_where_there_is_no_room_to_note_what_was_served(box):
    full = f"dash {SCRIPT_PATH}; rm /run/source-routing/networkd-written; echo >>{LINK}"
    assert not started_again(box, f"{full}; dash {SCRIPT_PATH} again")


def started_again(box: Sandbox, commands: str) -> bool:
    noted = box.stand_in("systemctl", f'#!/bin/sh\necho "systemctl $*" >>{box.box}/calls\n')
    run(box, prepare=noted, command=f"dash -c '{commands}'")
    calls = (box.box / "calls").read_text().splitlines()
    return f"systemctl --no-block start {SERVICE_UNIT}" in calls


def once(box: Sandbox, script: str) -> str:
    """At the first call `script`, and from then on nothing is left to do."""
    return f"if [ ! -e {box.box}/done ]; then : >{box.box}/done; {script}; else {NOTHING}; fi"


def remembers(box: Sandbox) -> str:
    return (box.box / "state/router-event.ours").read_text()


@pytest.mark.parametrize("shell", SHELLS)
def test_how_it_ought_to_be_is_known_once_there_is_nothing_left_to_do(box, shell):
    """What somebody takes away while an apply ends must not count as how it was set right."""
    flushed = f": >{box.box}/answer"
    restored = f"printf '5030: from 192.0.2.1 lookup 500\\n' >{box.box}/answer"
    calls = f"{box.box}/count"
    box.mock(
        "source-routing",
        f"echo >>{calls}; case $(grep -c '' {calls}) in "
        f"1) {flushed}; echo 3 changes. ;; 2) {restored}; echo 3 changes. ;; *) {NOTHING} ;; esac",
    )
    assert run(box, shell).applies == ["apply"] * 3
    assert "5030: from 192.0.2.1 lookup 500" in remembers(box)


def test_a_kernel_that_never_rests_is_taken_as_it_is_in_the_end(box):
    box.mock("source-routing", "echo 3 changes.")
    assert run(box).applies == ["apply"] * 5
    assert remembers(box)


@pytest.mark.parametrize("year", [1980, 2040])
def test_a_clock_that_was_set_since_networkd_wrote_its_files_makes_no_event_of_them(box, year):
    assert run(box, prepare=f"touch -d {year}-01-01 {LINK}\n").applies == ["apply"]


@pytest.mark.parametrize("year", [1980, 2040])
def test_what_changes_while_the_clock_is_set_is_looked_at_too(box, year):
    box.mock(
        "source-routing",
        f"[ -e {box.box}/again ] || {{ : >{box.box}/again; touch -d {year}-01-01 {LINK}; }}; "
        f"{NOTHING}",
    )
    assert run(box).applies == ["apply", "apply"]


GIVEN_UP = (
    "mount -t sysfs sysfs /sys; ip link add ens3 type veth peer name peer\n"
    "mkdir -p /etc/systemd/network/05-nic.network.d /etc/systemd/network/10-nic.network.d\n"
    "echo '# Written by source-routing for ens8;' "
    ">/etc/systemd/network/05-nic.network.d/50-source-routing.conf\n"
    "echo '# Written by source-routing for {};' "
    ">/etc/systemd/network/10-nic.network.d/50-source-routing.conf\n"
    "read -r index </sys/class/net/ens3/ifindex; link=/run/systemd/netif/links/$index\n"
    'echo ADMIN_STATE=failed >"$link"\n'
)


@pytest.mark.parametrize("shell", ["dash", "bash --posix"])  # busybox's find knows less
def test_a_nic_that_networkd_has_given_up_is_started_anew_but_not_in_a_loop(box, shell):
    box.mock("networkctl")
    done = run(box, shell, prepare=GIVEN_UP.format("ens9 ens3"))
    assert (done.code, done.applies) == (0, ["apply"])
    calls = (box.box / "calls").read_text().splitlines()
    assert [call for call in calls if call.startswith("networkctl")] == [
        "networkctl reconfigure ens3"
    ]
    run(box, shell, prepare=GIVEN_UP.format("ens9 ens3"))
    assert "networkctl" not in (box.box / "calls").read_text()
    assert set(sleeps(box)) == {"5"}, "it is tried again, but later"


def test_a_nic_is_started_anew_again_later_whatever_was_the_time_when_it_was_first(box):
    box.mock("networkctl")
    run(box, prepare=GIVEN_UP.format("ens3"))
    first = box.box / "state/revived.ens3"
    uptime, wait = first.read_text().split()
    first.write_text(f"{int(uptime) - 5} {wait}\n")
    os.utime(first, (2**31, 2**31))
    run(box, prepare=GIVEN_UP.format("ens3"))
    assert "networkctl reconfigure ens3" in (box.box / "calls").read_text()
    assert first.read_text().split()[1] == "10", "each time it is left alone for longer"
    first.write_text(f"{int(uptime) - 8} 10\n")
    done = run(box, prepare=GIVEN_UP.format("ens3"))
    assert "networkctl" not in (box.box / "calls").read_text()
    assert (done.applies, sleeps(box)) == (["apply"], []), "nobody waits for that"
    run(box, prepare=GIVEN_UP.format("ens3") + 'echo ADMIN_STATE=configured >"$link"\n')
    assert not first.exists()


LEASED = GIVEN_UP + (
    f"ip link set peer up; ip link set ens3 up\n{until_up('ens3')}"
    'printf "ADMIN_STATE=configured\\nIPV4_ADDRESS_STATE=off\\n" >"$link"\n'
    'printf "# Private.\\nADDRESS=198.51.100.7\\nNETMASK=255.255.252.0\\nLIFETIME=120\\n" '
    '>"/run/systemd/netif/leases/$index"\n'
)
ARRIVED = "7: ens3    inet 198.51.100.7/22 metric 100 scope global dynamic ens3"


@pytest.mark.parametrize("shell", ["dash", "bash --posix"])
def test_so_is_a_nic_whose_leased_address_has_got_lost(box, shell):
    box.mock("networkctl")
    run(box, shell, prepare=LEASED.format("ens3"))
    calls = (box.box / "calls").read_text().splitlines()
    assert [call for call in calls if call.startswith("networkctl")] == [
        "networkctl reconfigure ens3"
    ]


def test_and_one_that_has_other_addresses_than_the_lease_is_for(box):
    """Somebody has given it one beside, or networkd still counts the one that it has lost."""
    box.mock("networkctl")
    box.answer("", BOTH + ARRIVED.replace(".7/22", ".77/22") + "\n")
    routable = 'printf "ADMIN_STATE=configured\\nIPV4_ADDRESS_STATE=routable\\n" >"$link"\n'
    run(box, prepare=LEASED.format("ens3") + routable)
    assert "networkctl reconfigure ens3" in (box.box / "calls").read_text()


def test_but_not_one_whose_lease_has_only_just_come(box):
    box.mock("networkctl")
    box.mock("sleep", f"echo '{ARRIVED}' >>{box.box}/answer")
    done = run(box, prepare=LEASED.format("ens3"))
    assert (done.applies, sleeps(box)) == (["apply"], ["1"])
    assert "networkctl" not in (box.box / "calls").read_text()


AT_WORK = (
    "printf 'ADMIN_STATE=configuring\\nIPV4_ADDRESS_STATE=off\\n' "
    ">/run/systemd/netif/links/$index\n"
)


@pytest.mark.parametrize("shell", SHELLS)
def test_one_that_networkd_waits_for_the_end_of_an_address_of_for_ever_gets_it(box, shell):
    """252, after `netplan apply` on a busy machine: to configure it anew is of no use, since
    what it waits for the kernel to take away was never there."""
    box.mock("networkctl")
    (box.box / "meanwhile").write_text(
        f"case $* in 'address del 198.51.100.7'*) echo '{ARRIVED}' >>{box.box}/answer ;; esac\n"
    )
    run(box, shell, prepare=LEASED.format("ens3") + AT_WORK)
    calls = (box.box / "calls").read_text().splitlines()
    assert [call for call in calls if call.startswith(("ip address ", "networkctl"))] == [
        "ip address add 198.51.100.7/255.255.252.0 broadcast + dev ens3 "
        "valid_lft 120 preferred_lft 120",
        "ip address del 198.51.100.7/255.255.252.0 dev ens3",
    ]
    if not shell.startswith("busybox"):  # which sleeps by itself
        assert sleeps(box)[-8:] == ["0.5"] * 8, "it has had some time for it"
    assert (box.box / "state/networkd-restless").read_text() == "5\n", "it is looked at again"


def test_where_that_does_not_help_it_is_configured_anew(box):
    box.mock("networkctl")
    run(box, prepare=LEASED.format("ens3") + AT_WORK)
    calls = (box.box / "calls").read_text()
    assert "ip address del 198.51.100.7" in calls
    assert "networkctl reconfigure ens3" in calls


def test_what_networkd_has_set_at_the_last_moment_stays(box):
    box.mock("networkctl")
    (box.box / "meanwhile").write_text(
        f"case $* in 'address add'*) echo '{ARRIVED}' >>{box.box}/answer; exit 2 ;; esac\n"
    )
    run(box, prepare=LEASED.format("ens3") + AT_WORK)
    calls = (box.box / "calls").read_text()
    assert "ip address del" not in calls
    assert "networkctl" not in calls


def test_one_whose_address_comes_while_networkd_is_at_work_on_it_is_left_alone(box):
    box.mock("networkctl")
    box.mock("sleep", f"[ \"$1\" = 1 ] || echo '{ARRIVED}' >>{box.box}/answer")
    run(box, prepare=LEASED.format("ens3") + AT_WORK)
    calls = (box.box / "calls").read_text()
    assert "networkctl" not in calls
    assert "ip address add" not in calls


def test_one_that_is_left_alone_for_longer_is_looked_at_again_by_itself(box):
    """No event comes of a NIC that nobody touches."""
    box.mock("networkctl")
    run(box, prepare=LEASED.format("ens3"))
    first = box.box / "state/revived.ens3"
    uptime, _wait = first.read_text().split()
    first.write_text(f"{uptime} 300\n")
    run(box, prepare=LEASED.format("ens3"))
    assert "networkctl" not in (box.box / "calls").read_text()
    assert 200 < int((box.box / "state/networkd-restless").read_text()) <= 300


def test_so_is_one_that_has_just_been_mended_since_no_event_need_come_of_that(box):
    box.mock("networkctl")
    box.mock("systemd-run")
    again = f"{SCRIPT_PATH}; dash {SCRIPT_PATH} again"
    run(box, prepare=LEASED.format("ens3"), command=f"dash -c 'dash {again}'")
    first = box.box / "state/revived.ens3"
    uptime, _wait = first.read_text().split()
    assert "--on-active=5 " in (box.box / "calls").read_text()
    first.write_text(f"{uptime} 40\n")
    box.mock("source-routing", "exit 1")
    run(box, prepare=LEASED.format("ens3"), command=f"dash -c 'dash {again}'")
    (pause,) = re.findall(r"--on-active=(\d+) ", (box.box / "calls").read_text())
    assert 20 < int(pause) <= 40, "whatever becomes of the apply"


def test_what_changes_when_it_is_about_to_end_does_not_wait_for_that(box):
    box.mock("networkctl")
    box.mock("systemd-run")
    noted = box.stand_in("systemctl", f'#!/bin/sh\necho "systemctl $*" >>{box.box}/calls\n')
    script = f"dash {SCRIPT_PATH}"
    run(
        box,
        prepare=LEASED.format("ens3") + noted,
        command=f"dash -c '{script}; echo >>{LINK}; {script} again'",
    )
    calls = (box.box / "calls").read_text()
    assert f"systemctl --no-block start {SERVICE_UNIT}" in calls
    assert "systemd-run" not in calls


def test_a_pause_ends_one_that_is_longer(box):
    """systemd refuses a second timer of the same name."""
    box.mock("systemd-run")
    box.mock("source-routing", f"/bin/sleep 0.02; : >{LINK}; {NOTHING}")
    noted = box.stand_in("systemctl", f'#!/bin/sh\necho "systemctl $*" >>{box.box}/calls\n')
    run(box, prepare=noted, command=f"dash -c 'dash {SCRIPT_PATH}; dash {SCRIPT_PATH} again'")
    calls = (box.box / "calls").read_text().splitlines()
    timer = "systemctl --quiet stop source-routing-networkd-again.timer"
    (started,) = (number for number, call in enumerate(calls) if call.startswith("systemd-run"))
    assert calls.index(timer) < started


@pytest.mark.parametrize(
    "after",
    [
        "ip link set ens3 down",
        'echo ADMIN_STATE=configuring >"$link"; rm /run/systemd/netif/leases/*',
        'echo ADMIN_STATE=unmanaged >"$link"',
    ],
)
def test_nor_one_that_is_down_or_has_no_lease_yet_or_is_not_networkds(box, after):
    box.mock("networkctl")
    run(box, prepare=LEASED.format("ens3") + after + "\n")
    assert "networkctl" not in (box.box / "calls").read_text()


def test_an_event_is_one_line_whatever_the_command_warns_of(box):
    changes = "echo 'source-routing: warning: beware' >&2; echo 3 changes."
    box.mock("source-routing", once(box, changes))
    assert run(box).out == "systemd-networkd or the kernel: 3 changes.\n"
    box.mock("source-routing", "echo 'warning: beware' >&2; echo Nothing to change: all is well.")
    assert run(box).out == ""


def test_a_link_that_is_not_ours_is_left_as_networkd_left_it(box):
    box.mock("networkctl")
    run(box, prepare=GIVEN_UP.format("ens9"))
    assert "networkctl" not in (box.box / "calls").read_text()


def test_a_failing_apply_fails_the_unit(box):
    box.mock("source-routing", "exit 1")
    assert run(box).code == 1
