"""Split user-data into parts and determine their types as cloud-init does.

The rules are those of cloud-init's ``user_data.py`` and ``handlers``: the first
line decides, and in MIME the declared type, unless it is text/plain.  Archives
are not unpacked recursively.  The content is not validated here.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, NamedTuple

from ..errors import StanzaError, stanza_error

CONFIG = "text/cloud-config"
PATCH = "text/cloud-config-jsonp"
ARCHIVE = "text/cloud-config-archive"
TEMPLATE = "text/jinja2"
INCLUDE = "text/x-include-url"
INCLUDE_ONCE = "text/x-include-once-url"
INCLUDES = (INCLUDE, INCLUDE_ONCE)
PART_HANDLER = "text/part-handler"
UNKNOWN = "text/x-not-multipart"

_BOMS = {
    b"\xff\xfe": "is UTF-16",
    b"\xfe\xff": "is UTF-16",
    b"\xef\xbb\xbf": "begins with a byte order mark, so cloud-init would not see its first line",
}
# Where one is a prefix of another, the longer one comes first.
_BEGINNINGS = (
    ("#cloud-config-archive", ARCHIVE),
    ("#cloud-config-jsonp", PATCH),
    ("## template: jinja", TEMPLATE),
    ("#cloud-boothook", "text/cloud-boothook"),
    ("#cloud-config", CONFIG),
    ("#part-handler", PART_HANDLER),
    ("#include-once", INCLUDE_ONCE),
    ("#include", INCLUDE),
    ("#!", "text/x-shellscript"),
)
# For these declared types the first line decides.
_UNDECIDED = ("text/plain", UNKNOWN, "text/x-shellscript")
_COMPRESSED = tuple(
    f"application/{name}"
    for name in (
        "gzip gzip-compressed gzipped x-compress x-compressed x-gunzip x-gzip x-gzip-compressed"
    ).split()
)
# Keys of an archive's entry that are not headers of its part.
_NO_HEADERS = ("content", "filename", "type", "content-disposition", "content-type")
# The number of bytes in which cloud-init looks for MIME-Version.
_MIME_WITHIN = 4096
MAX_BYTES = 1 << 20
"""Metadata services give 16 to 64 KiB of user-data; more than this is something else."""
MAX_PARTS = 1000
"""Limits the work of merging: the number of parts times the size of the merged value."""


class Part(NamedTuple):
    """One text that cloud-init passes to the handler of its type."""

    text: str
    kind: str  # a content type
    offset: int = 0  # lines of the file before it; -1: not literally in the file
    headers: Mapping[str, str] = {}
    title: str = ""  # its name in messages; empty for the whole file

    @property
    def merge_type(self) -> str:
        return str(self.headers.get("Merge-Type") or self.headers.get("X-Merge-Type") or "")

    @property
    def by_launch_index(self) -> bool:
        return any(name.lower() == "launch-index" for name in self.headers)


def text_of(data: bytes) -> str:
    """The text of a file of user-data, unpacked; raises `StanzaError` if it has none."""
    if data.startswith(b"\x1f\x8b"):
        data = _unpacked(data, "is gzip")
    if len(data) > MAX_BYTES:
        raise stanza_error(f"is larger than {MAX_BYTES >> 20} MiB, which is no user-data")
    for mark, fault in _BOMS.items():
        if data.startswith(mark):
            raise stanza_error(f"{fault}; save it as UTF-8 without a byte order mark", 1)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise stanza_error(f"is not UTF-8: byte 0x{data[error.start]:02x}", line) from None


def kind_of(text: str, default: str = UNKNOWN) -> str:
    """The type that cloud-init derives from the beginning of a text."""
    start = text.lstrip()[:100].lower()
    return next((kind for begins, kind in _BEGINNINGS if start.startswith(begins)), default)


def is_mime(text: str) -> bool:
    """Whether cloud-init reads `text` as MIME."""
    start = text[:_MIME_WITHIN].encode("utf-8", "surrogateescape")[:_MIME_WITHIN]
    if b"mime-version:" not in start.lower():
        return False
    from email.parser import HeaderParser

    # A text that only mentions MIME-Version has no such header; its first line decides.
    return "MIME-Version" in HeaderParser().parsestr(text)


def of_mime(text: str) -> list[Part]:
    """The parts of MIME; raises `StanzaError` for none, and for one that cannot be unpacked."""
    import email

    try:
        message = email.message_from_string(text)
        leaves = [part for part in message.walk() if part.get_content_maintype() != "multipart"]
    except RecursionError:
        raise stanza_error("is MIME that is nested too deeply") from None
    if len(leaves) > MAX_PARTS:
        raise stanza_error(f"has more than {MAX_PARTS} parts")
    parts: list[Part] = []
    end, lines = 0, 0  # of the previous part
    for number, part in enumerate(leaves, 1):
        title, headers = f"part {number}", dict(part.items())
        declared = part.get_content_type()
        payload: Any = part.get_payload(decode=True)
        if declared in _COMPRESSED:
            payload = _unpacked(payload or b"", f"has {title}")
            declared = "text/plain"
            # cloud-init makes a new part of it, and keeps no other header.
            headers = {name: headers[name] for name in headers if name.lower() == "launch-index"}
        elif not declared.startswith("text/"):
            continue  # binary: no handler takes it
        content = payload.decode("utf-8", "surrogateescape") if isinstance(payload, bytes) else ""
        kind = kind_of(content, declared) if declared in _UNDECIDED else declared
        # Encoded parts do not occur literally in the file and have no line numbers.
        at = text.find(content, end) if content.strip() else -1
        if at >= 0:
            lines += text.count("\n", end, at)
            end = at
        parts.append(Part(content, kind, lines if at >= 0 else -1, headers, title))
    known = {kind for _begins, kind in _BEGINNINGS}
    if not message.is_multipart() and known.isdisjoint(part.kind for part in parts):
        raise stanza_error("is MIME without parts")
    return parts


def of_archive(entries: Any) -> Iterator[Part]:
    """The parts of a cloud-config-archive's list.

    Raises `StanzaError` where cloud-init would reject this user-data as a whole.
    """
    if len(entries) > MAX_PARTS:
        raise stanza_error(f"has more than {MAX_PARTS} parts")
    for number, entry in enumerate(entries, 1):
        title = f"entry {number}"
        entry = {"content": entry} if isinstance(entry, str) else entry
        if not isinstance(entry, dict):
            continue
        content = entry.get("content", "")
        if not isinstance(content, (str, bytes)):
            raise _failing(f"has {title} whose content is no text")
        kind = entry.get("type")
        if not kind and isinstance(content, bytes):
            kind = kind_of(content.decode("utf-8", "replace"), "application/octet-stream")
        kind = kind or kind_of(content, CONFIG)
        if not isinstance(kind, str) or "/" not in kind:
            raise _failing(f"has {title} of type {str(kind)[:40]!r}, which is none")
        if isinstance(content, bytes):
            try:
                content = content.decode("utf-8")
            except UnicodeDecodeError:
                if kind.startswith("text/"):
                    raise _failing(f"has {title} whose text is not UTF-8") from None
                continue  # binary: no handler takes it
        headers: dict[str, str] = {}
        for name, value in entry.items():
            if str(name).lower() in _NO_HEADERS:
                continue
            if not isinstance(name, str) or not (
                isinstance(value, str) or name.lower() == "launch-index"
            ):
                raise _failing(f"has {title} with a header that is no text")
            headers[name] = str(value)
        yield Part(content, kind.partition(";")[0].strip().lower(), -1, headers, title)


def _failing(message: str) -> StanzaError:
    return stanza_error(f"{message}: cloud-init fails at all of this user-data")


def _unpacked(data: bytes, subject: str) -> bytes:
    """Unpack gzip to at most `MAX_BYTES`, since a small file may unpack to gigabytes.

    Raises `StanzaError`, with a message that begins with `subject`, if `data` is not gzip or
    unpacks to more.
    """
    try:
        with gzip.GzipFile(fileobj=BytesIO(data)) as stream:
            content = stream.read(MAX_BYTES + 1)
    except EOFError:
        raise stanza_error(f"{subject} that ends too early") from None
    except (OSError, zlib.error):
        raise stanza_error(f"{subject} that cannot be unpacked") from None
    if len(content) > MAX_BYTES:
        raise stanza_error(f"{subject} that unpacks to more than {MAX_BYTES >> 20} MiB")
    return content
