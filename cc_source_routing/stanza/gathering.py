"""Combine the parts of one user-data as cloud-init does, for our key.

Each part is handled as in cloud-init: merged into the earlier ones, dropped as a
whole, or put in their place.  Where that depends on something outside the file (a
URL, the values of a template), the result says so and guesses nothing.
"""

from __future__ import annotations

import re
from typing import Any

from ..errors import Fault, StanzaError, stanza_error
from ..model import Stanza
from ..text.names import one_line
from . import KEY, merging, parts
from .bounded import Oversize
from .messages import nearest_key, path_text
from .parse import check_stanza, refuse, schema_defaults
from .parts import Part
from .yaml_document import Document, Yaml

_ABSENT = object()

_PATCH_HEADER = "#cloud-config-jsonp"
# Each copy operation of a JSON patch can double the size of the value.
_MAX_COPIES = 8
_STATEMENT = re.compile(r"{%-?\s*(if|for|macro|block|set|include|extends)")
_EXPRESSION = re.compile(r"{[{%#]")


class Gathering:
    """The combination of the parts so far; `value` is the stanza, or `_ABSENT`.

    `take` raises `StanzaError` for a part that cloud-init drops because of an error.
    """

    def __init__(self) -> None:
        self.all: Any = {}
        self.documents = 0
        self.sources: list[Document] = []  # documents with line numbers that form the stanza
        self.faults: list[Fault] = []  # faults of the YAML notation
        self.unread: set[str] = set()
        self.warnings: list[str] = []
        self.unknown: list[str] = []

    @property
    def value(self) -> Any:
        return self.all.get(KEY, _ABSENT) if isinstance(self.all, dict) else _ABSENT

    def take(self, part: Part, within_archive: bool = False) -> None:
        """Handle one part as cloud-init does, which handles fewer kinds within an archive."""
        kind, subject = part.kind, part.title or "it"
        if kind == parts.CONFIG:
            self.take_config(Yaml(part.text, part.offset), part)
        elif kind == parts.PATCH:
            self._take_patch(part)
        elif kind == parts.TEMPLATE:
            self.unknown.append(f"{subject} is a Jinja template, which the server fills in")
            plain = _plain(part)
            if plain is not None:
                self.take_config(plain, part, is_template=True)
        elif kind == parts.PART_HANDLER:
            self.unknown.append(f"{subject} is a part handler, which may take what follows")
        elif kind in parts.INCLUDES and within_archive:
            self.warnings.append(f"{subject} of the archive is an #include, which is ignored there")
        elif kind in parts.INCLUDES:
            self.unknown.append(f"{subject} includes what is at URLs")
        elif kind == parts.ARCHIVE and not within_archive:
            self._take_archive(part)

    def take_options(self, options: Yaml) -> None:
        """Take a text that is the stanza itself."""
        _refuse_other_than_config(options)
        document = self._noted(options.take(None))
        self.all, self.sources = {KEY: document.value}, [document]

    def take_config(self, config: Yaml, part: Part, is_template: bool = False) -> None:
        """Merge a cloud-config into the earlier parts; of a template only our key is known."""
        subject = part.title or "it"
        if config.is_empty:
            return
        _refuse_other_than_config(config)
        document = self._noted(config.take(KEY)) if KEY in config.keys else None
        new = {} if document is None else {KEY: document.value}
        if not is_template and (document is None or not document.faults):
            try:
                new = dict(_whole(config))
            except Oversize as error:
                self.unknown.append(f"{subject} {error}")
        if part.by_launch_index or "launch-index" in new:
            self.unknown.append(f"{subject} is for the server of its launch-index alone")
        how = new.pop("merge_how", None)
        how = new.pop("merge_type", None) if how is None else how
        before = self.value
        try:
            merge = merging.merger(how, part.merge_type)
            self.all = merging.merged(merge, self.all, new)
        except merging.MergeError as error:
            message = f"cloud-init cannot merge {subject} as it asks for, and drops it: {error}"
            raise stanza_error(message) from None
        self.documents += 1
        if KEY in new:
            self._compare(before, new[KEY], subject, [document] if document else [])

    def stanza(self) -> Stanza | None:
        """The valid stanza, if there is one; raises for its faults and those of its notation."""
        stanza, faults, more = None, list(self.faults), 0
        if self.value is not _ABSENT:
            stanza, found, more = check_stanza(self.value, self.unread)
            faults += [fault._replace(line=self._line_of(fault.path)) for fault in found]
        refuse(sorted(faults, key=lambda fault: fault.line or 0), more)
        return stanza

    def _line_of(self, path: str) -> int | None:
        """The line of a dotted path, in the last part that has it."""
        lines = (source.line_of(path) for source in reversed(self.sources))
        return next((line for line in lines if line), None)

    def _noted(self, document: Document) -> Document:
        self.faults += document.faults
        self.unread |= document.unread
        return document

    def _compare(self, before: Any, wanted: Any, subject: str, document: list[Document]) -> None:
        """Warn about the effect of a part's stanza where an earlier part has one too."""
        now = self.value
        if before is _ABSENT and now is _ABSENT:
            raise stanza_error(f"cloud-init takes nothing of {subject}: it asks for no dict()")
        if before is _ABSENT:
            self.sources = document
        elif now is _ABSENT:
            self.sources = []
            self.warnings.append(f"{subject} takes away the {KEY} that is before it")
        elif now == before:
            if wanted != before:
                self.warnings.append(f"the {KEY} of {subject} has no effect: one before it stays")
        elif now == wanted:
            self.sources = document
            self.warnings.append(f"the {KEY} of {subject} takes the place of the one before, whole")
        else:
            self.sources = [*self.sources, *document]

    def _take_patch(self, part: Part) -> None:
        subject = part.title or "it"
        try:
            import jsonpatch
        except ImportError:
            self.unknown.append(f"{subject} is a JSON patch, and python3-jsonpatch is missing here")
            return
        failures = (
            jsonpatch.JsonPatchException,
            jsonpatch.JsonPointerException,
            *merging.FAILURES,
            RecursionError,
        )
        text = part.text.lstrip()
        text = text[len(_PATCH_HEADER) :] if text.startswith(_PATCH_HEADER) else text
        try:
            patch = jsonpatch.JsonPatch.from_string(text)
            copies = sum(operation.get("op") == "copy" for operation in patch)
        except failures as error:
            message = f"{subject} is no JSON patch, and cloud-init drops it"
            raise stanza_error(f"{message}: {one_line(error)}") from None
        if copies > _MAX_COPIES:
            self.unknown.append(f"{subject} is a JSON patch that copies a lot")
            return
        before = self.value
        try:
            self.all = patch.apply(self.all)
        except failures as error:
            patch_of = f"the JSON patch of {subject}" if part.title else "this JSON patch"
            self.warnings.append(
                f"cloud-init drops {patch_of} unless a part that is not here has what it asks "
                f"for: {one_line(error)}"
            )
            return
        self.documents += 1
        if self.value != before:
            self.sources = []  # the patched value does not occur literally in the file

    def _take_archive(self, part: Part) -> None:
        try:
            entries = _whole(Yaml(part.text, part.offset))
        except Oversize as error:
            self.unknown.append(f"the archive {error}")
            return
        if not isinstance(entries, (list, set)):
            raise stanza_error("is no list of parts", 1)
        for entry in parts.of_archive(entries):
            self.take(entry, within_archive=True)


