"""Files that hold a stanza: user-data of all kinds, cloud.cfg.d drop-ins, the saved stanza.

cloud-init decides by the first line what a user-data file is (its
``user_data.py`` and "User-data formats" in its documentation); here the same
is done for one file, and said when cloud-init would not look at it.  Only the
stanza is judged, never the rest of a cloud-config.

The saved stanza is JSON, so hooks need no PyYAML; `email`, `gzip` and `yaml`
are imported where they are needed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple, Union

from .document import Document, Json, Located, Unreadable, Yaml
from .errors import Fault, FileError, StanzaError
from .faulttext import nearest_key, path_text
from .model import Stanza
from .stanza import check_stanza, limit_faults, schema_defaults, stanza_to_json
from .stringchecks import shown

__all__ = ["LoadedStanza", "StanzaFileError", "load_stanza_file", "stanza_to_json"]

KEY = "source_routing"
HEADER = "#cloud-config"
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

_MIME = re.compile(r"(mime-version:|content-type: *multipart/)", re.IGNORECASE)

# What cloud-init takes for something else than a cloud-config, by the first line.
_OTHER_KINDS = (
    ("#!", "is a script"),
    ("#include", "is a list of URLs to include"),
    ("#cloud-boothook", "is a boothook"),
    ("#part-handler", "is a part handler"),
    ("#upstart-job", "is an upstart job"),
    ("#cloud-config-archive", "is a cloud-config-archive; put its cloud-config in a file"),
    ("#cloud-config-jsonp", "is a JSON patch; put the stanza in a cloud-config"),
)

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
    kind: str  # "cloud-config" or "stanza"
    warnings: Tuple[str, ...]
    line_of: Callable[[str], Optional[int]]
    """Line (from 1) of a fault's dotted path in the file, or of the nearest key above it."""


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


class _Part(NamedTuple):
    """One text to look for a stanza in, and how far down the file it begins."""

    text: str
    offset: int = 0


def load_stanza_file(path: Union[str, Path], *, use_jsonschema: bool = True) -> LoadedStanza:
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
    file = _File(told_path, use_jsonschema)
    text = file.decode(data)
    if _MIME.match(text.lstrip()):
        return file.mime(text)
    return file.part(_Part(text))


def shown_path(path: Union[str, Path]) -> str:
    """A file's name as a message may show it."""
    text = str(path)
    return text if text.isprintable() else shown(text)


