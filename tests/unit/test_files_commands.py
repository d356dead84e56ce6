"""Running commands: no shell, a time limit, and errors that say what was wrong."""

from __future__ import annotations

import time

import pytest
from lab import PATIENCE_SECONDS

from cc_source_routing.errors import CommandError
from cc_source_routing.files.commands import run


def test_what_a_command_prints_comes_back_and_its_input_goes_in():
    assert run(["cat"], timeout=PATIENCE_SECONDS, input="hello\n") == "hello\n"
    assert run(["echo", "$HOME; reboot"], timeout=PATIENCE_SECONDS) == "$HOME; reboot\n"


def test_without_input_it_meets_the_end_of_file_at_once():
    assert run(["cat"], timeout=PATIENCE_SECONDS) == ""


def test_messages_come_in_english():
    assert run(["sh", "-c", "echo $LC_ALL"], timeout=PATIENCE_SECONDS) == "C\n"


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["no-such-command"], "no-such-command cannot be run: No such file or directory"),
        (["sh", "-c", "echo one >&2; echo two >&2; exit 3"], r"sh failed \(exit 3\): two"),
        (["sh", "-c", "echo only out; exit 1"], r"sh failed \(exit 1\): only out"),
        (["false"], r"false failed \(exit 1\): it said nothing"),
        (["sh", "-c", "kill -9 $$"], "sh was killed by signal 9"),
        (["echo", "a\0b"], "echo cannot be run"),
    ],
)
def test_a_failure_is_one_clear_sentence(argv, told):
    with pytest.raises(CommandError, match=told):
        run(argv, timeout=PATIENCE_SECONDS)


def test_a_command_that_hangs_is_ended_with_its_children():
    started = time.monotonic()
    with pytest.raises(CommandError, match="sh was not done after 0.3 s and was ended"):
        run(["sh", "-c", "sleep 600 & sleep 600; true"], timeout=0.3)
    assert time.monotonic() - started < PATIENCE_SECONDS


def test_bytes_that_are_no_text_do_no_harm():
    assert run(["printf", r"caf\351"], timeout=PATIENCE_SECONDS) == "caf�"
