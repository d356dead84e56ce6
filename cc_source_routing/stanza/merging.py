"""Merge one cloud-config into the earlier ones as cloud-init does, by the document's merge type.

The rules are those of cloud-init's ``mergers`` (``merge_how``, the header
Merge-Type, "Merging user-data sections" in its documentation), which are the
same from 22.4 to 26.2; a test compares with those releases.  Pure, and
independent of the stanza.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Callable

from ..text.names import one_line

MergerSpec = tuple[Any, Any]
"""A merger's name and its options, both as the document has them."""

DEFAULT = "dict(replace)+list()+str()"
"""The merge type between the parts of one user-data: a key's last value replaces the others."""

# The exceptions of cloud-init's own code on odd merge types; it then drops the document.
FAILURES = (TypeError, ValueError, LookupError, AttributeError)


class MergeError(Exception):
    """cloud-init cannot merge the document and drops it; the text is a sentence's second half."""


def merger(how: Any, header: str = "") -> Callable[[Any, Any], Any]:
    """``merge(old, new)`` by `how`, a document's ``merge_how``, and its part's Merge-Type.

    Raises `MergeError` for a merge type that cloud-init does not accept.
    """
    try:
        specs = [*_of_document(how), *_of_text(header)] or _of_text(DEFAULT)
        return _Mergers(specs).merge
    except FAILURES as error:
        raise MergeError(one_line(error)) from error


def merged(merge: Callable[[Any, Any], Any], old: Any, new: Any) -> Any:
    """``merge(old, new)``; raises `MergeError` where cloud-init fails with these values."""
    try:
        return merge(old, new)
    except (*FAILURES, RecursionError) as error:
        raise MergeError(one_line(error)) from error


def _of_document(how: Any) -> list[MergerSpec]:
    if how is None:
        return []
    if isinstance(how, str):
        return _of_text(how)
    specs: list[MergerSpec] = []
    for entry in how:
        if isinstance(entry, dict):
            name, options = entry["name"], entry["settings"]
            name = name.replace("-", "_").strip()
        else:
            name, options = entry[0], entry[1:] if len(entry) >= 2 else []
        if name:
            specs.append((name, options))
    return specs


def _of_text(text: str) -> list[MergerSpec]:
    specs: list[MergerSpec] = []
    for piece in text.split("+"):
        name = piece.lower().strip().replace("-", "_")
        if not name:
            continue
        match = re.match(r"(^[a-zA-Z_][A-Za-z0-9_]*)\((.*?)\)$", name)
        if not match:
            raise ValueError(f"{name!r} is no merger")
        options = [option.strip() for option in match[2].strip().split(",") if option.strip()]
        specs.append((match[1], options))
    return specs


class _Mergers:
    """Applies the first listed merger that handles the old value's type."""

    def __init__(self, specs: Sequence[MergerSpec]):
        kinds = {"m_dict": _Dicts, "m_list": _Lists, "m_str": _Strings}
        self.mergers: list[Any] = []
        for name, options in specs:
            name = name if name.startswith("m_") else f"m_{name}"
            if name not in kinds:
                raise ValueError(f"there is no merger {name[2:]!r}")
            self.mergers.append(kinds[name](self.merge, options))

    def merge(self, old: Any, new: Any) -> Any:
        for one in self.mergers:
            if type(old) is one.kind:
                return one.merge(old, new)
        return old


class _Recursive:
    """The options that dicts and lists share: which kinds of inner values to merge."""

    def __init__(self, merge: Callable[[Any, Any], Any], options: Any):
        self.within = merge
        self.strings = "recurse_str" in options
        self.lists = "recurse_array" in options or "recurse_list" in options

    def method(self, options: Any, known: Sequence[str], default: str) -> str:
        return next((name for name in known if name in options), default)


class _Dicts(_Recursive):
    kind = dict

    def __init__(self, merge: Callable[[Any, Any], Any], options: Any):
        super().__init__(merge, options)
        self.replace = self.method(options, ("replace", "no_replace"), "no_replace") == "replace"
        self.delete = "allow_delete" in options

    def merge(self, old: Any, new: Any) -> Any:
        if not isinstance(new, dict):
            return old
        result = dict(old)
        for key, value in new.items():
            if key not in result:
                result[key] = value
            elif value is None and self.delete:
                del result[key]
            elif self.replace:
                result[key] = value
            elif (
                isinstance(value, dict)
                or (isinstance(value, (list, tuple)) and self.lists)
                or (isinstance(value, str) and self.strings)
            ):
                result[key] = self.within(result[key], value)
        return result


class _Lists(_Recursive):
    kind = list

    def __init__(self, merge: Callable[[Any, Any], Any], options: Any):
        super().__init__(merge, options)
        known = ("append", "prepend", "replace", "no_replace")
        self.how = self.method(options, known, "replace")
        self.dicts = "recurse_dict" in options

    def merge(self, old: Any, new: Any) -> Any:
        if self.how == "replace" and not isinstance(new, (tuple, list)):
            return new
        if self.how == "prepend":
            return [*new, *old]
        if self.how == "append":
            return [*old, *new]
        both = min(len(old), len(new))
        if self.how == "no_replace":
            return list(old)
        return [self.one(old[at], new[at]) for at in range(both)] + list(old[both:])

    def one(self, old: Any, new: Any) -> Any:
        if (
            (isinstance(new, (list, tuple)) and self.lists)
            or (isinstance(new, str) and self.strings)
            or (isinstance(new, dict) and self.dicts)
        ):
            return self.within(old, new)
        return new


class _Strings:
    kind = str

    def __init__(self, _merge: Callable[[Any, Any], Any], options: Any):
        self.append = "append" in options

    def merge(self, old: Any, new: Any) -> Any:
        return old + new if self.append else new
