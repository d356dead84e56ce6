"""Disks that are full, read-only or broken, and the command killed while it writes."""

from __future__ import annotations

import errno

import pytest
from lab import (
    Cloud,
    Driver,
    Lab,
    SourceRouting,
    begun,
    files_below,
    fill,
    little_disk,
    pings,
    rules_without_a_default,
    snapshot,
    torn,
)
from sizes import FAULT_STEPS

pytestmark = pytest.mark.kernel

PREVIOUS = "run/source-routing/previous.json"


@pytest.fixture()
def written(server, lab: Lab):
    """A server to be kept by hooks, its driver, and its files without and with our plan."""
    cloud, command = server(hosts=False, container=False)
    without = command.files()
    command.configure(cloud.stanza(renderer="ifupdown"))
    with Driver(lab, "S") as driver:
        well(driver, command, "apply")
        yield cloud, command, driver, without, command.files()


def well(driver: Driver, command: SourceRouting, *argv: str) -> None:
    done = driver(*command.argv(*argv))
    assert done.code == 0, done


@FAULT_STEPS
def test_killed_at_any_file_operation_of_an_apply_the_next_one_finishes(
    written, lab: Lab, step: int
):
    _cloud, command, driver, without, applied = written
    for at in range(0, 300, step):
        well(driver, command, "remove")
        killed = driver.faulty("files", at, *command.argv("apply"))
        assert killed.code == (-9 if killed.fault else 0), killed
        assert torn(command.files(), applied, without) == [], killed.fault
        assert rules_without_a_default(lab, "S") == [], killed.fault
        well(driver, command, "apply")
        assert command.files() == applied, killed.fault
        well(driver, command, "check")
        if not killed.fault:
            break
    assert at > 60


@FAULT_STEPS
def test_killed_at_any_file_operation_of_an_apply_a_remove_leaves_nothing(
    written, lab: Lab, step: int
):
    _cloud, command, driver, without, _applied = written
    well(driver, command, "remove")
    before = snapshot(lab, "S")
    for at in range(0, 300, step):
        killed = driver.faulty("files", at, *command.argv("apply"))
        well(driver, command, "remove")
        assert command.files() == without, killed.fault
        assert not (command.root / "etc/source-routing").exists(), killed.fault
        assert before.difference(snapshot(lab, "S")) == "", killed.fault
        if not killed.fault:
            break
    assert at > 60


@FAULT_STEPS
def test_killed_at_any_file_operation_of_a_remove_the_next_one_finishes(
    written, lab: Lab, step: int
):
    _cloud, command, driver, without, applied = written
    for at in range(0, 300, step):
        killed = driver.faulty("files", at, *command.argv("remove"))
        assert killed.code == (-9 if killed.fault else 0), killed
        assert torn(command.files(), applied, without) == [], killed.fault
        assert rules_without_a_default(lab, "S") == [], killed.fault
        well(driver, command, "remove")
        assert command.files() == without, killed.fault
        well(driver, command, "apply")
        assert command.files() == applied, killed.fault
        if not killed.fault:
            break
    assert at > 20


@pytest.mark.parametrize("deed", ["apply", "remove"])
@FAULT_STEPS
def test_an_error_of_the_disk_at_any_file_operation_is_one_sentence_and_tears_no_file(
    written, deed: str, step: int
):
    """Injected, each once: what a disk that is really full does is told below."""
    cloud, command, driver, without, applied = written
    fates = set()
    for at in range(0, 300, step):
        if deed == "apply":
            well(driver, command, "remove")
        failed = driver.faulty("files", at, *command.argv(deed), number=errno.EIO)
        fates.add(failed.code)
        assert failed.code in (0, 1), (failed.fault, failed)
        if failed.code:
            told = failed.err.splitlines()
            assert len(told) == 1, (failed.fault, failed)
            assert told[0].startswith("source-routing: /"), (failed.fault, failed)
            assert "Input/output error" in told[0]
        assert torn(command.files(), applied, without) == [], failed.fault
        well(driver, command, deed)
        seen = command.files()
        if deed == "apply":
            # What is not kept in /run is only the way back of an interface's group.
            seen[PREVIOUS] = applied[PREVIOUS]
        assert seen == (applied if deed == "apply" else without), failed.fault
        well(driver, command, "apply")
        well(driver, command, "check")
        if not failed.fault:
            break
    assert at > 20
    assert fates == {0, 1}


