"""Install the programs that the builders need on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..command import missing, run
from ..errors import BuildError
from ..progress import Progress


def ensure(programs: Mapping[str, str], progress: Progress) -> list[str]:
    """Install the Debian packages of those `programs` that are missing; returns their names.

    Without recommended packages, which could bring services.
    """
    packages = sorted(set(missing(programs).values()))
    if not packages:
        return []
    if os.geteuid() != 0:
        raise BuildError(f"missing on this machine: apt-get install {' '.join(packages)}")
    if missing({"apt-get": "apt"}):
        raise BuildError(f"this machine has no apt-get; install what has {', '.join(programs)}")
    progress.say(f"This machine lacks {' '.join(packages)}.")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with progress.step("installing them with apt-get"):
        run(["apt-get", "-q", "update"], timeout=600, env=environment)
        install = ["apt-get", "-q", "-y", "--no-install-recommends", "install", *packages]
        run(install, timeout=1800, env=environment)
    return packages
