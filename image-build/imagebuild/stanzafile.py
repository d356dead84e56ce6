"""Read the ``--default-stanza`` argument: a file, or the keyword for the shortest stanza."""

from __future__ import annotations

from pathlib import Path

from .errors import BuildError


def read(argument: str | None) -> str | None:
    """The cloud-config text of a default stanza; None if there is none to set."""
    if argument is None:
        return None
    if argument in ("true", "false"):
        return f"#cloud-config\nsource_routing: {argument}\n"
    try:
        return Path(argument).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BuildError(f"{argument}: {error}") from error
