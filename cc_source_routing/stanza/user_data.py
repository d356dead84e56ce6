"""Files that hold a stanza: user-data of all kinds, cloud.cfg.d drop-ins, the saved stanza.

cloud-init decides by the first line what a user-data file is (its
``user_data.py`` and "User-data formats" in its documentation); here the same
is done for one file, and said when cloud-init would not look at it, or would drop
it.  Only the stanza is judged, never the rest of a cloud-config.

The saved stanza is JSON, so hooks need no PyYAML; `email`, `gzip` and `yaml`
are imported where they are needed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Collection, List, Optional, Sequence, Tuple, Union

from ..errors import Fault, FileError, StanzaError
from ..model import Stanza
from ..text.names import shown
from . import parts as cloudparts
from .gathering import (
    ABSENT,
    KEY,
    Gathering,
    LineOf,
    Source,
    refuse_misspelt,
    refuse_other_than_mapping,
    source,
    template,
    whole,
)
from .parse import MAX_FAULTS, check_stanza, more_faults
from .parts import Part
from .yaml_document import Document, Located, Unbounded, Unreadable

__all__ = ["LoadedStanza", "StanzaFileError", "load_stanza_file"]

HEADER = "#cloud-config"
USER_DATA, DROP_IN, BARE = "user-data", "drop-in", "stanza"
_MERGE_KEY = "<<"
MAX_BYTES = 1 << 20
"""Metadata services give 16 to 64 KiB of user-data; more than this is something else."""

_BOMS = (
    (b"\xff\xfe", "is UTF-16; save it as UTF-8"),
    (b"\xfe\xff", "is UTF-16; save it as UTF-8"),
    (
        b"\xef\xbb\xbf",
        "begins with a byte order mark, so cloud-init would not see its first line; "
        "save it as UTF-8 without one",
    ),
)

# cloud-init reads MIME by its MIME-Version alone.
_UNVERSIONED = re.compile(r"\s*content-type: *multipart/", re.IGNORECASE)

# What has no stanza in it, by the kind that cloud-init takes it for.
_OTHER_KINDS = {
    "text/x-shellscript": "is a script",
    "text/cloud-boothook": "is a boothook",
    cloudparts.PART_HANDLER: "is a part handler",
    **dict.fromkeys(
        cloudparts.INCLUDES, "is a list of URLs to include, whose content cannot be known here"
    ),
}

# A mapping without our key or header is a bare stanza unless it has one of these.
_CLOUD_CONFIG_KEYS = frozenset(
    """apt autoinstall bootcmd chpasswd cloud_config_modules cloud_final_modules
    cloud_init_modules datasource datasource_list disable_root disk_setup final_message fqdn
    fs_setup groups growpart hostname locale manage_etc_hosts merge_how mounts network ntp
    output package_update package_upgrade packages password phone_home power_state preserve_hostname
    random_seed resize_rootfs resolv_conf rsyslog runcmd snap ssh ssh_authorized_keys ssh_pwauth
    swap system_info timezone user users vendor_data version wireguard write_files yum_repos zypper
    """.split()
)


@dataclass(frozen=True)
class LoadedStanza:
    """What a file says; `stanza` is None when it has no ``source_routing`` key."""

    path: str
    stanza: Optional[Stanza]
    kind: str  # what cloud-init takes as user-data, or only in cloud.cfg.d, or a bare stanza
    warnings: Tuple[str, ...]
    line_of: Callable[[str], Optional[int]]
    """Line (from 1) of a fault's dotted path in the file, or of the nearest key above it."""
    handed: Any = None
    """The key's value as cloud-init hands it to the module where this file is all it has."""
    unknown: Tuple[str, ...] = ()
    """Why that cannot be known from this file; empty where it is known."""


class StanzaFileError(StanzaError):
    """A file's stanza is wrong; each fault with its line where that is known."""

    def __init__(self, path: str, located: Sequence[Tuple[Optional[int], Fault]]):
        self.path = path
        self.located = tuple(located)
        super().__init__([fault for _line, fault in self.located])

    def __str__(self) -> str:
        return "; ".join(self.lines())

    def lines(self) -> Tuple[str, ...]:
        """``FILE:LINE: path: message`` for each fault."""
        return tuple(
            f"{self.path}:{line}: {fault}" if line else f"{self.path}: {fault}"
            for line, fault in self.located
        )


