"""The tests that stand for the README's promises are there, and run by default."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
NAMED = re.findall(r"`([\w/]+\.py::[^`]+)`", (TESTS / "README.md").read_text())


@pytest.fixture(scope="module")
def collected() -> list[str]:
    """What a run without arguments would run, below tests/."""
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"],
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    ).stdout
    return [line.removeprefix("tests/") for line in told.splitlines() if "::" in line]


def test_there_are_promises() -> None:
    assert len(NAMED) > 30
    assert len(NAMED) == len(set(NAMED))


@pytest.mark.parametrize("name", NAMED)
def test_a_promise_has_its_test_in_the_default_run(name: str, collected: list[str]) -> None:
    def stands_for(nodeid: str) -> bool:
        # A whole class, or all parameters of a test.
        return nodeid == name or nodeid.startswith((f"{name}::", f"{name}["))

    assert any(map(stands_for, collected)), f"tests/README.md names {name}, which is not run"
