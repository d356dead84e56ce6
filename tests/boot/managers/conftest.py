"""The table of what network managers' events have cost, at the end of the run."""

from __future__ import annotations

import pytest

from .results import LEGEND, measured, table


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found = [
        one
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, ())
        for one in measured(getattr(report, "user_properties", ()))
    ]
    if found:
        terminalreporter.section("what happened to the network managers")
        terminalreporter.write_line(LEGEND)
        terminalreporter.write_line(table(found))