def load_stanza_file(path: Union[str, Path]) -> LoadedStanza:
    """Read a file that is a whole cloud-config, a bare stanza, or our saved JSON.

    Raises `FileError` when it cannot be read and `StanzaFileError` (a
    `StanzaError`) for whatever is wrong inside.
    """
    told_path = shown_path(path)
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(f"{told_path}: cannot be read: {reason}") from None
    file = _File(told_path)
    try:
        return file.load(file.decode(data))
    except Unreadable as error:
        raise StanzaFileError(told_path, [error.located]) from None


def shown_path(path: Union[str, Path]) -> str:
    """A file's name as a message may show it."""
    text = str(path)
    return text if text.isprintable() else shown(text)


class _File:
    """One file on its way to a stanza."""

    def __init__(self, path: str):
        self.path = path
        self.warnings: List[str] = []
        self.unknown: List[str] = []

    def wrong(self, message: str, line: Optional[int] = None, key: str = "") -> StanzaFileError:
        return StanzaFileError(self.path, [(line, Fault(key, message))])

    def decode(self, data: bytes) -> str:
        if data[:2] == b"\x1f\x8b":
            data = self.gunzip(data)
        if len(data) > MAX_BYTES:
            raise self.wrong(f"is larger than {MAX_BYTES >> 20} MiB, which is no user-data")
        for mark, message in _BOMS:
            if data.startswith(mark):
                raise self.wrong(message, 1)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            byte = data[error.start]
            raise self.wrong(f"is not UTF-8: byte 0x{byte:02x}", line) from None

    def gunzip(self, data: bytes) -> bytes:
        import zlib

        # Bounded: a small file may unpack to gigabytes.
        inflater = zlib.decompressobj(wbits=31)
        try:
            unpacked = inflater.decompress(data, MAX_BYTES + 1)
        except zlib.error:
            raise self.wrong("begins like gzip but cannot be unpacked") from None
        if not inflater.eof and len(unpacked) <= MAX_BYTES:
            raise self.wrong("is gzip that ends too early")
        return unpacked

    def load(self, text: str) -> LoadedStanza:
        """The stanza of all the parts that the file has, merged as cloud-init does."""
        gathering = Gathering()
        if cloudparts.is_mime(text):
            try:
                parts, multipart = cloudparts.of_mime(text, MAX_BYTES)
            except cloudparts.PartError as error:
                raise self.wrong(str(error)) from None
            gathering.take_all(parts)
            if not gathering.documents and not gathering.unknown:
                if not multipart:
                    raise self.wrong("is MIME without parts")
                self.warnings.append("no part of this MIME file is a cloud-config")
            return self.gathered(gathering)
        if _UNVERSIONED.match(text):
            self.warnings.append("has no MIME-Version header: cloud-init ignores this as user-data")
            return self.loaded(None, USER_DATA)
        kind = cloudparts.kind_of(text)
        if kind == cloudparts.TEMPLATE:
            return self.jinja(text)
        if kind in (cloudparts.CONFIG, cloudparts.ARCHIVE, cloudparts.PATCH):
            gathering.take(Part(text, kind))
            return self.gathered(gathering)
        if kind in _OTHER_KINDS:
            raise self.wrong(f"{_OTHER_KINDS[kind]}; it is no cloud-config", 1)
        return self.judge(source(Part(text, kind)), text)

    def jinja(self, text: str) -> LoadedStanza:
        """A template can be judged only where the stanza itself is plain."""
        told = template(Part(text, cloudparts.TEMPLATE))
        if told is None:
            raise self.wrong(
                "is a Jinja template that cannot be checked before cloud-init has rendered it; "
                "run `cloud-init devel render` on the server and check what it prints",
                1,
            )
        self.unknown.append("it is a Jinja template, which the server fills in")
        self.warnings.append("is a Jinja template; its stanza has no expressions and was checked")
        return self.judge(told, text.lstrip().split("\n", 1)[1])

    # -- judgement ------------------------------------------------------------------

    def judge(self, told: Source, text: str) -> LoadedStanza:
        """A file that has no parts: a drop-in, a bare stanza, or what a template has."""
        is_config = cloudparts.kind_of(text) == cloudparts.CONFIG
        kind = USER_DATA if is_config else DROP_IN
        if told.is_empty and is_config:
            return self.loaded(None, kind)
        if told.is_empty:
            raise self.wrong(f"is empty; it needs at least a line such as {KEY}: true")
        refuse_other_than_mapping(told)
        if KEY in told.keys:
            if not is_config:
                self.hint_header(text, told.keys)
            document = told.take(KEY)
            if not document.faults and not self.unknown:
                try:
                    whole(told)
                except Unbounded as error:
                    self.unknown.append(f"it {error}")
            return self.document(document, kind)
        if _MERGE_KEY in told.keys and not self.unknown:
            # A document's own merge may bring it in.
            value = whole(told)
            if KEY in value:
                return self.parsed(value[KEY], (), (), (), kind)
        refuse_misspelt(told)
        if is_config or _CLOUD_CONFIG_KEYS.intersection(told.keys):
            return self.loaded(None, kind)
        return self.document(told.take(None), BARE)

    def gathered(self, gathering: Gathering) -> LoadedStanza:
        self.warnings += gathering.warnings
        self.unknown += gathering.unknown
        value, untold = gathering.value, gathering.untold
        if value is ABSENT and not gathering.faults:
            return self.loaded(None, USER_DATA)
        if value is ABSENT:
            untold = {""}  # a part that is wrong, and is replaced by nothing
        return self.parsed(value, gathering.faults, untold, gathering.lines, USER_DATA)

    def document(self, document: Document, kind: str) -> LoadedStanza:
        lines = [document.line_of]
        return self.parsed(document.value, document.faults, document.untold, lines, kind)

    def hint_header(self, text: str, keys: Tuple[Any, ...]) -> None:
        first = text.lstrip().split("\n", 1)[0].strip()
        near = first.startswith("#") and "cloud" in first.lower() and "conf" in first.lower()
        if near or re.search(rf"^\s*{HEADER}\s*$", text, re.MULTILINE):
            self.warnings.append(
                f"the first line must be {HEADER} and nothing else, else cloud-init ignores this "
                "as user-data"
            )
        elif set(keys) != {KEY}:
            self.warnings.append(
                f"the first line is not {HEADER}: cloud-init ignores this as user-data "
                "(a file in cloud.cfg.d needs none)"
            )

    def parsed(
        self,
        value: Any,
        noted: Sequence[Located],
        untold: Collection[str],
        lines: Sequence[LineOf],
        kind: str,
    ) -> LoadedStanza:
        """The stanza that `value` is; raises for its faults and for those of its notation."""

        def line_of(path: str) -> Optional[int]:
            # A path that several parts may have is where the last one has it.
            found = [told for told in (one(path) for one in reversed(lines)) if told]
            return found[0] if found else None

        located: List[Located] = list(noted)
        stanza, more = None, 0
        if "" not in untold:
            stanza, faults, more = check_stanza(value, untold)
            located += [(line_of(fault.path), fault) for fault in faults]
        if located:
            located.sort(key=lambda pair: pair[0] or 0)
            more += len(located[MAX_FAULTS:])
            located = located[:MAX_FAULTS] + [(None, fault) for fault in more_faults(more)]
            raise StanzaFileError(self.path, located)
        return self.loaded(stanza, kind, line_of, None if kind == BARE else value)

    def loaded(
        self,
        stanza: Optional[Stanza],
        kind: str,
        line_of: LineOf = lambda path: None,
        handed: Any = None,
    ) -> LoadedStanza:
        warnings, unknown = tuple(self.warnings), tuple(dict.fromkeys(self.unknown))
        return LoadedStanza(self.path, stanza, kind, warnings, line_of, handed, unknown)
