"""The lock: applies that start at once do one after the other."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from lab import PATIENCE_SECONDS

from cc_source_routing.errors import ApplyError, FileError
from cc_source_routing.files.write import LOCK_PATH, LockTimeout, lock

HOLD = """
import sys
from pathlib import Path
from cc_source_routing.files.write import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock until its standard input is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_second_one_waits_no_longer_than_told_and_says_who_holds_it(tmp_path, holder):
    started = time.monotonic()
    with pytest.raises(LockTimeout, match=f"process {holder.pid} .* holds {LOCK_PATH}"):
        with lock(tmp_path, timeout=0.2):
            pass
    assert 0.2 <= time.monotonic() - started < PATIENCE_SECONDS
    assert issubclass(LockTimeout, ApplyError)


@pytest.mark.parametrize("jump", [-(10**9), 10**9])
def test_a_clock_that_is_set_meanwhile_makes_the_wait_no_longer_and_no_shorter(
    tmp_path, holder, monkeypatch, jump
):
    real, looks = time.time, iter(range(10**6))
    monkeypatch.setattr(time, "time", lambda: real() + jump * next(looks))
    started = time.monotonic()
    with pytest.raises(LockTimeout):
        with lock(tmp_path, timeout=0.2):
            pass
    assert 0.2 <= time.monotonic() - started < PATIENCE_SECONDS


def test_a_second_one_goes_on_when_the_first_is_done(tmp_path, holder):
    holder.stdin.close()
    with lock(tmp_path, timeout=PATIENCE_SECONDS):
        assert holder.wait(PATIENCE_SECONDS) == 0


def test_the_file_is_empty_when_nobody_holds_it_and_hooks_can_see_that(tmp_path):
    place = tmp_path / LOCK_PATH.lstrip("/")
    with lock(tmp_path):
        assert place.read_text().split()[0] == str(os.getpid())
    assert place.read_bytes() == b""


def test_nobody_but_root_may_open_it_and_so_lock_it(tmp_path):
    place = tmp_path / LOCK_PATH.lstrip("/")
    place.parent.mkdir(parents=True)
    place.touch(0o644)  # an earlier release's
    with lock(tmp_path):
        assert place.stat().st_mode & 0o777 == 0o600
    place.unlink()
    with lock(tmp_path):
        assert place.stat().st_mode & 0o777 == 0o600


def test_a_holder_that_was_killed_holds_nothing(tmp_path, holder):
    holder.kill()
    holder.wait(PATIENCE_SECONDS)
    assert (tmp_path / LOCK_PATH.lstrip("/")).read_bytes() != b""
    with lock(tmp_path, timeout=PATIENCE_SECONDS):
        pass
    assert (tmp_path / LOCK_PATH.lstrip("/")).read_bytes() == b""


def test_a_link_in_its_place_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    place = tmp_path / LOCK_PATH.lstrip("/")
    place.parent.mkdir(parents=True)
    place.symlink_to(victim)
    with pytest.raises(FileError, match=LOCK_PATH):
        with lock(tmp_path):
            pass
    assert victim.read_text() == "precious"
