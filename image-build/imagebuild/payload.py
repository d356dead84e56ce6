"""The package's files for an image, from this checkout and according to its setup.cfg."""

from __future__ import annotations

import base64
import configparser
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .command import attempt, missing
from .errors import BuildError

CHECKOUT = Path(__file__).resolve().parents[2]

# The content of INSTALLER (PEP 376), for `pip uninstall` and other tools.
INSTALLER = "source-routing-install-into"

# The program that registers the module with cloud-init, and again after each upgrade of it,
# and its directory in an image.
LIBRARY = "/usr/lib/source-routing"
REGISTER = f"{LIBRARY}/register"
# The program that has a running server go on with installed files, or without them.
LISTENING = f"{LIBRARY}/listening"

UNITS = "/usr/lib/systemd/system"
WANTS = f"{UNITS}/multi-user.target.d"
# The name of the drop-in that wants them -> the directory of the units.
UNIT_DIRECTORIES = {
    "source-routing": "cc_source_routing/systemd",
    "source-routing-second-nic": "image-build/systemd",
}
_PROGRAMS = ["second-nic", "listening"]


class File(NamedTuple):
    """The wanted content and mode of a path in the image."""

    content: bytes
    mode: int = 0o644


class Project(NamedTuple):
    """The project's data in setup.cfg and version.py."""

    name: str
    version: str
    summary: str
    packages: list[str]
    package_data: dict[str, list[str]]
    scripts: dict[str, str]

    @property
    def dist_info(self) -> str:
        return f"{self.name.replace('-', '_')}-{self.version}.dist-info"


def git(*argv: str, checkout: Path = CHECKOUT) -> str:
    """Git's output for the checkout; "" for a copy without history, or without git."""
    if missing({"git": "git"}):
        return ""
    # Under sudo the checkout may belong to another user.
    done = attempt(["git", "-c", f"safe.directory={checkout}", "-C", checkout, *argv])
    return done.stdout.strip() if done.returncode == 0 else ""


def project(checkout: Path = CHECKOUT) -> Project:
    config = configparser.ConfigParser()
    if not config.read(checkout / "setup.cfg", encoding="utf-8"):
        raise BuildError(f"{checkout} has no setup.cfg: not a checkout of this project")
    packages = config["options"]["packages"].split()
    if any(":" in name for name in packages):
        raise BuildError("setup.cfg does not list its packages by name")
    data = config["options.package_data"] if "options.package_data" in config else {}
    lines = config["options.entry_points"]["console_scripts"].strip().splitlines()
    scripts = [line.split("=", 1) for line in lines]
    return Project(
        name=config["metadata"]["name"],
        version=_version(checkout),
        summary=config["metadata"]["description"],
        packages=packages,
        package_data={name: patterns.split() for name, patterns in data.items()},
        scripts={name.strip(): target.strip() for name, target in scripts},
    )


def _version(checkout: Path) -> str:
    text = (checkout / "cc_source_routing/version.py").read_text(encoding="utf-8")
    found = re.search(r'^VERSION = "(.+)"$', text, re.MULTILINE)
    if found is None:
        raise BuildError(f"cc_source_routing/version.py of {checkout} has no version")
    return found[1]


def modules(checkout: Path = CHECKOUT) -> dict[str, File]:
    """The importable tree: path below site-packages -> content."""
    about = project(checkout)
    files: dict[str, File] = {}
    for package in about.packages:
        directory = checkout / package.replace(".", "/")
        if not (directory / "__init__.py").is_file():
            raise BuildError(f"setup.cfg lists {package}, which is not in {checkout}")
        for path in _members(directory, ["*.py", *about.package_data.get(package, [])]):
            files[str(path.relative_to(checkout))] = File(path.read_bytes())
    return files


def _members(directory: Path, patterns: list[str]) -> Iterator[Path]:
    for pattern in patterns:
        matches = sorted(path for path in directory.glob(pattern) if path.is_file())
        if not matches:
            raise BuildError(f"nothing matches {pattern} in {directory}")
        yield from matches