class _File:
    """One file on its way to a stanza."""

    def __init__(self, path: str, use_jsonschema: bool):
        self.path = path
        self.use_jsonschema = use_jsonschema
        self.warnings: List[str] = []

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

    # -- kinds of user-data --------------------------------------------------------

    def mime(self, text: str) -> LoadedStanza:
        """The part of a multipart that has the stanza; cloud-init lets the last one win."""
        import email

        found = []
        message = email.message_from_string(text)
        for part in message.walk():
            if part.is_multipart():
                continue
            payload = part.get_payload(decode=True)
            content = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""
            declared = part.get_content_type() in ("text/cloud-config", "text/jinja2")
            if declared or content.lstrip().lower().startswith((HEADER, "## template:")):
                # Encoded parts are not in the file as they stand: no lines then.
                at = text.find(content) if content.strip() else -1
                offset = text.count("\n", 0, at) if at >= 0 else -1
                found.append(self.part(_Part(content, offset), declared=declared))
        if not message.is_multipart():
            raise self.wrong("is MIME without parts")
        if not found:
            self.warnings.append("no part of this MIME file is a cloud-config")
            return self.loaded(None, "cloud-config")
        with_stanza = [loaded for loaded in found if loaded.stanza is not None]
        if len(with_stanza) > 1:
            self.warnings.append(
                f"{len(with_stanza)} parts have {KEY}: cloud-init takes the last one's"
            )
        chosen = (with_stanza or found)[-1]
        return self.loaded(chosen.stanza, chosen.kind, chosen.line_of)

    def part(self, part: _Part, declared: bool = False) -> LoadedStanza:
        text = part.text
        start = text.lstrip()
        lowered = start[:100].lower()
        if lowered.startswith("## template:"):
            return self.jinja(part)
        for prefix, told in _OTHER_KINDS:
            if lowered.startswith(prefix):
                raise self.wrong(f"{told}, not a cloud-config", 1)
        is_config = declared or lowered.startswith(HEADER)
        return self.judge(self.source(part), is_config, text)

    def jinja(self, part: _Part) -> LoadedStanza:
        """A template can be judged only where the stanza itself is plain."""
        unjudgeable = self.wrong(
            "is a Jinja template that cannot be checked before cloud-init has rendered it; "
            "run `cloud-init devel render` on the server and check what it prints",
            1,
        )
        body = part.text.lstrip()
        skipped = part.text[: len(part.text) - len(body)].count("\n")
        if "\n" not in body:
            raise unjudgeable
        rest = body.split("\n", 1)[1]
        if re.search(r"{%-?\s*(if|for|macro|block|set|include|extends)", rest):
            raise unjudgeable
        try:
            source = Yaml(rest, part.offset + skipped + 1 if part.offset >= 0 else -1)
        except (ImportError, Unreadable):
            raise unjudgeable from None
        if source.has_text(KEY, "{{", "{%", "{#"):
            raise unjudgeable
        self.warnings.append("is a Jinja template; its stanza has no expressions and was checked")
        return self.judge(source, rest.lstrip().lower().startswith(HEADER), rest)

    def source(self, part: _Part) -> Union[Json, Yaml]:
        if part.text.lstrip().startswith("{"):
            try:
                return Json(part.text)
            except (ValueError, RecursionError):
                pass  # then it may be YAML in flow style
        try:
            return Yaml(part.text, part.offset)
        except Unreadable as error:
            raise StanzaFileError(self.path, [error.located]) from None
        except ImportError:
            raise self.wrong(
                "is not JSON, and reading YAML needs PyYAML (python3-yaml), which is missing"
            ) from None

    # -- judgement ------------------------------------------------------------------

    def judge(self, source: Union[Json, Yaml], is_config: bool, text: str) -> LoadedStanza:
        if source.is_empty and is_config:
            return self.loaded(None, "cloud-config")
        if source.is_empty:
            raise self.wrong(f"is empty; it needs at least a line such as {KEY}: true")
        if not source.is_mapping:
            raise self.wrong(f"is not a mapping of keys such as {KEY}: true", 1)
        if KEY in source.keys:
            if not is_config:
                self.hint_header(text, source.keys)
            return self.parsed(source.take(KEY), "cloud-config")
        own = schema_defaults()
        for key in source.keys:
            if key not in own and nearest_key(key, {KEY: None}, 0.8) == KEY:
                message = f"is not a known key; did you mean {KEY}?"
                raise self.wrong(message, source.line_of_key(key), path_text((key,)))
        if is_config or _CLOUD_CONFIG_KEYS.intersection(source.keys):
            return self.loaded(None, "cloud-config")
        return self.parsed(source.take(None), "stanza")

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

    def parsed(self, document: Document, kind: str) -> LoadedStanza:
        located: List[Located] = list(document.faults)
        stanza = None
        if "" not in document.untold:
            stanza, faults = check_stanza(document.value, use_jsonschema=self.use_jsonschema)
            located += [
                (document.line_of(fault.path), fault)
                for fault in faults
                if fault.path not in document.untold
            ]
        if located:
            located.sort(key=lambda pair: pair[0] or 0)
            told = limit_faults([fault for _line, fault in located])
            lines = [line for line, _fault in located[: len(told)]]
            if len(told) < len(located):
                lines[-1] = None  # "and N more" is nowhere
            raise StanzaFileError(self.path, list(zip(lines, told)))
        return self.loaded(stanza, kind, document.line_of)

    def loaded(
        self,
        stanza: Optional[Stanza],
        kind: str,
        line_of: Callable[[str], Optional[int]] = lambda path: None,
    ) -> LoadedStanza:
        return LoadedStanza(self.path, stanza, kind, tuple(self.warnings), line_of)
