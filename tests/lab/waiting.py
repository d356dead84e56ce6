"""Wait for conditions.

A test fails if a condition never holds, not because it holds late: only a hang exceeds
the limit, even on a busy machine.  `wait_until` returns the time it took, for tests that
report it.
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
    """Seconds until `condition` held; `AssertionError` with the `story` if it never does."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            raise AssertionError(f"not within {seconds:.0f} s: {condition}\n{story()}")
        time.sleep(0.05)
    return time.monotonic() - started


def comes_true(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> bool:
    """Whether `condition` holds within `seconds`."""
    try:
        wait_until(condition, seconds)
    except AssertionError:
        return False
    return True
