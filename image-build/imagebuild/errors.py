"""The only error of image building: a sentence for the operator."""

from __future__ import annotations


class BuildError(Exception):
    """A failure that the operator can act on; commands print it and exit 1."""
