"""`source-routing follow` goes on, and puts things right, after what ends other programs.

What it is started with, and by, is in ``test_follow_by_sockets.py``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lab import (
    PATIENCE_SECONDS,
    Driver,
    Follower,
    Lab,
    Result,
    Snapshot,
    SourceRouting,
    begun,
    files_below,
    fill,
    flush_rules,
    following,
    little_disk,
    nics_in_own_subnets,
    pings,
    rules_without_a_default,
    snapshot,
    torn,
    wait_until,
)
from sizes import FAULT_STEPS

from cc_source_routing.follow.pace import (
    CPU_ALLOWANCE_SECONDS,
    CPU_SHARE,
    LONGEST_PAUSE_SECONDS,
)
from cc_source_routing.follow.repeats import SAID_EACH_TIME

pytestmark = pytest.mark.kernel

LATER = "10.13.96.77"
NIC_FILE = "source-routing/nics/ens4"
YEARS = 10 * 365 * 86400
# With all that it has imported it has 30 MiB.
MUCH_MEMORY = 16 << 20
WAR = "a program that undoes for minutes what is done for 28 NICs"
KILLED = (-signal.SIGKILL, -signal.SIGPROF)


def served_as(lab: Lab) -> Snapshot:
    """The order among rules of one priority means nothing, since no two have one source."""
    seen = snapshot(lab, "S")
    return seen._replace(rules=tuple(sorted(seen.rules)))


def comes(lab: Lab, address: str = LATER) -> None:
    lab.ip("S", "address", "add", f"{address}/19", "dev", "ens4")


def goes(lab: Lab, address: str = LATER) -> None:
    lab.ip("S", "address", "del", f"{address}/19", "dev", "ens4")


def has_rules(lab: Lab, address: str = LATER) -> bool:
    return f"from {address} " in lab.ip("S", "-4", "rule")


@pytest.fixture()
def hooked(server) -> SourceRouting:
    """The command of a server that has applied, with many files, which an address changes."""
    _cloud, command = server(hosts=False, container=False, stanza={"renderer": "ifupdown"})
    command.ok("apply")
    command.configure(None)
    return command


# -- in the middle of an apply -------------------------------------------------


@pytest.mark.parametrize("where", ["kernel", "files", "moment"])
@FAULT_STEPS
def test_killed_at_any_point_it_leaves_old_or_new_and_the_next_one_finishes(
    hooked: SourceRouting, lab: Lab, where: str, step: int
):
    look = hooked.argv("follow", "--idle", "0")
    with Driver(lab, "S") as driver:
        comes(lab)
        assert driver(*look).code == 0
        new, new_files = served_as(lab), hooked.files()
        for at in range(0, 1000, step):
            goes(lab)
            assert driver(*look).code == 0
            old_files = hooked.files()
            flush_rules(lab)
            comes(lab)
            killed = driver.faulty(where, at, *look)
            assert killed.code in (0, *KILLED), killed
            assert torn(hooked.files(), old_files, new_files) == [], killed.fault
            assert rules_without_a_default(lab, "S") == [], killed.fault
            assert driver(*look).code == 0
            assert new.difference(served_as(lab)) == "", killed.fault
            assert hooked.files() == new_files, killed.fault
            assert begun(hooked.files()) == []
            if killed.code == 0:
                break
        assert at > 0, "it was killed at least once"


def test_killed_before_services_know_of_new_files_the_next_one_tells_them(
    hooked: SourceRouting, lab: Lab
):
    look = hooked.argv("follow", "--idle", "0")
    with Driver(lab, "S") as driver:
        assert driver(*hooked.argv("remove")).code == 0
        hooked.configure({"source_routing": {"renderer": "ifupdown"}})
        killed = driver.faulty("notify", 0, *hooked.argv("apply"))
        assert killed.code == -signal.SIGKILL
        for _time in range(2):
            again = driver.faulty("notify", 0, *look)
            assert (again.code, again.fault) == (-signal.SIGKILL, killed.fault)
        assert driver(*look).code == 0
        assert driver.faulty("notify", 0, *look) == Result(0, "", ""), "they know"


@pytest.mark.parametrize("where", ["kernel", "files"])
@FAULT_STEPS
def test_told_to_end_at_any_point_it_finishes_the_apply_and_ends_well(
    hooked: SourceRouting, lab: Lab, where: str, step: int
):
    comes(lab)
    with Driver(lab, "S") as driver:
        assert driver(*hooked.argv("follow", "--idle", "0")).code == 0
        new, new_files = served_as(lab), hooked.files()
        for at in range(0, 1000, step):
            goes(lab)
            assert driver(*hooked.argv("follow", "--idle", "0")).code == 0
            flush_rules(lab)
            comes(lab)
            told = driver.faulty(
                where, at, *hooked.argv("follow", "--idle", "1"), number=-signal.SIGTERM
            )
            assert (told.code, told.err) == (0, ""), told
            assert new.difference(served_as(lab)) == "", told.fault
            assert hooked.files() == new_files, told.fault
            if not told.fault:
                break
        assert at >= 14


# -- disks ---------------------------------------------------------------------


@contextlib.contextmanager
def within(driver: Driver, command: SourceRouting) -> Iterator[list[Result]]:
    """A follower in the driver, with its mounts; gives what has come of it when it has ended."""
    before = served_as(command.lab)
    results: list[Result] = []
    with ThreadPoolExecutor(1) as pool:
        ends = pool.submit(driver, *command.argv("follow", "--idle", "120"))
        try:
            flush_rules(command.lab)
            wait_until(lambda: before.difference(served_as(command.lab)) == "")
            yield results
        finally:
            driver.tell_to_end()
        results.append(ends.result(PATIENCE_SECONDS))
        assert results[0].code == 0


def test_with_a_full_disk_it_serves_on_and_writes_when_there_is_room(
    hooked: SourceRouting, lab: Lab
):
    with Driver(lab, "S") as driver:
        etc = hooked.root / "etc"
        tree = str(etc.with_name("etc.tar"))
        driver.inside("tar", "-c", "-f", tree, "-C", str(etc), ".")
        driver.inside(*little_disk(etc))
        driver.inside("tar", "-x", "-f", tree, "-C", str(etc))
        old = files_below(driver.seen(etc))
        with within(driver, hooked) as results:
            ballast = driver.seen(etc) / "ballast"
            fill(ballast, 0)
            for last in range(1, 4):
                comes(lab, f"10.13.97.{last}")
                wait_until(lambda: has_rules(lab, f"10.13.97.{last}"))  # noqa: B023
                before = served_as(lab)
                flush_rules(lab)
                wait_until(lambda: before.difference(served_as(lab)) == "")  # noqa: B023
            ballast.unlink()
            assert files_below(driver.seen(etc)) == old
            wait_until(lambda: b"10.13.97.3" in (driver.seen(etc) / NIC_FILE).read_bytes())
        told = results[0]
        assert told.out.count("No space left on device") == 2, told  # also when it is well again
        assert told.out.count("well again") == 1, told
        assert driver(*hooked.argv("check")).code == 0
        assert begun(files_below(driver.seen(etc))) == []


@pytest.mark.parametrize("full", ["of bytes", "of files"])
def test_a_full_run_directory_keeps_it_from_nothing(hooked: SourceRouting, lab: Lab, full: str):
    run = hooked.root / "run"
    with Driver(lab, "S") as driver:
        driver.inside(*little_disk(run))
        assert driver(*hooked.argv("apply", "--again")).code == 0
        crowd(driver.seen(run)) if full == "of files" else fill(driver.seen(run) / "ballast", 0)
        with within(driver, hooked) as results:
            comes(lab)
            wait_until(lambda: has_rules(lab))
        assert all("change" in line for line in results[0].out.splitlines()), results
        assert driver(*hooked.argv("check")).code == 0


def crowd(disk: Path) -> None:
    """Make files until the little disk has room for no more."""
    with pytest.raises(OSError, match="No space left"):
        for number in range(10_000):
            (disk / f"file{number}").touch()


def test_where_nothing_can_be_locked_it_waits_and_serves_again_after_that(
    served: SourceRouting, lab: Lab
):
    run = served.root / "run/source-routing"
    with following(served) as follower:
        before = snapshot(lab, "S")
        aside = run.rename(run.with_name("aside"))
        run.write_text("")
        for _time in range(2):
            lab.ip("S", "route", "flush", "table", "501")
        assert "run/source-routing" in follower.line()
        flush_rules(lab)
        run.unlink()
        aside.rename(run)
        wait_until(lambda: before.difference(snapshot(lab, "S")) == "")
    served.ok("check")


def test_when_nobody_reads_what_it_says_it_goes_on(served: SourceRouting, lab: Lab):
    before = snapshot(lab, "S")
    served.configure(None)
    reading, writing = os.pipe()
    process = served.popen("follow", stdout=writing, stderr=subprocess.STDOUT)
    os.close(writing)
    os.close(reading)
    for _time in range(3):
        flush_rules(lab)
        wait_until(lambda: before.difference(snapshot(lab, "S")) == "")
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_SECONDS) == 0


# -- the clock -----------------------------------------------------------------


@pytest.mark.parametrize("jump", [-YEARS, YEARS])
def test_a_clock_that_jumps_all_the_time_changes_nothing(
    hooked: SourceRouting, lab: Lab, jump: int
):
    before, files = served_as(lab), hooked.files()
    with Driver(lab, "S") as driver, ThreadPoolExecutor(1) as pool:
        argv = hooked.argv("follow", "--idle", "120")
        ends = pool.submit(driver.faulty, "clock", 0, *argv, number=jump)
        for _time in range(3):
            flush_rules(lab)
            wait_until(lambda: before.difference(served_as(lab)) == "")
        assert hooked.files() == files
        hooked.ok("remove")
        told = ends.result(PATIENCE_SECONDS)
    assert told.code == 0
    assert all("change" in line for line in told.out.splitlines()), told


# -- what goes on and on -------------------------------------------------------


@contextlib.contextmanager
def bounded(follower: Follower) -> Iterator[None]:
    """Whatever happens within takes it little memory and CPU time."""
    began, memory, cpu = time.monotonic(), follower.resident_bytes, follower.cpu_seconds
    yield
    assert follower.resident_bytes - memory < MUCH_MEMORY
    # Restores and looks have a budget each; the rest is for what has to be read.
    budget = 2 * (CPU_ALLOWANCE_SECONDS + CPU_SHARE * (time.monotonic() - began))
    assert follower.cpu_seconds - cpu < budget + 5


def test_ten_thousand_events_while_an_apply_is_refused_are_a_few_lines(server, lab: Lab):
    cloud, command = server(rp_filter=1)
    document = cloud.stanza()
    document["source_routing"]["interfaces"]["ens4"]["routes"] = [
        {"to": "203.0.113.0/24", "via": "198.51.100.1", "on_link": True}
    ]
    command.configure(document)
    command.ok("apply")
    before = served_as(lab)
    # No route may lead to an address of the host itself.
    refused = ("198.51.100.1/32", "dev", "lo")
    with following(command) as follower:
        with bounded(follower):
            lab.ip("S", "address", "add", *refused)
            lab.ip("S", "route", "flush", "table", "501")
            assert "the kernel refused `route replace 203.0.113.0/24" in follower.line()
            lab.batch("S", [f"rule {deed} to 192.0.2.1 prio 99" for deed in ("add", "del")] * 5000)
            lab.ip("S", "address", "del", *refused)
            lines = follower.lines_until("well again after: the kernel refused")
        wait_until(lambda: before.difference(served_as(lab)) == "")
    assert len(lines) < 10, lines
    assert pings(lab, cloud.matrix()) == []
    command.ok("check")


UNDOES = "while :; do ip rule flush protocol 83; ip -6 rule flush protocol 83; done"


@pytest.mark.parametrize(
    ("nics", "seconds"),
    [
        pytest.param(2, 6, id="2 NICs for seconds"),
        pytest.param(28, 120, id="28 NICs for minutes", marks=pytest.mark.thorough(WAR)),
    ],
)
def test_who_undoes_all_at_once_costs_little_and_all_is_well_when_that_ends(
    server, lab: Lab, nics: int, seconds: float
):
    _cloud, command = server(nics_in_own_subnets(nics), hosts=False, container=False)
    command.ok("apply")
    before = served_as(lab)
    with following(command) as follower:
        with bounded(follower):
            undoes = lab.popen("S", "sh", "-c", UNDOES)
            time.sleep(seconds)
            undoes.kill()
            undoes.wait()
            wait_until(
                lambda: before.difference(served_as(lab)) == "",
                LONGEST_PAUSE_SECONDS + PATIENCE_SECONDS,
            )
        follower.process.terminate()
        code, said = follower.ends()
    lines = said.splitlines()
    assert code == 0
    assert len(lines) < 4 * SAID_EACH_TIME, said
    assert max(map(len, lines)) < 1000
    command.ok("check")
