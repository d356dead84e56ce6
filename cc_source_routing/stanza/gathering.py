"""What cloud-init gathers from the parts of one user-data, as far as our key goes.

Each part is taken as cloud-init takes it: merged into what is there, dropped with
all it has, or put in its place.  Where that depends on what is not in the file (a
URL, what a template is filled with) it is said so, never guessed.  Judges no stanza.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Iterable, List, Optional, Set, Union

from . import merging
from . import parts as cloudparts
from .messages import nearest_key, path_text
from .parse import schema_defaults
from .parts import Part
from .yaml_document import Document, Json, Located, Unbounded, Unreadable, Yaml

KEY = "source_routing"
ABSENT = object()
LineOf = Callable[[str], Optional[int]]
Source = Union[Json, Yaml]

_PATCH_HEADER = "#cloud-config-jsonp"
# Each can double what there is.
_MAX_COPIES = 8


class Gathering:
    """What there is after some parts; `value` is the stanza, or `ABSENT`.

    `take` raises `Unreadable` for a part that cloud-init drops because of a mistake.
    """

    def __init__(self) -> None:
        self.all: Any = {}
        self.documents = 0
        self.lines: List[LineOf] = []  # of the documents that the stanza is of
        self.faults: List[Located] = []  # of their notation
        self.untold: Set[str] = set()
        self.warnings: List[str] = []
        self.unknown: List[str] = []

    @property
    def value(self) -> Any:
        return self.all.get(KEY, ABSENT) if isinstance(self.all, dict) else ABSENT

    def take_all(self, parts: Iterable[Part]) -> None:
        for part in parts:
            self.take(part)

    def take(self, part: Part, within_archive: bool = False) -> None:
        """Do with one part what cloud-init does; what is in an archive it looks at less closely."""
        kind, subject = part.kind, part.title or "it"
        if kind == cloudparts.CONFIG:
            self._take_config(source(part, plain=True), part)
        elif kind == cloudparts.PATCH:
            self._take_patch(part)
        elif kind == cloudparts.TEMPLATE:
            self.unknown.append(f"{subject} is a Jinja template, which the server fills in")
            plain = template(part)
            if plain is not None:
                self._take_config(plain, part, rendered=False)
        elif kind == cloudparts.PART_HANDLER:
            self.unknown.append(f"{subject} is a part handler, which may take what follows")
        elif kind in cloudparts.INCLUDES and within_archive:
            self.warnings.append(f"{subject} of the archive is an #include, which is ignored there")
        elif kind in cloudparts.INCLUDES:
            self.unknown.append(f"{subject} includes what is at URLs")
        elif kind == cloudparts.ARCHIVE and not within_archive:
            self._take_archive(part)

    def _take_config(self, told: Source, part: Part, rendered: bool = True) -> None:
        subject = part.title or "it"
        if told.is_empty:
            return
        refuse_other_than_mapping(told)
        refuse_misspelt(told)
        document = told.take(KEY) if KEY in told.keys else None
        new = {} if document is None else {KEY: document.value}
        if document is not None:
            self.faults += document.faults
            self.untold |= document.untold
        if rendered and (document is None or not document.faults):
            try:
                new = dict(whole(told))
            except Unbounded as error:
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
            raise Unreadable(None, message) from None
        self.documents += 1
        if KEY in new:
            self._compare(before, new[KEY], subject, document)

    def _compare(
        self, before: Any, wanted: Any, subject: str, document: Optional[Document]
    ) -> None:
        """Tell what has become of a part's stanza where another one has one too."""
        line_of = document.line_of if document is not None else _nowhere
        now = self.value
        if before is ABSENT and now is ABSENT:
            raise Unreadable(None, f"cloud-init takes nothing of {subject}: it asks for no dict()")
        if before is ABSENT:
            self.lines = [line_of]
        elif now is ABSENT:
            self.lines = []
            self.warnings.append(f"{subject} takes away the {KEY} that is before it")
        elif now == before:
            if wanted != before:
                self.warnings.append(f"the {KEY} of {subject} has no effect: one before it stays")
        elif now == wanted:
            self.lines = [line_of]
            self.warnings.append(f"the {KEY} of {subject} takes the place of the one before, whole")
        else:
            self.lines.append(line_of)

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
            raise Unreadable(None, f"{message}: {merging.one_line(error)}") from None
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
                f"for: {merging.one_line(error)}"
            )
            return
        self.documents += 1
        if self.value != before:
            self.lines = [_nowhere]

    def _take_archive(self, part: Part) -> None:
        try:
            entries = whole(source(part, plain=True))
            if not isinstance(entries, (list, set)):
                raise Unreadable(1, "is no list of parts")
            for entry in cloudparts.of_archive(entries):
                self.take(entry, within_archive=True)
        except Unbounded as error:
            self.unknown.append(f"the archive {error}")
        except cloudparts.PartError as error:
            message = f"{error}: cloud-init fails at all of this user-data"
            raise Unreadable(None, message) from None


def source(part: Part, plain: bool = False) -> Source:
    """A part's text, to take values from; `plain`: as YAML, which is how cloud-init reads all."""
    if not plain and part.text.lstrip().startswith("{"):
        try:
            return Json(part.text)
        except (ValueError, RecursionError):
            pass  # then it may be YAML in flow style
    return Yaml(part.text, part.offset)


def whole(told: Source) -> Any:
    """All that cloud-init reads there; it drops a document that has anything unreadable."""
    try:
        return told.whole()
    except Unreadable as error:
        line, fault = error.located
        message = f"cloud-init cannot read this document, and drops it: {fault.message}"
        raise Unreadable(line, message) from None


def template(part: Part) -> Optional[Yaml]:
    """What a template has after its first line; None where our key depends on the server."""
    body = part.text.lstrip()
    skipped = part.text[: len(part.text) - len(body)].count("\n")
    if "\n" not in body:
        return None
    rest = body.split("\n", 1)[1]
    if re.search(r"{%-?\s*(if|for|macro|block|set|include|extends)", rest):
        return None
    try:
        told = Yaml(rest, part.offset + skipped + 1 if part.offset >= 0 else -1)
    except Unreadable:
        return None
    return None if told.has_text(KEY, "{{", "{%", "{#") else told


def refuse_other_than_mapping(told: Source) -> None:
    if not told.is_mapping:
        raise Unreadable(1, f"is not a mapping of keys such as {KEY}: true")


def refuse_misspelt(told: Source) -> None:
    """Raise for a key on top that was meant to be ours."""
    if KEY in told.keys:
        return
    own = schema_defaults()
    for key in told.keys:
        if key not in own and nearest_key(key, {KEY: None}, 0.8) == KEY:
            message = f"is not a known key; did you mean {KEY}?"
            raise Unreadable(told.line_of_key(key), message, path_text((key,)))


def _nowhere(_path: str) -> None:
    """The line of what no text of the file has as it stands."""
