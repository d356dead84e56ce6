"""Builds what later tests boot, in the background, while the quick ones run.

A root tree takes a minute and there are many of them; the quick tests leave a
core idle.  A process of its own, of the least priority, puts them into the cache
in the order in which they are needed; the test that wants one waits for it there
or builds it itself, and tells what is wrong when it cannot.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS.parent / "image-build")]

if TYPE_CHECKING:
    import pytest

# Directories of tests that need trees and images, in the order in which they run.
HUNGRY = ("daemons", "images", "boot")
LOG = "ahead.log"


def begin(items: Sequence[pytest.Item]) -> subprocess.Popen[bytes] | None:
    """Start it where it is worth it: when there are quick tests, and others after them."""
    selected = {
        item.path.relative_to(TESTS).parts[0] for item in items if TESTS in item.path.parents
    }
    wanted = [name for name in HUNGRY if name in selected]
    if os.geteuid() or not wanted or "kernel" not in selected:
        return None
    argv = ["nice", "-n", "15", sys.executable, str(TESTS / "ahead.py"), *wanted]
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)


def end(process: subprocess.Popen[bytes] | None) -> None:
    """Stop it with all that it has started; what is whole stays in the cache."""
    if process is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    process.wait(timeout=60)


def _makers(wanted: Sequence[str]) -> Iterator[Callable[[], object]]:
    from boot.managers.worlds import WORLDS
    from daemons.roots import TREES, root_tree
    from imagebuild import bake
    from imagebuild.progress import Silent
    from imagebuild.recipe import Recipe
    from images.conftest import RECIPES

    if "daemons" in wanted:
        yield from (partial(root_tree, name) for name in TREES)
    if "images" in wanted:
        yield from (partial(bake.baked_root, recipe, Silent()) for recipe in RECIPES.values())
    if "boot" in wanted:
        yield partial(bake.disk_image, Recipe("bookworm", "ifupdown"), Silent())
        recipes = dict.fromkeys(world.recipe for world in WORLDS.values())
        yield from (partial(bake.baked_root, recipe, Silent()) for recipe in recipes)
        yield partial(bake.disk_image, Recipe("trixie", "netplan"), Silent())


def main(wanted: Sequence[str]) -> None:
    from daemons.roots import cache

    cache().mkdir(parents=True, exist_ok=True)
    log = os.open(cache() / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    with contextlib.suppress(OSError):
        # A session is a scheduling group of its own, in which niceness counts for nothing
        # outside of it (sched(7), autogroup).
        Path("/proc/self/autogroup").write_text("15")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for make in _makers(wanted):
        try:
            make()
        except Exception:  # the test that needs it meets the same, and tells
            traceback.print_exc()


if __name__ == "__main__":
    main(sys.argv[1:])
