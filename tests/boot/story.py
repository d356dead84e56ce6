"""The first boot of a server, told from outside: who answers, and is it this guest?"""

from __future__ import annotations

import contextlib
import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from pathlib import Path

from imagebuild.lab import network
from imagebuild.lab.boot import booted
from imagebuild.lab.config_drive import ConfigDrive
from imagebuild.lab.guest import Boot, Guest, wait_for_boot
from lab import PATIENCE_SECONDS

from . import times

OFF = "#cloud-config\nsource_routing: false\n"
ON = "#cloud-config\nsource_routing: true\n"
SILENT = "#cloud-config\n{}\n"


def patience(guest: Guest) -> float:
    """How many seconds a guest may take for what is a matter of seconds, beside other load."""
    return max(PATIENCE_SECONDS, 15 * guest.patience)


def hot_port(number: int = 1) -> network.Port:
    """A port that the server's metadata does not know; another MAC and address each `number`."""
    return network.Port(
        name="ens9",
        mac=f"fa:16:3e:99:00:{number:02x}",
        address4=IPv4Interface(f"198.51.100.{8 + number}/24"),
        gateway4=IPv4Address("198.51.100.1"),
        address6=IPv6Interface(f"2001:db8:9::{number + 1}/64"),
        gateway6=IPv6Address("2001:db8:9::1"),
        default=False,
    )


RUNNING: list[Server] = []
"""All that have been booted; some have been ended since."""


def failed_units() -> list[str]:
    """A line for each failed unit of a running server."""
    RUNNING[:] = [server for server in RUNNING if server.guest.alive()]
    return [
        f"{server.name}: {line}"
        for server in RUNNING
        for line in server.guest.run(["systemctl", "--failed", "--no-legend", "--plain"])
        .stdout.strip()
        .splitlines()
    ]


@dataclass
class Server:
    """A guest that has booted in a lab of its own."""

    place: network.Lab
    guest: Guest
    boot: Boot
    name: str  # in the table of times at the end of the run

    def __post_init__(self) -> None:
        RUNNING.append(self)
        self._note("first boot", self.boot.seconds)

    def reboot(self) -> None:
        begun = time.monotonic()
        self.guest.reboot()
        self.boot = wait_for_boot(self.guest)
        self._note("reboot", time.monotonic() - begun)

    def _note(self, what: str, seconds: float) -> None:
        times.note(f"{self.name}, {len(self.place.ports)} NICs", what, seconds)

    def reachable(self) -> dict[str, bool]:
        return network.reachability(self.place)

    def comes_to_answer_everywhere(self) -> dict[str, bool]:
        """Reachability once all is well, or after the longest time that it may take."""
        return self._comes_to_answer(self.expected(only_first_nic=False))

    def comes_to_answer_by_its_first_nic(self) -> dict[str, bool]:
        """Reachability once that answers, which every server's first NIC does."""
        return self._comes_to_answer(self.expected(only_first_nic=True))

    def _comes_to_answer(self, expected: dict[str, bool]) -> dict[str, bool]:
        until = time.monotonic() + patience(self.guest)
        while True:
            found = self.reachable()
            if all(found[ip] for ip in expected if expected[ip]) or time.monotonic() > until:
                return found

    def expected(self, *, only_first_nic: bool) -> dict[str, bool]:
        addresses = [(port, port.address4.ip) for port in self.place.ports]
        addresses += [(port, port.address6.ip) for port in self.place.ports]
        first = self.place.ports[0]
        return {str(ip): port is first or not only_first_nic for port, ip in addresses}

    def check(self) -> tuple[int, str]:
        """``source-routing check`` in the guest, once well or after the settling time."""
        until = time.monotonic() + patience(self.guest)
        while True:
            done = self.guest.run(["source-routing", "check"])
            if done.returncode == 0 or time.monotonic() > until:
                return done.returncode, done.stdout + done.stderr
            time.sleep(1)

    def neighbours(self) -> dict[str, str]:
        """Who answered the router's ARP and ND questions: address -> MAC."""
        return {
            str(ip): self.place.neighbour(port, ip)
            for port in self.place.ports
            for ip in (port.address4.ip, port.address6.ip)
        }

    def own_macs(self) -> dict[str, str]:
        """The same as it has to be: MACs that only this run's guest has."""
        return {
            str(ip): port.mac
            for port in self.place.ports
            for ip in (port.address4.ip, port.address6.ip)
        }


@contextlib.contextmanager
def first_boot(
    image: Path, user_data: str, scratch: Path, *, nics: int = 2, dhcp: bool = False
) -> Iterator[Server]:
    """Boot `image`, a root tree (container) or a disk (virtual machine), as a new server."""
    with network.Lab(network.ports(nics)) as place:
        drive = ConfigDrive(place.ports, user_data, dhcp=dhcp)
        home = scratch / f"guest-{uuid.uuid4().hex[:8]}"
        with booted(place, image, drive, home) as guest:
            name = re.sub(r"^(baked|image)-|-[0-9a-f]{12}(\.qcow2)?$", "", image.name)
            kind = "container" if image.is_dir() else "machine"
            told = f"{name} ({kind}{', DHCP' if dhcp else ''})"
            yield Server(place, guest, wait_for_boot(guest), told)


def instance_of(server: Server) -> str | None:
    """The instance that the guest takes itself for."""
    told = server.guest.run(["cat", "/var/lib/cloud/data/instance-id"])
    return told.stdout.strip() or None
