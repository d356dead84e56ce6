"""Releases of a library from the package index, each in a directory of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def cached(package: str, version: str) -> Path:
    """That release and what it needs, fetched once for this Python: some of it is compiled."""
    default = Path.home() / ".cache/source-routing"
    cache = Path(os.environ.get("SOURCE_ROUTING_CACHE", default))
    target = cache / f"{package}-{version}-{sys.implementation.cache_tag}"
    if not (target / package).is_dir():
        argv = [sys.executable, "-m", "pip", "install", "-q", "--target", str(target)]
        subprocess.run([*argv, f"{package}=={version}"], check=True)
    return target
