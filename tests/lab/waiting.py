"""Waiting for what has to come.

A test fails when a thing does not come, never because it comes late: the bound is one
that only a hang exceeds, on a machine with other things to do.  What a wait took is what
`wait_until` returns, for those who report it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_SECONDS = 60.0


def wait_until(
    condition: Callable[[], object],
    seconds: float = PATIENCE_SECONDS,
    story: Callable[[], object] = str,
) -> float:
    """Seconds until `condition` held; an `AssertionError` with the `story` when it never does."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            raise AssertionError(f"not within {seconds:.0f} s: {condition}\n{story()}")
        time.sleep(0.05)
    return time.monotonic() - started


def comes_true(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> bool:
    """Whether `condition` comes to hold."""
    try:
        wait_until(condition, seconds)
    except AssertionError:
        return False
    return True
