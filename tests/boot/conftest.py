"""What booting needs, and a guest's own words when a test of it fails."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "image-build"))

from imagebuild import (  # noqa: E402
    bake,
    cache,
    command,
    disk,
    recipe,
    roottree,
)
from imagebuild.lab import config_drive, guest, network, nspawn, qemu  # noqa: E402
from imagebuild.progress import Progress  # noqa: E402

from lab import demand  # noqa: E402  # isort: skip

from . import story, times  # noqa: E402

BUILDERS = {**roottree.PROGRAMS, **disk.PROGRAMS}
BOOTERS = {**network.PROGRAMS, **nspawn.PROGRAMS, **qemu.PROGRAMS, **config_drive.PROGRAMS}


def pytest_runtest_setup(item: pytest.Item) -> None:
    if not item.get_closest_marker("boot"):
        return
    lacking = command.missing({**BUILDERS, **BOOTERS})
    missing = [f"{name} (package {deb})" for name, deb in lacking.items()]
    if os.geteuid() != 0:
        missing.append("root")
    demand(missing)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A container has this machine's kernel: what needs another is not asked of it."""
    others = [item for item in items if item.get_closest_marker("own_kernel")]
    left_out = [item for item in others if not item.get_closest_marker("machine")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


_reports = pytest.StashKey[list]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            running = getattr(value, "guest", None)
            if running is not None and running.alive():
                report.sections.append(("the guest's own words", guest.report(running)[:60000]))
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    handed = getattr(session.config, "workeroutput", None)
    if handed is not None:
        times.hand_over(handed)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error) -> None:
    times.take_over(getattr(node, "workeroutput", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if times.NOTED:
        terminalreporter.section("how long boots took, in seconds")
        terminalreporter.write_line(times.table(times.NOTED))


@pytest.fixture(autouse=True)
def no_unit_has_failed() -> Iterator[None]:
    """Whatever a test does to a server, no unit of it is failed afterwards."""
    yield
    assert story.failed_units() == []


@pytest.fixture(scope="session")
def progress() -> Progress:
    return Progress(sys.__stderr__)


@pytest.fixture(scope="session")
def bookworm(progress: Progress) -> Path:
    """A baked root tree of Debian 12 with ifupdown; to be left as it is."""
    return bake.baked_root(recipe.Recipe("bookworm", "ifupdown"), progress)


@pytest.fixture(scope="session")
def bookworm_disk(progress: Progress) -> Path:
    """The same as a disk image."""
    return bake.disk_image(recipe.Recipe("bookworm", "ifupdown"), progress)


@pytest.fixture(scope="session")
def trixie_disk(progress: Progress) -> Path:
    """A disk image of Debian 13 with netplan."""
    return bake.disk_image(recipe.Recipe("trixie", "netplan"), progress)


@pytest.fixture(scope="session")
def plain_bookworm(progress: Progress) -> Path:
    """The root tree before anything of ours is in it; to be left as it is."""
    return roottree.base(recipe.Recipe("bookworm", "ifupdown"), progress)


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """A directory on the cache's file system, where root trees can be copied quickly.

    Not pytest's own: that one keeps the trees of three sessions.
    """
    cache.directory().mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(dir=cache.directory(), prefix="test-"))
    yield path
    shutil.rmtree(path)
