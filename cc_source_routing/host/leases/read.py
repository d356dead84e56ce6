"""Read the leases of DHCP clients from the files that they write.

=================  ==========================================================
client             files
=================  ==========================================================
systemd-networkd   /run/systemd/netif/leases/IFINDEX
NetworkManager     /run/NetworkManager/devices/IFINDEX
ISC dhclient       /var/lib/dhcp, /var/lib/dhclient (*.lease, *.leases); run by
                   NetworkManager: /var/lib/NetworkManager/dhclient*.lease;
                   /run/source-routing, where our exit hook records a lease
                   that dhclient itself has not written yet
dhcpcd             /var/lib/dhcpcd/IFACE.lease, IFACE-SSID.lease, *.lease6;
                   older: /var/lib/dhcpcd5, with dhcpcd- before the name
=================  ==========================================================

busybox udhcpc writes none.  No client is ever run or queried.  A missing file is normal; one that
cannot be read or parsed is a warning.  The clients below /run remove what has expired.  The others
keep it: there the expiry time decides, and of several leases the file written last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ...errors import FileError
from ...files.read import RootFile, list_names, read_file
from ...model import IPAddress, Lease, Link
from .dhclient import dhclient_gateways, lease_gateways, parse_dhclient
from .dhcpcd import parse_dhcpcd, parse_dhcpcd6
from .managers import parse_network_manager, parse_networkd

MAX_BYTES = 1024 * 1024
MAX_FILES = 256

_DHCLIENT_DIRECTORIES = (
    "/var/lib/dhcp",
    "/var/lib/dhclient",
    "/var/lib/NetworkManager",
    "/run/source-routing",
)
_DHCPCD_DIRECTORIES = ("/var/lib/dhcpcd", "/var/lib/dhcpcd5")


class Leases(NamedTuple):
    leases: tuple[Lease, ...]  # at most one for each interface and family
    warnings: tuple[str, ...] = ()


class _Candidate(NamedTuple):
    lease: Lease
    live: bool  # from below /run, where every lease is in force
    written: float


def read_leases(root: Path, links: Sequence[Link], now: float) -> Leases:
    """The valid lease of each link and family; `now` is seconds since 1970, UTC."""
    reader = _Reader(root, now)
    for link in links:
        if not link.loopback:
            reader.live(link)
    names = [link.name for link in links if not link.loopback]
    for directory in _DHCLIENT_DIRECTORIES:
        reader.dhclient(directory, names)
    for directory in _DHCPCD_DIRECTORIES:
        reader.dhcpcd(directory, names)
    best = (_with_former(lease, reader.seen_gateways) for lease in _best(reader.candidates))
    return Leases(tuple(best), tuple(dict.fromkeys(reader.warnings)))


def _with_former(lease: Lease, seen_gateways: Mapping[str, set[IPAddress]]) -> Lease:
    """`lease` with the gateways that only earlier leases have; for dhclient alone.

    The other clients correct what they have set in table main.
    """
    if lease.client != "dhclient" or lease.family != 4:
        return lease
    former = seen_gateways[lease.dev] - lease_gateways(lease.routers, lease.classless_routes)
    return replace(lease, former=tuple(sorted(former, key=int)))


def _best(candidates: Iterable[_Candidate]) -> Iterable[Lease]:
    chosen: dict[tuple[str, int], _Candidate] = {}
    for candidate in candidates:
        key = candidate.lease.dev, candidate.lease.family
        before = chosen.get(key)
        if before is None or candidate[1:] > before[1:]:
            chosen[key] = candidate
    return (candidate.lease for candidate in chosen.values())


class _Reader:
    """Collects candidates and warnings from all places."""

    def __init__(self, root: Path, now: float):
        self.root = root
        self.now = now
        self.candidates: list[_Candidate] = []
        self.seen_gateways: dict[str, set[IPAddress]] = {}
        self.warnings: list[str] = []

    def live(self, link: Link) -> None:
        """Read networkd's and NetworkManager's files for a link, by its index."""
        path = f"/run/systemd/netif/leases/{link.ifindex}"
        file = self._read(path)
        if file is not None:
            lease = parse_networkd(_text(file), link.name, path)
            if lease is None:
                self.warnings.append(f"{path} is not understood as a networkd lease; ignored")
            else:
                self.candidates.append(_Candidate(lease, True, file.mtime))
        path = f"/run/NetworkManager/devices/{link.ifindex}"
        file = self._read(path)
        if file is not None:
            for lease in parse_network_manager(_text(file), link.name, path, self.now):
                self.candidates.append(_Candidate(lease, True, file.mtime))

    def dhclient(self, directory: str, names: Sequence[str]) -> None:
        for name in self._names(directory, (".lease", ".leases")):
            # "internal-..." are NetworkManager's own, "dhcpd.leases" a server's.
            if not name.startswith("dhclient"):
                continue
            path = f"{directory}/{name}"
            file = self._read(path)
            if file is None:
                continue
            for lease in parse_dhclient(_text(file), path, names, self.now):
                self.candidates.append(_Candidate(lease, False, file.mtime))
            for dev, gateways in dhclient_gateways(_text(file), path, names).items():
                self.seen_gateways.setdefault(dev, set()).update(gateways)

    def dhcpcd(self, directory: str, names: Sequence[str]) -> None:
        for name in self._names(directory, (".lease", ".lease6")):
            dev = _dhcpcd_interface(name, names)
            if not dev:
                continue
            path = f"{directory}/{name}"
            file = self._read(path)
            if file is None:
                continue
            parse: Callable[[bytes, str, str, float, float], Lease | None]
            parse = parse_dhcpcd6 if name.endswith("6") else parse_dhcpcd
            lease = parse(file.data, dev, path, file.mtime, self.now)
            if lease is not None:
                self.candidates.append(_Candidate(lease, False, file.mtime))
            elif parse(file.data, dev, path, file.mtime, float("-inf")) is None:
                self.warnings.append(f"{path} is not understood as a dhcpcd lease; ignored")

    def _read(self, path: str) -> RootFile | None:
        try:
            return read_file(self.root, path, MAX_BYTES)
        except FileError as error:
            self.warnings.append(str(error))
            return None

    def _names(self, directory: str, suffixes: tuple[str, ...]) -> list[str]:
        try:
            names = list_names(self.root, directory)
        except FileError as error:
            self.warnings.append(str(error))
            return []
        fitting = [name for name in names if name.endswith(suffixes)]
        if len(fitting) > MAX_FILES:
            self.warnings.append(
                f"{directory} has more than {MAX_FILES} leases; the rest is ignored"
            )
        return fitting[:MAX_FILES]


def _text(file: RootFile) -> str:
    return file.data.decode("utf-8", "replace")


def _dhcpcd_interface(file_name: str, names: Sequence[str]) -> str:
    """The interface of ``IFACE.lease`` or ``IFACE-SSID.lease``; "" if it does not exist."""
    stem = file_name.rpartition(".")[0]
    stem = stem[len("dhcpcd-") :] if stem.startswith("dhcpcd-") else stem
    fitting = [name for name in names if stem == name or stem.startswith(f"{name}-")]
    return max(fitting, key=len, default="")
