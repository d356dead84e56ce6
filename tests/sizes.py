"""The two sizes of a run: by itself each promise once, with ``--all`` everything.

A test that is marked ``thorough`` shows in one more place what a test of the default
shows in one: it is left out unless ``--all`` is given, and the end of a run says so.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

import pytest

_left_out = pytest.StashKey[Counter]()
# How a worker of pytest-xdist hands it to the process that reports.
_HANDED = "left out"


def one_each(names: Iterable[str], default: Collection[str], adds: str) -> list[Any]:
    """Parameters of which only the `default` ones are asked without ``--all``."""
    assert set(default) <= set(names), default
    left_out = pytest.mark.thorough(adds)
    return [pytest.param(name, marks=[] if name in default else left_out) for name in names]


# For tests that plant a fault at an operation after the other: how many are passed over.
FAULT_STEPS = pytest.mark.parametrize(
    "step",
    [
        pytest.param(7, id="at every seventh"),
        pytest.param(
            1,
            id="at every one",
            marks=pytest.mark.thorough("faults at every operation, not only at every seventh"),
        ),
    ],
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run the thorough tests too")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_left_out] = Counter()


def reason(item: pytest.Item) -> str | None:
    """What a thorough test adds; None for one of the default.

    A mark ``of`` something counts only where the test is asked of that parameter.
    """
    for marker in item.iter_markers("thorough"):
        of = marker.kwargs.get("of")
        if of is None or item.nodeid.endswith(f"[{of}]"):
            return str(marker.args[0])
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--all"):
        return
    thorough = [item for item in items if reason(item)]
    config.stash[_left_out].update(reason(item) for item in thorough)
    if thorough:
        config.hook.pytest_deselected(items=thorough)
        items[:] = [item for item in items if not reason(item)]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    handed = getattr(session.config, "workeroutput", None)
    if handed is not None:
        handed[_HANDED] = json.dumps(session.config.stash[_left_out])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error) -> None:
    # Each worker has collected the same.
    if told := getattr(node, "workeroutput", {}).get(_HANDED):
        node.config.stash[_left_out] = Counter(json.loads(told))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    left_out = config.stash[_left_out]
    if left_out:
        terminalreporter.section("left out; `sudo tests/run --all` adds")
        for text, count in left_out.items():
            terminalreporter.write_line(f"{count:4} {'tests' if count > 1 else 'test'}: {text}")
