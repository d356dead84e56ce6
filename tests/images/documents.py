"""User-data, vendor-data and drop-ins that have a stanza: as files, and as a table shows them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.mime.application import MIMEApplication
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from typing import Any

import yaml


@dataclass(frozen=True)
class Config:
    """A cloud-config."""

    body: Mapping[str, Any]
    merge_type: str = ""  # the header of its part
    declared: str = "text/cloud-config"

    def text(self) -> str:
        return "#cloud-config\n" + yaml.safe_dump(dict(self.body), sort_keys=False)

    def __str__(self) -> str:
        cells = [f"`{key}: {_flow(value)}`" for key, value in self.body.items()]
        if self.merge_type:
            cells.append(f"header `Merge-Type: {self.merge_type}`")
        if self.declared != "text/cloud-config":
            cells.append(f"declared as `{self.declared}`")
        return ", ".join(cells)


@dataclass(frozen=True)
class Raw:
    """Any other document, with what a table calls it."""

    content: str
    title: str
    declared: str = "text/plain"
    merge_type: str = ""

    def text(self) -> str:
        return self.content

    def __str__(self) -> str:
        return self.title


def patch(*operations: Mapping[str, Any]) -> Raw:
    """A JSON patch."""
    told = ", ".join(
        f"`{one['op']} {one['path']}" + (f" {_flow(one['value'])}`" if "value" in one else "`")
        for one in operations
    )
    text = "#cloud-config-jsonp\n" + json.dumps(list(operations))
    return Raw(text, f"JSON patch {told}", "text/cloud-config-jsonp")


@dataclass(frozen=True)
class Archive:
    """A cloud-config-archive of some documents."""

    documents: Sequence[Any]
    declared: str = "text/cloud-config-archive"
    merge_type: str = ""

    def text(self) -> str:
        entries = []
        for one in self.documents:
            entry = {"type": one.declared, "content": one.text()}
            entries.append({**entry, **({"Merge-Type": one.merge_type} if one.merge_type else {})})
        return "#cloud-config-archive\n" + yaml.safe_dump(entries)

    def __str__(self) -> str:
        return "archive: " + _numbered(self.documents)


@dataclass(frozen=True)
class Parts:
    """A multipart of some documents."""

    documents: Sequence[Any]

    def text(self) -> str:
        message = MIMEMultipart()
        for one in self.documents:
            if one.declared == "application/gzip":
                part: Any = MIMEApplication(gzip.compress(one.text().encode(), mtime=0), "gzip")
            else:
                part = MIMEText(one.text(), one.declared.partition("/")[2], "utf-8")
                part.replace_header("Content-Type", f"{one.declared}; charset=utf-8")
            if one.merge_type:
                part["Merge-Type"] = one.merge_type
            message.attach(part)
        return message.as_string()

    def __str__(self) -> str:
        return _numbered(self.documents)


@dataclass(frozen=True)
class Case:
    """All that cloud-init gets of one server."""

    user: Any = None
    vendor: Any = None
    vendor2: Any = None
    image: Sequence[Config] = field(default_factory=tuple)

    def as_sent(self) -> dict[str, Any]:
        """For `handed.py`, whose user-data is bytes in base64."""
        import base64

        user = self.user.text() if self.user else ""
        return {
            "user": base64.b64encode(user.encode("utf-8", "surrogateescape")).decode(),
            "vendor": self.vendor.text() if self.vendor else None,
            "vendor2": self.vendor2.text() if self.vendor2 else None,
            "image": {f"{10 + n}_case": one.text() for n, one in enumerate(self.image)},
        }


def stanza(value: Any, **others: Any) -> Config:
    """A cloud-config with the stanza `value`, and other keys beside it."""
    return Config({"source_routing": value, **others})


def _numbered(documents: Sequence[Any]) -> str:
    return "; ".join(f"{number}. {one}" for number, one in enumerate(documents, 1))


def _flow(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) and not value else flow(value)


def flow(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")
