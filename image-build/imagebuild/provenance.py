"""Write an image's contents and origin to files beside it, and give the upload command.

The files are ``IMAGE.manifest.json`` for people and scripts, ``IMAGE.spdx.json`` for
SBOM tools (SPDX 2.3), and ``IMAGE.sha256`` for sha256sum(1).
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from . import cache, clean, diskfile, payload
from .chroot import run_in
from .errors import BuildError

_QUERIES: tuple[tuple[str, str, list[str]], ...] = (
    (
        "usr/bin/dpkg-query",
        "deb",
        [
            "dpkg-query",
            "--show",
            "--showformat=${db:Status-Abbrev}\\t${Package}\\t${Version}\\t${Architecture}\\n",
        ],
    ),
    (
        "usr/bin/rpm",
        "rpm",
        ["rpm", "-qa", "--qf", "ii \\t%{NAME}\\t%{EVR}\\t%{ARCH}\\n"],
    ),
)
_INSTALLED = "ii "
_GIB = 1 << 30
_SPDX_ID = re.compile(r"[^A-Za-z0-9.-]")
# Namespace of documents and their elements, so that the same content gets the same name.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://spdx.org/spdxdocs/source-routing")


class Package(NamedTuple):
    """One installed package, from its package manager's list."""

    name: str
    version: str
    architecture: str


class Contents(NamedTuple):
    """The contents of a root."""

    os_release: Mapping[str, str]  # os-release(5)
    kind: str  # package type as in package URLs: deb, rpm
    packages: tuple[Package, ...]
    machine: str  # as in uname -m: x86_64

    @property
    def distro(self) -> str:
        return self.os_release.get("ID", "linux")

    @property
    def version(self) -> str | None:
        """None for a distribution without releases, such as Debian's sid."""
        return self.os_release.get("VERSION_ID")

    def has(self, name: str) -> bool:
        return any(package.name == name for package in self.packages)


def contents(root: Path) -> Contents:
    """Query the package manager of `root`."""
    here = [(kind, query) for program, kind, query in _QUERIES if (root / program).exists()]
    if not here:
        raise BuildError(f"{root} has neither dpkg nor rpm: nobody knows what is in it")
    kind, query = here[0]
    rows = [line.split("\t") for line in run_in(root, query).splitlines()]
    packages = sorted(Package(*row[1:]) for row in rows if row[0] == _INSTALLED)
    machine = run_in(root, ["uname", "-m"]).strip()
    return Contents(_os_release(root), kind, tuple(packages), machine)


def _os_release(root: Path) -> dict[str, str]:
    # With the root's own cat: the file is a link, which may be absolute.
    text = run_in(root, ["cat", "/etc/os-release"])
    pairs = [line.split("=", 1) for line in text.splitlines() if re.match(r"[A-Z_0-9]+=", line)]
    return {name: "".join(shlex.split(value)) for name, value in pairs}


def write_beside(image: Path, held: Contents, module: bool = True) -> list[Path]:
    """Write the three files, each atomically; returns their paths.

    Without the `module`, the image does not contain this project's files.
    """
    digest = _sha256(image)
    texts = {
        "sha256": f"{digest}  {image.name}\n",
        "manifest.json": json.dumps(manifest(image, held, digest), indent=1) + "\n",
        "spdx.json": json.dumps(spdx(image, held, digest, module), indent=1) + "\n",
    }
    written = []
    for suffix, text in texts.items():
        path = image.with_name(f"{image.name}.{suffix}")
        with cache.replacing(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def manifest(image: Path, held: Contents, digest: str) -> dict[str, Any]:
    """The contents and origin of an image."""
    project = payload.project()
    return {
        "image": {
            "name": image.name,
            "sha256": digest,
            "virtual_size": diskfile.inspect(image).size,
        },
        "created": _created(),
        "os": {"id": held.distro, "version": held.version, "architecture": held.machine},
        "source": {
            "name": project.name,
            "version": project.version,
            "commit": source_commit(),
            "sha256": payload.fingerprint(),
        },
        "packages": [package._asdict() for package in held.packages],
    }


def spdx(image: Path, held: Contents, digest: str, module: bool = True) -> dict[str, Any]:
    """An SPDX 2.3 document: the image, its packages, and this project's files.

    https://spdx.github.io/spdx-spec/v2.3/
    """
    project = payload.project()
    ours = {
        "SPDXID": "SPDXRef-source-routing",
        "name": project.name,
        "versionInfo": project.version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "comment": f"commit {source_commit() or 'unknown'}",
    }
    whole = {
        "SPDXID": "SPDXRef-image",
        "name": image.name,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "primaryPackagePurpose": "OPERATING-SYSTEM",
        "checksums": [{"algorithm": "SHA256", "checksumValue": digest}],
    }
    parts = [_spdx_package(number, package, held) for number, package in enumerate(held.packages)]
    if module:
        parts.insert(0, ours)
    describes = {
        "spdxElementId": "SPDXRef-DOCUMENT",
        "relationshipType": "DESCRIBES",
        "relatedSpdxElement": "SPDXRef-image",
    }
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": image.name,
        "documentNamespace": f"https://spdx.org/spdxdocs/{quote(image.name)}-"
        f"{uuid.uuid5(_NAMESPACE, f'{image.name} {digest}')}",
        "creationInfo": {
            "created": _created(),
            "creators": [f"Tool: {project.name}-image-build-{project.version}"],
        },
        "packages": [whole, *parts],
        "relationships": [
            describes,
            *(
                {
                    "spdxElementId": "SPDXRef-image",
                    "relationshipType": "CONTAINS",
                    "relatedSpdxElement": part["SPDXID"],
                }
                for part in parts
            ),
        ],
    }


def _spdx_package(number: int, package: Package, held: Contents) -> dict[str, Any]:
    distro = "-".join(filter(None, (held.distro, held.version)))
    # https://github.com/package-url/purl-spec
    locator = (
        f"pkg:{held.kind}/{held.distro}/{quote(package.name, safe='')}"
        f"@{quote(package.version, safe='')}?arch={package.architecture}&distro={distro}"
    )
    return {
        "SPDXID": f"SPDXRef-package-{number}-{_SPDX_ID.sub('-', package.name)}",
        "name": package.name,
        "versionInfo": package.version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": locator,
            }
        ],
    }


def upload_command(image: Path, held: Contents) -> str:
    """The command to upload it to Glance, with the properties that Nova uses."""
    properties = {
        "architecture": held.machine,
        "os_type": "linux",
        "os_distro": held.distro,
        "os_version": held.version,
        "hw_disk_bus": "virtio",
        "hw_vif_model": "virtio",
        "hw_rng_model": "virtio",
        "hw_qemu_guest_agent": "yes" if held.has("qemu-guest-agent") else None,
    }
    found = diskfile.inspect(image)
    disk = -(-found.size // _GIB)
    name = "-".join(filter(None, (held.distro, held.version, "source-routing")))
    lines = [
        f"openstack image create {shlex.quote(name)}",
        f"--file {shlex.quote(str(image))} --disk-format {found.format}"
        f" --container-format bare --min-disk {disk}",
        *(f"--property {key}={shlex.quote(value)}" for key, value in properties.items() if value),
    ]
    return " \\\n    ".join(lines)


def source_commit() -> str:
    """The commit of this checkout, with "-dirty" if files differ; "" outside git."""
    return payload.git("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")


def _created() -> str:
    date = clean.source_date()
    moment = time.time() if date is None else date
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as content:
        for block in iter(lambda: content.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