def scripts(python: str, checkout: Path = CHECKOUT) -> dict[str, File]:
    """The commands: name -> a script for the interpreter `python`."""
    return {
        name: File(
            (
                f"#!{python}\n"
                "import sys\n"
                f"from {target.split(':')[0]} import {target.split(':')[1]}\n"
                f"sys.exit({target.split(':')[1]}())\n"
            ).encode(),
            0o755,
        )
        for name, target in project(checkout).scripts.items()
    }


def registration(python: str) -> dict[str, File]:
    """`register` for the interpreter `python`, with its modules: absolute path -> content."""
    here = Path(__file__).parent
    program = (here / "register.py").read_bytes().split(b"\n", 1)[1]
    files = {REGISTER: File(f"#!{python}\n".encode() + program, 0o755)}
    for name in ("inside.py", "modulelist.py", "schemafile.py", "wholefile.py"):
        files[f"{LIBRARY}/{name}"] = File((here / name).read_bytes())
    return files


def units(checkout: Path = CHECKOUT) -> dict[str, File]:
    """The units, and the programs that serve them: absolute path -> content.

    The timer is disabled until the administrator enables it.  What listens, for events or for
    a second NIC, starts at each boot, and does nothing without a stanza.
    """
    files = {}
    for name, directory in UNIT_DIRECTORIES.items():
        for path in _members(checkout / directory, ["source-routing*"]):
            files[f"{UNITS}/{path.name}"] = File(path.read_bytes())
        wanted = (checkout / directory / "wants.conf").read_bytes()
        files[f"{WANTS}/50-{name}.conf"] = File(wanted)
    for program in _members(checkout / "image-build/systemd", _PROGRAMS):
        files[f"{LIBRARY}/{program.name}"] = File(program.read_bytes(), 0o755)
    return files


def metadata(site: str, installed: dict[str, File], checkout: Path = CHECKOUT) -> dict[str, File]:
    """The .dist-info for all installed files (PEP 376): absolute path -> content.

    Package tools, a second run and an uninstall learn from it which files are ours.
    """
    about = project(checkout)
    where = f"{site}/{about.dist_info}"
    points = "".join(f"{name} = {target}\n" for name, target in about.scripts.items())
    files = {
        f"{where}/METADATA": File(
            f"Metadata-Version: 2.1\nName: {about.name}\nVersion: {about.version}\n"
            f"Summary: {about.summary}\n".encode()
        ),
        f"{where}/INSTALLER": File(f"{INSTALLER}\n".encode()),
        f"{where}/entry_points.txt": File(f"[console_scripts]\n{points}".encode()),
    }
    record = ""
    for path, file in sorted({**installed, **files}.items()):
        record += f"{path},{digest(file.content)},{len(file.content)}\n"
    record += f"{where}/RECORD,,\n"
    files[f"{where}/RECORD"] = File(record.encode())
    return files


def digest(content: bytes) -> str:
    """A file's hash in the form of RECORD (PEP 376, PEP 427)."""
    encoded = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
    return f"sha256={encoded.decode()}"


# The modules that determine a baked tree.  The others build roots, which have their own
# keys, write disks, examine images or boot them.
BAKING = (
    "asking.py",
    "bake.py",
    "chroot.py",
    "clean.py",
    "disk.py",
    "examine.py",
    "firstboot.py",
    "home.py",
    "inside.py",
    "install.py",
    "modulelist.py",
    "payload.py",
    "register.py",
    "schemafile.py",
    "traces.py",
    "wholefile.py",
)


def fingerprint(checkout: Path = CHECKOUT) -> str:
    """A hash of everything that goes from this checkout into an image."""
    whole = hashlib.sha256()
    here = Path(__file__).parent
    own = {name: File((here / name).read_bytes()) for name in BAKING}
    settings = {"setup.cfg": File(repr(project(checkout)).encode())}
    for name, file in sorted({**modules(checkout), **units(checkout), **own, **settings}.items()):
        whole.update(f"{name}:{len(file.content)}:".encode() + file.content)
    return whole.hexdigest()
