"""What these tests need, and a guest's own words when one of them fails."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "image-build"))

from imagebuild import cache, command, guest, lab, nspawn, roottree  # noqa: E402
from imagebuild.progress import Progress  # noqa: E402

from lab import demand  # noqa: E402  # isort: skip

NEEDED = {**roottree.PROGRAMS, **lab.PROGRAMS, **nspawn.PROGRAMS}


def pytest_runtest_setup(item: pytest.Item) -> None:
    if not item.get_closest_marker("boot"):
        return
    missing = [f"{name} (package {deb})" for name, deb in command.missing(NEEDED).items()]
    if os.geteuid() != 0:
        missing.append("root")
    demand(missing)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            running = getattr(value, "guest", None)
            if running is not None and running.alive():
                report.sections.append(("the guest's own words", guest.report(running)[:60000]))
    return report


@pytest.fixture(scope="session")
def progress() -> Progress:
    return Progress(sys.__stderr__)


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """A directory on the cache's file system, gone after the module."""
    cache.directory().mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(dir=cache.directory(), prefix="test-"))
    yield path
    shutil.rmtree(path)
