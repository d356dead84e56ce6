"""Write a file atomically.

Part of the installer, and shipped to images beside `register`: the standard
library alone.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def replace(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write `path` atomically: at any moment it has its old or its new content."""
    # A hidden name, so that programs that read all *.cfg of a directory ignore it.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(content)
            os.fchmod(handle.fileno(), mode)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
