"""Build a .deb of this checkout: the installer's payload, with dpkg triggers that re-register it.

It needs only dpkg-deb, no debhelper, and so builds wherever dpkg exists, in a second.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from email.utils import formatdate
from pathlib import Path

from . import cache, clean, install, payload
from .command import run
from .payload import File

PROGRAMS: Mapping[str, str] = {"dpkg-deb": "dpkg"}

NAME = "source-routing"
MAINTAINER = "cc-source-routing maintainers <cc-source-routing@example.org>"

_SOURCES = payload.CHECKOUT / "image-build/debian"
_PYTHON = "/usr/bin/python3"
_SITE = "/usr/lib/python3/dist-packages"
_DOC = f"/usr/share/doc/{NAME}"
_SCRIPTS = ("preinst", "postinst", "prerm", "postrm")


def build(directory: Path, checkout: Path = payload.CHECKOUT) -> Path:
    """Write the package into `directory`; the same bytes for the same checkout and date."""
    date = source_date(checkout)
    version = payload.project(checkout).version
    target = directory / f"{NAME}_{version}_all.deb"
    with tempfile.TemporaryDirectory(prefix="deb-") as scratch:
        tree, unfinished = Path(scratch) / "tree", Path(scratch) / target.name
        files = contents(date, checkout)
        stage(tree, {**files, **_control(files, checkout)})
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(date), "LC_ALL": "C.UTF-8"}
        # Not zstd, which is the default of some dpkg versions and unknown to others.
        argv = ["dpkg-deb", "--root-owner-group", "-Zxz", "--build"]
        run([*argv, tree, unfinished], timeout=300, env=environment)
        with cache.replacing(target) as beside:
            shutil.copyfile(unfinished, beside)
    return target


def contents(date: int, checkout: Path = payload.CHECKOUT) -> dict[str, File]:
    """All files of the Debian package: absolute path -> content."""
    files = module(_SITE, _PYTHON, "dpkg", checkout)
    files[f"{_DOC}/copyright"] = File((_SOURCES / "copyright").read_bytes())
    files[f"{_DOC}/README.md"] = File((checkout / "README.md").read_bytes())
    files[f"{_DOC}/changelog.gz"] = _zipped(_changelog(date, checkout))
    for example in sorted((checkout / "examples").glob("*.yaml")):
        files[f"{_DOC}/examples/{example.name}"] = File(example.read_bytes())
    files[f"/usr/share/man/man8/{NAME}.8.gz"] = _zipped((_SOURCES / f"{NAME}.8").read_bytes())
    overrides = (_SOURCES / "lintian-overrides").read_bytes()
    files[f"/usr/share/lintian/overrides/{NAME}"] = File(overrides)
    return files


def module(
    site: str, python: str, installer: str, checkout: Path = payload.CHECKOUT
) -> dict[str, File]:
    """The files common to all package formats: absolute path -> content."""
    files = {f"{site}/{name}": file for name, file in payload.modules(checkout).items()}
    for name, file in payload.metadata(site, {}, checkout).items():
        # RECORD is for installers without their own file list.
        if not name.endswith("/RECORD"):
            own = name.endswith("/INSTALLER")
            files[name] = File(f"{installer}\n".encode()) if own else file
    for name, file in payload.scripts(python, checkout).items():
        files[f"{install.COMMAND_DIRECTORY}/{name}"] = file
    files.update(payload.registration(python))
    files.update(payload.units(checkout))
    files["/etc/cloud/clean.d/95-source-routing"] = File(install.CLEAN_SCRIPT, 0o755)
    return files


def stage(directory: Path, files: Mapping[str, File]) -> None:
    """Write `files` below `directory`."""
    for path, file in files.items():
        _write(directory, path, file)


def _control(files: Mapping[str, File], checkout: Path) -> dict[str, File]:
    fields = (_SOURCES / "control").read_text(encoding="utf-8")
    size = sum(-(-len(file.content) // 1024) for file in files.values())
    replaced = {
        "@VERSION@": payload.project(checkout).version,
        "@MAINTAINER@": maintainer(),
        "@SIZE@": str(size),
    }
    for mark, value in replaced.items():
        fields = fields.replace(mark, value)
    sums = "".join(
        f"{hashlib.md5(file.content).hexdigest()}  {path.lstrip('/')}\n"  # noqa: S324
        for path, file in sorted(files.items())
        if not path.startswith("/etc/")
    )
    settings = "".join(f"{path}\n" for path in sorted(files) if path.startswith("/etc/"))
    control = {
        "control": File(fields.encode()),
        "md5sums": File(sums.encode()),
        "conffiles": File(settings.encode()),
        "triggers": File((_SOURCES / "triggers").read_bytes()),
    }
    for name in _SCRIPTS:
        control[name] = File((_SOURCES / name).read_bytes(), 0o755)
    return {f"/DEBIAN/{name}": file for name, file in control.items()}


def maintainer() -> str:
    """The maintainer from Debian's variables DEBFULLNAME and DEBEMAIL, else the project."""
    name, mail = os.environ.get("DEBFULLNAME"), os.environ.get("DEBEMAIL")
    return f"{name} <{mail}>" if name and mail else MAINTAINER


def source_date(checkout: Path = payload.CHECKOUT) -> int:
    """SOURCE_DATE_EPOCH, else the date of the checkout's commit, else now."""
    date = clean.source_date()
    if date is not None:
        return date
    committed = payload.git("log", "-1", "--format=%ct", checkout=checkout)
    return int(committed or time.time())


def _changelog(date: int, checkout: Path) -> bytes:
    version = payload.project(checkout).version
    return (
        f"{NAME} ({version}) unstable; urgency=medium\n\n"
        "  * Built from a checkout; its README tells what it does.\n\n"
        f" -- {maintainer()}  {formatdate(date)}\n"
    ).encode()


def _zipped(content: bytes) -> File:
    return File(gzip.compress(content, 9, mtime=0))


def _write(directory: Path, path: str, file: File) -> None:
    target = directory / path.lstrip("/")
    for parent in reversed(target.parents):
        if not parent.exists():
            parent.mkdir()
            parent.chmod(0o755)
    target.write_bytes(file.content)
    target.chmod(file.mode)
