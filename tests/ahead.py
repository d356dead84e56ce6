"""Builds what later tests boot, in the background, while the quick ones run.

A root tree takes half a minute and there are many of them.  `tests/run` starts this
with the least priority.  The test that wants a tree which is not there builds it
itself, and says what is wrong when it cannot.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS.parent / "image-build")]

LOG = "ahead.log"


def _makers(everything: bool) -> Iterator[Callable[[], object]]:
    """In the order in which they are wanted; of tests with ``--all`` when `everything`."""
    from boot.managers.worlds import DEFAULT, WORLDS
    from daemons.roots import TREES, root_tree
    from imagebuild import bake
    from imagebuild.progress import Silent
    from imagebuild.recipe import Recipe

    yield partial(bake.disk_image, Recipe("bookworm", "ifupdown"), Silent())
    yield partial(root_tree, "router")
    for name in DEFAULT:
        yield partial(bake.baked_root, WORLDS[name].recipe, Silent())
    yield from (partial(root_tree, name) for name in TREES)
    if everything:
        yield partial(bake.disk_image, Recipe("trixie", "netplan"), Silent())
        recipes = dict.fromkeys(world.recipe for world in WORLDS.values())
        yield from (partial(bake.baked_root, recipe, Silent()) for recipe in recipes)


def main() -> None:
    from daemons.roots import cache

    cache().mkdir(parents=True, exist_ok=True)
    log = os.open(cache() / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for make in _makers(everything="--all" in sys.argv[1:]):
        try:
            make()
        except Exception:  # the test that needs it meets the same, and tells
            traceback.print_exc()


if __name__ == "__main__":
    main()
