"""The tests that stand for what documents promise are there, and run by default."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.coexistence.catalogue import ALL
from tests.kernel.coexistence.software import WAYS

TESTS = Path(__file__).resolve().parents[1]
NAMED = re.findall(r"`([\w/]+\.py::[^`]+)`", (TESTS / "README.md").read_text())

# docs/coexistence.md: the cells of each row, by the name in the last one.
ROWS = {
    cells[-1].strip(" `"): [cell.strip() for cell in cells[:-1]]
    for cells in (
        line.strip("|").split("|")
        for line in (TESTS.parent / "docs/coexistence.md").read_text().splitlines()
        if line.startswith("|") and line.endswith("` |")
    )
}
BESIDE = (
    "kernel/coexistence/test_coexistence.py::test_what_it_reached_without_us_it_reaches_with_us"
)
REAL = "daemons/test_strongswan.py::test_it_reaches_its_peer_and_what_is_behind_it"


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


def test_each_software_has_its_row_and_each_row_its_software() -> None:
    assert list(ROWS) and set(ROWS) == {"strongswan", *map(str, ALL)}
    assert len(set(map(str, ALL))) == len(ALL)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_run_all_three_ways_by_default(row: str, collected: list[str]) -> None:
    if row == "strongswan":
        wanted = {f"{REAL}[{family}-{way}]" for family in ("ipv4", "ipv6") for way in WAYS}
    else:
        wanted = {f"{BESIDE}[{row}-{way}]" for way in WAYS}
    assert wanted <= set(collected)


@pytest.mark.parametrize("software", ALL, ids=str)
def test_a_row_tells_that_something_does_not_work_where_its_test_shows_it(software) -> None:
    _name, works, does_not, _knob = ROWS[software.name]
    # Into a full tunnel goes what has no address, as it means to: no fault of anybody.
    shown = [one for one in software.lost if str(one) != "S -> 64.31.0.51"]
    assert works
    assert bool(does_not) == bool(shown or software.not_mended)
