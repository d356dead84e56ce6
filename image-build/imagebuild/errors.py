"""The one error of image building: a sentence for the person at the terminal."""

from __future__ import annotations


class BuildError(Exception):
    """Something an operator can act on; commands print it and exit 1."""
