"""Find the .network file of each NIC: from systemd-networkd's state files, else by matching.

The running networkd records the file it uses in /run/systemd/netif/links/INDEX (printed
by ``networkctl status`` as "Network File").  Where it has not run yet - in an image, or
before it on a first boot - the files are matched as in systemd.network(5).  Read-only.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Callable, NamedTuple

from ..model import PlannedNic
from ..text.sections import assignments
from .evidence import names, text

LINKS = "/run/systemd/netif/links"
# By descending priority, systemd.network(5).
NETWORK_DIRECTORIES = (
    "/etc/systemd/network",
    "/run/systemd/network",
    "/usr/local/lib/systemd/network",
    "/usr/lib/systemd/network",
    "/lib/systemd/network",
)
_FILE = re.compile(r"[A-Za-z0-9_.:@+-]+\.network")
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")

Match = dict[str, str]


class NetworkFile(NamedTuple):
    """The .network file of one NIC."""

    path: str
    # It may match other NICs too, so it cannot hold routes of this one.
    shared: bool = False
    # networkd uses it but it does not exist: removed, or about to be rewritten, as
    # netplan does with all of its files whenever systemd reloads its units.
    missing: bool = False

    @property
    def drop_in_directory(self) -> str:
        """The directory of its drop-ins: in /etc, wherever the file itself is."""
        return f"/etc/systemd/network/{self.path.rpartition('/')[2]}.d"


def interface_index(name: str) -> int | None:
    """The kernel's index of an interface in this network namespace."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None


def network_files(
    root: Path,
    nics: Sequence[PlannedNic],
    index_of: Callable[[str], int | None] = interface_index,
) -> tuple[tuple[str, NetworkFile], ...]:
    """(NIC, its active .network file) for each NIC that has one."""
    in_use = _files_in_use(root)
    available = _effective_files(root)
    matches = {path: match_section(text(root, path)) for path in available}
    found: list[tuple[str, str]] = []
    for nic in nics:
        index = index_of(nic.name)
        path = in_use.get(index) if index is not None else None
        if path not in matches:
            path = next((p for p in available if is_match(matches[p], nic)), path)
        if path is not None:
            found.append((nic.name, path))
    users = [path for _name, path in found]
    return tuple(
        (name, NetworkFile(path, _is_shared(path, users, in_use, matches[path])))
        if path in matches
        else (name, NetworkFile(path, missing=True))
        for name, path in found
    )


def managed_links(root: Path) -> int:
    """The number of links that networkd configures, from its state files."""
    return len(_files_in_use(root))


def match_section(document: str) -> Match:
    """The keys of [Match]; repeated keys are joined, an empty value resets."""
    found: Match = {}
    for section, key, value in assignments(document):
        if section == "Match":
            found[key] = f"{found.get(key, '')} {value}".strip() if value else ""
    return found


def is_match(match: Match, nic: PlannedNic) -> bool:
    """Whether a [Match] section matches `nic`, by name and MAC.

    Keys that only the running system can evaluate (Driver=, Path=...) are assumed to
    match if a name or a MAC matches too.
    """
    answers = []
    if match.get("Name"):
        answers.append(_matches_names(match["Name"], nic.name))
    for key in ("MACAddress", "PermanentMACAddress"):
        if match.get(key):
            answers.append(nic.mac != "" and nic.mac in map(_mac, match[key].split()))
    return bool(answers) and all(answers)


def pins_one_device(match: Match) -> bool:
    """Whether a [Match] section cannot match two devices, now or later."""
    for key in ("MACAddress", "PermanentMACAddress"):
        if _MAC.fullmatch(_mac(match.get(key, ""))):
            return True
    one = [match.get(key, "") for key in ("Name", "Path")]
    return any(value and not re.search(r"[\s*?\[!]", value) for value in one)


def _is_shared(path: str, users: Sequence[str], in_use: dict[int, str], match: Match) -> bool:
    return (
        users.count(path) > 1 or list(in_use.values()).count(path) > 1 or not pins_one_device(match)
    )


def _matches_names(patterns: str, name: str) -> bool:
    wanted = patterns.split()
    inverted = wanted[0].startswith("!")
    if inverted:
        wanted[0] = wanted[0][1:]
    return any(fnmatchcase(name, pattern) for pattern in wanted) != inverted


def _mac(value: str) -> str:
    """Normalize a MAC of systemd.link(5), with colons, hyphens or dots, to colons."""
    digits = re.sub(r"[:.-]", "", value.lower())
    return ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))


def _effective_files(root: Path) -> list[str]:
    """The .network files in effect, in the order in which networkd tries them."""
    chosen: dict[str, str] = {}
    for directory in NETWORK_DIRECTORIES:
        for name in names(root, directory):
            if _FILE.fullmatch(name):
                chosen.setdefault(name, f"{directory}/{name}")
    # An empty file or a link to /dev/null masks files of the same name.
    return [chosen[name] for name in sorted(chosen) if text(root, chosen[name]).strip()]


def _files_in_use(root: Path) -> dict[int, str]:
    found = {}
    for name in names(root, LINKS):
        if not name.isdigit():
            continue
        path = _assignments(text(root, f"{LINKS}/{name}")).get("NETWORK_FILE", "")
        directory, _, file = path.rpartition("/")
        if directory in NETWORK_DIRECTORIES and _FILE.fullmatch(file):
            found[int(name)] = path
    return found


def _assignments(document: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in document.splitlines() if not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs if key.strip()}
