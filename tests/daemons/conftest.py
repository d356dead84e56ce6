"""Fixtures of the tests with real daemons."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import Lab, demand, missing_for_lab

from .machine import Machine


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("daemon"):
        demand(missing_for_lab())


@pytest.fixture()
def boot(lab: Lab, tmp_path: Path) -> Iterator[Callable[[str, Path], Machine]]:
    """Start a guest from a root tree in a namespace of the lab; it dies with the test."""
    machines: list[Machine] = []

    def start(netns: str, tree: Path) -> Machine:
        machine = Machine(lab, netns, tree, tmp_path / f"guest{len(machines)}")
        machines.append(machine)
        return machine

    yield start
    for machine in machines:
        machine.stop()
