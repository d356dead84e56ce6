"""cloud-init's modules before and after: ours is added to what the image has, none is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import SUITES
from .overlay import Overlay, listed_modules

pytestmark = pytest.mark.daemon


@pytest.mark.parametrize("suite", SUITES)
def test_ours_is_added_and_none_is_lost(
    suite: str,
    plain: Callable[[str], Path],
    baked: Callable[[str], Path],
    overlay: Callable[[Path], Overlay],
) -> None:
    before, after = (listed_modules(overlay(tree(suite))) for tree in (plain, baked))
    assert "source_routing" not in before and len(before) >= 10
    assert after == [*before, "source_routing"]
