"""Roots of three Debian releases to work on, and packages to put into them."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "image-build"))

from imagebuild import bake, cache, command, disk, package, recipe, roottree  # noqa: E402
from imagebuild.progress import Progress  # noqa: E402

from lab import demand  # noqa: E402  # isort: skip

from .. import former  # noqa: E402
from .overlay import Overlay  # noqa: E402

# The recipes that other tests use too: each root is built once.
RECIPES = {
    "bookworm": recipe.Recipe("bookworm", "ifupdown"),
    "trixie": recipe.Recipe("trixie", "netplan", kernel=False),
    # Its netplan insists on udev, which containers lack.
    "sid": recipe.Recipe("sid", "networkd", kernel=False),
}
SID = pytest.param("sid", marks=pytest.mark.thorough("images of Debian sid"))
SUITES = ["bookworm", "trixie", SID]
BUILDERS = {
    **roottree.PROGRAMS,
    **disk.PROGRAMS,
    **package.PROGRAMS,
    "unshare": "util-linux",
    "lintian": "lintian",
    "rpmbuild": "rpm",
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("daemon"):
        lacking = command.missing(BUILDERS)
        missing = [f"{name} (package {deb})" for name, deb in lacking.items()]
        demand(missing + ([] if os.geteuid() == 0 else ["root"]))


@pytest.fixture(scope="session")
def progress() -> Progress:
    return Progress(sys.__stderr__)


@pytest.fixture(scope="session")
def plain(progress: Progress) -> Callable[[str], Path]:
    """Debian as it comes, by suite; to be left as it is."""
    return lambda suite: roottree.base(RECIPES[suite], progress)


@pytest.fixture(scope="session")
def baked(progress: Progress) -> Callable[[str], Path]:
    """The same with the module in it, cleaned; to be left as it is."""
    return lambda suite: bake.baked_root(RECIPES[suite], progress)


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """A directory on the cache's file system; overlays cannot be where pytest's own are."""
    cache.directory().mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(dir=cache.directory(), prefix="test-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package.build(tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="session")
def former_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout of 0.1.0."""
    return former.export(tmp_path_factory.mktemp("former"))


@pytest.fixture
def overlay(scratch: Path) -> Iterator[Callable[[Path], Overlay]]:
    """Overlays over given trees, gone after the test."""
    made: list[Overlay] = []

    def make(lower: Path) -> Overlay:
        made.append(Overlay(lower, scratch / f"overlay-{len(made)}"))
        return made[-1]

    yield make
    for one in made:
        shutil.rmtree(one.scratch)
