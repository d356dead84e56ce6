"""The stanza of the last apply, saved for hooks and the command, and its instance."""

from __future__ import annotations

from pathlib import Path

from ..errors import FileError
from ..files.write import read_text
from ..model import ConfigFile, Stanza
from ..stanza.saved import stanza_from_json, stanza_to_json
from .instance import INSTANCE_PATH, instance_to_save, is_of_another

STANZA_PATH = "/etc/source-routing/stanza.json"
SAVED_PATHS = (STANZA_PATH, INSTANCE_PATH)


def saved_stanza(root: Path) -> Stanza | None:
    """The stanza that was last applied on this server; None when there is none.

    One that a snapshot of another server brought along does not count.
    """
    text = saved_text(root)
    if text is None:
        return None
    try:
        return stanza_from_json(text)
    except ValueError as error:
        raise FileError(f"{STANZA_PATH}: {error}") from error


def saved_text(root: Path) -> str | None:
    """The text that `saved_stanza` parses; None in the same cases."""
    text = read_text(root, STANZA_PATH)
    return None if not text or is_of_another(root) else text


def saved_files(root: Path, stanza: Stanza) -> tuple[ConfigFile, ...]:
    """The files that `saved_stanza` reads, for this server."""
    instance = instance_to_save(root)
    files = (ConfigFile(STANZA_PATH, stanza_to_json(stanza)),)
    return files if instance is None else (*files, ConfigFile(INSTANCE_PATH, f"{instance}\n"))
