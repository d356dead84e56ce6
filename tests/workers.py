"""Which tests stay together when two workers share a run, and in which order they begin.

pytest-xdist hands out groups of tests.  Those that share a booted server are one group;
those that emulate a machine are one, since two machines at a time are slower than one
after the other.
"""

from __future__ import annotations

import re

import pytest

# Files that boot a server for each parameter of their tests.
_SERVERS = re.compile(r"(?P<file>tests/boot/.*\.py)::.*\[(?P<server>[a-z ]+(-[a-z0-9-]+)?)\]")
_MACHINES = "emulated machines"
_QUICK = ("tests/unit/", "tests/shell/", "tests/kernel/")


def group(nodeid: str) -> str:
    """The name of the group of a test; nodeid as pytest has it."""
    match = _SERVERS.fullmatch(nodeid)
    if match is None:
        return nodeid.partition("::")[0]
    if match["server"].endswith("machine"):
        return _MACHINES
    return f"{match['file']}[{match['server']}]"


def rank(item: pytest.Item) -> int:
    """Quick ones first: a fault in the planner should not wait for a booted image.

    Then the emulated machines, the longest group, so that at the end nobody waits for it.
    """
    if item.nodeid.startswith(_QUICK):
        return _QUICK.index(next(folder for folder in _QUICK if item.nodeid.startswith(folder)))
    return len(_QUICK) + (group(item.nodeid) != _MACHINES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Of one group its tests stand together, in their own order.
    begins = {}
    for place, item in enumerate(items):
        begins.setdefault(group(item.nodeid), place)
    items.sort(key=lambda item: (rank(item), begins[group(item.nodeid)]))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class ByServer(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    return ByServer(config, log)
