"""Make systemd forget removed unit files: it keeps the units that it has loaded until a reload.

Only after a removal.  Units that an apply has written are loaded when they are started, and
a reload runs all generators, on a first boot for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

UNITS_PATH = "/etc/systemd/system/"
SERVICE = "source-routing-daemon-reload.service"
# A transient unit, since a reload may take longer than the boot can wait.
RELOAD = (
    *("systemd-run", "--quiet", "--collect", "--no-block", f"--unit={SERVICE}"),
    "--service-type=oneshot",
    "--description=Tell systemd that unit files of source routing are gone",
    *("systemctl", "daemon-reload"),
)


def after(written: Iterable[str], removed: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """The reload command if a unit file was removed."""
    return (RELOAD,) if any(path.startswith(UNITS_PATH) for path in removed) else ()
