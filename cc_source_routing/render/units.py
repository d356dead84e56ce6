"""systemd's own view of unit files that are gone: it keeps what it has read until it reads anew.

Only when some were removed.  What an apply has written is loaded as it is started, and a
reload runs all generators, at a first boot for nothing.
"""

from __future__ import annotations

from typing import Iterable, Tuple

UNITS_PATH = "/etc/systemd/system/"
SERVICE = "source-routing-daemon-reload.service"
# A job of its own: it may take longer than a boot can wait.
RELOAD = (
    *("systemd-run", "--quiet", "--collect", "--no-block", f"--unit={SERVICE}"),
    "--service-type=oneshot",
    "--description=Tell systemd that unit files of source routing are gone",
    *("systemctl", "daemon-reload"),
)


def after(written: Iterable[str], removed: Iterable[str]) -> Tuple[Tuple[str, ...], ...]:
    """The command, if there is a reason for it."""
    return (RELOAD,) if any(path.startswith(UNITS_PATH) for path in removed) else ()