def other_plan(cloud: Cloud, command: SourceRouting) -> None:
    """A plan with other tables and priorities than the default one's."""
    command.configure(cloud.stanza(renderer="ifupdown", table_base=800, rule_priority=7000))


def test_on_a_disk_that_is_full_the_server_answers_and_the_files_stay_as_they_were(
    server, lab: Lab
):
    """However much room there is, be it for all files but one."""
    cloud, command = server(rp_filter=1)
    with Driver(lab, "S") as driver:
        etc = command.root / "etc"
        driver.inside(*little_disk(etc))
        well(driver, command, "remove")
        ballast = driver.seen(etc) / "ballast"
        fates = []
        for room in range(20):
            command.configure(cloud.stanza(renderer="ifupdown"))
            well(driver, command, "apply")
            old = files_below(driver.seen(etc))
            other_plan(cloud, command)
            fill(ballast, room)
            failed = driver(*command.argv("apply"))
            fates.append(failed.code)
            ballast.unlink()
            if failed.code == 0:
                break
            assert failed.code == 1, failed
            (told,) = failed.err.splitlines()
            assert told.startswith("source-routing: /etc/"), told
            assert "No space left on device; the kernel is set up" in told
            assert files_below(driver.seen(etc)) == old
            assert pings(lab, cloud.matrix([4])) == []
            well(driver, command, "apply")
            assert begun(files_below(driver.seen(etc))) == []
            well(driver, command, "check")
        assert fates[-1] == 0, "at last there is room enough"
        assert len(fates) > 3
        assert pings(lab, cloud.matrix()) == []


def test_a_full_run_directory_keeps_no_address_from_being_served(server, lab: Lab):
    """There is only what makes things nicer: who holds the lock, and what was before us."""
    cloud, command = server(rp_filter=1)
    command.configure(cloud.stanza(renderer="ifupdown"))
    with Driver(lab, "S") as driver:
        run = command.root / "run"
        run.mkdir()
        driver.inside(*little_disk(run))
        fill(driver.seen(run) / "ballast", 0)
        well(driver, command, "apply")
        well(driver, command, "check")
        assert pings(lab, cloud.matrix([4])) == []
        assert begun(files_below(driver.seen(run))) == []


def test_on_a_read_only_disk_the_server_answers_and_the_file_is_named(server, lab: Lab):
    cloud, command = server(rp_filter=1)
    with Driver(lab, "S") as driver:
        etc = command.root / "etc"
        driver.inside("mount", "-t", "tmpfs", "tmpfs", str(etc))

        def writable(may: bool) -> None:
            driver.inside("mount", "-o", "remount,rw" if may else "remount,ro", str(etc))

        without = files_below(driver.seen(etc))
        before = snapshot(lab, "S")
        for first in (True, False):
            writable(False)
            command.configure(cloud.stanza(renderer="ifupdown"))
            if not first:
                other_plan(cloud, command)
            seen = files_below(driver.seen(etc))
            failed = driver(*command.argv("apply"))
            assert failed.code == 1
            (told,) = failed.err.splitlines()
            assert told.startswith("source-routing: /etc/")
            assert "Read-only file system; the kernel is set up" in told
            assert files_below(driver.seen(etc)) == seen
            assert pings(lab, cloud.matrix()) == []
            assert driver(*command.argv("check")).code == 1, "its files are not as planned"
            writable(True)
            well(driver, command, "apply")
            well(driver, command, "check")
        writable(False)
        well(driver, command, "apply")  # nothing to change is no reason to write
        failed = driver(*command.argv("remove"))
        assert failed.code == 1
        assert "Read-only file system" in failed.err
        assert before.difference(snapshot(lab, "S")) == ""
        writable(True)
        well(driver, command, "remove")
        assert files_below(driver.seen(etc)) == without
