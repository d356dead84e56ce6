"""What all tests share: their order, what the kernel tests need, the lab."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).resolve().parent
for _path in (TESTS.parent, TESTS):
    if str(_path) not in sys.path:
        sys.path.insert(0, str(_path))

from lab import Lab, demand, missing_for_lab  # noqa: E402
from lab.netns import reap  # noqa: E402

from . import results  # noqa: E402

pytest_plugins = ["tests.sizes", "tests.workers"]

# Nothing fails for being slow: the machine may be busy.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_report_header(config: pytest.Config) -> str:
    return f"random tests: --hypothesis-seed={config.getoption('hypothesis_seed')}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What tells of times happens as often as they are asked for."""
    if results.REPEAT > 1 and metafunc.definition.get_closest_marker("repeats"):
        metafunc.fixturenames.append("_time")
        metafunc.parametrize("_time", range(results.REPEAT))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("kernel"):
        demand(missing_for_lab())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found = [
        one
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, ())
        for one in results.measured(getattr(report, "user_properties", ()))
    ]
    if found:
        terminalreporter.section("what events have cost servers")
        terminalreporter.write_line(results.LEGEND)
        terminalreporter.write_line(results.table(found))


@pytest.fixture(scope="session")
def _no_leftovers() -> None:
    """Namespaces of an earlier session that was killed go first."""
    reap()


@pytest.fixture()
def lab(_no_leftovers: None) -> Iterator[Lab]:
    """An empty lab of network namespaces; it is gone after the test, whatever happens."""
    with Lab() as opened:
        yield opened


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """A name for bytes that is the same in each worker, which xdist asks for.

    What is in them need not be: gzip writes the time down.
    """
    return argname if isinstance(val, bytes) else None
