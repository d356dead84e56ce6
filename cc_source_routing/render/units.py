"""The units of the event path, the same for every network manager, and what systemd is told.

``source-routing.socket`` listens to the kernel and to a pipe by which hooks say "look", and
starts ``source-routing follow``; ``source-routing.path`` watches leases.  Packages and images
have these units in /usr.  Where they have none (pip), they are written to /etc.  They do
nothing as long as `FOLLOW_PATH` does not exist.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from importlib.resources import files as resources
from pathlib import Path

from ..files.write import leftovers
from ..model import ConfigFile
from .common import HEADER
from .evidence import names, text, unit
from .hooks import existing

FOLLOW_PATH = "/etc/source-routing/follow"
FOLLOW_TEXT = (
    "# While this file is there, source-routing.socket listens for what happens to the network.\n"
    "# `source-routing apply` writes it, and `source-routing remove` removes it.\n"
)
SHIPPED_PATH = "/usr/lib/systemd/system"
UNITS_PATH = "/etc/systemd/system"
WANTS_PATH = f"{UNITS_PATH}/multi-user.target.d/50-source-routing.conf"
LISTENING = ("source-routing.socket", "source-routing.path")
FOLLOWER = "source-routing.service"
NAMES = (*LISTENING, FOLLOWER, "source-routing-look.service", "source-routing-again.service")

START = ("systemctl", "--no-block", "start", *LISTENING)
STOP = ("systemctl", "--no-block", "stop", *LISTENING, FOLLOWER)

# systemd keeps the units that it has loaded until a reload.  Only after a removal: units that
# an apply has written are loaded when they are started, and a reload runs all generators, on a
# first boot for nothing.  A transient unit, since a reload may take longer than the boot can
# wait.
RELOAD_UNIT = "source-routing-daemon-reload.service"
RELOAD = (
    *("systemd-run", "--quiet", "--collect", "--no-block", f"--unit={RELOAD_UNIT}"),
    "--service-type=oneshot",
    "--description=Tell systemd that unit files of source routing are gone",
    *("systemctl", "daemon-reload"),
)

# Of version 0.1.0, which had units for each network manager.
OLD_NAMES = tuple(
    f"{UNITS_PATH}/source-routing-{name}"
    for name in (
        *("link.socket", "link.service", "link-again.service"),
        *("router.socket", "router.service", "router-again.service"),
        *("networkd.path", "networkd.service"),
    )
)
OLD_MANAGERS = ("networking", "NetworkManager", "systemd-networkd")
OLD_PATHS = (
    *OLD_NAMES,
    *(f"{UNITS_PATH}/{name}.service.d/50-source-routing.conf" for name in OLD_MANAGERS),
    *(f"/etc/source-routing/{name}-event" for name in ("link", "router", "networkd")),
)
# What its scripts noted: files with these names, and more of them for each NIC.
STATE_PATH = "/run/source-routing"
OLD_STATES = ("link-event", "router-event", "networkd-", "revived.", "pending.")


def follow_files(root: Path) -> tuple[ConfigFile, ...]:
    """What has the last apply in `root` kept true."""
    condition = ConfigFile(FOLLOW_PATH, FOLLOW_TEXT)
    if os.path.lexists(root / f"{SHIPPED_PATH}/{LISTENING[0]}".lstrip("/")):
        return (condition,)
    units = (name for name in NAMES if not unit(root, name).masked)
    return (
        condition,
        *(ConfigFile(f"{UNITS_PATH}/{name}", _content(name)) for name in units),
        ConfigFile(WANTS_PATH, _content("wants.conf")),
    )


def warnings(root: Path) -> tuple[str, ...]:
    """What keeps the event path from working."""
    masked = [name for name in (LISTENING[0], FOLLOWER) if unit(root, name).masked]
    return tuple(
        f"{name} is masked: nothing will restore the routes after a flap" for name in masked
    )


def owned(root: Path) -> tuple[str, ...]:
    """Paths of existing files that any run of this version, or of an earlier one, wrote."""
    units = (path for path in (f"{UNITS_PATH}/{name}" for name in NAMES) if _is_ours(root, path))
    return (*units, *existing(root, (FOLLOW_PATH, WANTS_PATH, *OLD_PATHS)), *_old_states(root))


def _is_ours(root: Path, path: str) -> bool:
    """Whether we wrote this unit in /etc; `systemctl mask` and `edit --full` have others there."""
    return text(root, path).startswith(HEADER) or bool(leftovers(root, path))


def _old_states(root: Path) -> tuple[str, ...]:
    found = names(root, STATE_PATH)
    return tuple(f"{STATE_PATH}/{name}" for name in found if name.startswith(OLD_STATES))


def after(written: Iterable[str], removed: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """The commands that start or stop listening, and have systemd forget removed units."""
    gone = tuple(removed)
    commands: list[tuple[str, ...]] = []
    if any(path == FOLLOW_PATH or _is_unit(path) for path in written):
        commands.append(START)
    if FOLLOW_PATH in gone:
        commands.append(STOP)
    # Not the services: this may be run by one of them.
    old = [os.path.basename(p) for p in gone if p in OLD_NAMES and not p.endswith(".service")]
    if old:
        commands.append(("systemctl", "--no-block", "stop", *old))
    if any(map(_is_unit, gone)):
        commands.append(RELOAD)
    return tuple(commands)


def _is_unit(path: str) -> bool:
    return path.startswith(f"{UNITS_PATH}/")


@cache
def _content(name: str) -> str:
    """A unit as it is written to /etc."""
    data = resources("cc_source_routing").joinpath("systemd").joinpath(name)
    return HEADER + data.read_text(encoding="utf-8")