def _whole(config: Yaml) -> Any:
    """The whole document; cloud-init drops one in which anything is unreadable."""
    try:
        return config.whole()
    except StanzaError as error:
        (fault,) = error.faults
        message = f"cloud-init cannot read this document, and drops it: {fault.message}"
        raise stanza_error(message, fault.line) from None


def _plain(part: Part) -> Yaml | None:
    """A template's text after its first line; None where our key depends on the server."""
    rest = part.text.lstrip().partition("\n")[2]
    if parts.kind_of(rest) != parts.CONFIG or _STATEMENT.search(rest):
        return None
    lines = part.text.count("\n") - rest.count("\n")
    try:
        config = Yaml(rest, part.offset + lines if part.offset >= 0 else -1)
    except StanzaError:
        return None
    if KEY in config.keys:
        document = config.take(KEY)
        # YAML reads an unquoted {{ x }} as a mapping within a mapping.
        if document.unread or _EXPRESSION.search(repr(document.value)):
            return None
    return config


def _refuse_other_than_config(document: Yaml) -> None:
    """Raise for what is no mapping, and for a misspelling of our key on top."""
    if not document.is_mapping:
        raise stanza_error(f"is not a mapping of keys such as {KEY}: true", 1)
    own = schema_defaults()
    for key, (at, _value) in document.keys.items() if KEY not in document.keys else ():
        if key not in own and nearest_key(key, {KEY: None}, 0.8) == KEY:
            message = f"is not a known key; did you mean {KEY}?"
            raise stanza_error(message, document.line_of(at), path_text((key,)))
