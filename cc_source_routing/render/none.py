"""The renderer that writes nothing: only the live kernel is configured."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..model import ConfigFile, RoutingPlan
from . import Evidence


def available(root: Path) -> Evidence:
    return Evidence(True, "asked for")


def inspect(root: Path, plan: RoutingPlan) -> Any:
    return None


def render(plan: RoutingPlan, facts: Any) -> tuple[ConfigFile, ...]:
    return ()


def owned(root: Path) -> tuple[str, ...]:
    return ()


def warnings(plan: RoutingPlan, facts: Any) -> tuple[str, ...]:
    return ()


def after(written: Iterable[str], removed: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    return ()
