"""The first boot of a server, told from outside: who answers, and is it this guest?"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from imagebuild import lab, nspawn, qemu
from imagebuild.configdrive import ConfigDrive
from imagebuild.guest import Boot, Guest, wait_for_boot

OFF = "#cloud-config\nsource_routing: false\n"
ON = "#cloud-config\nsource_routing: true\n"
SILENT = "#cloud-config\n{}\n"

# From the end of cloud-init's last stage until hooks and duplicate address
# detection have had their say.
SETTLING_SECONDS = 10.0


@dataclass
class Server:
    """A guest that has booted in a lab of its own."""

    place: lab.Lab
    guest: Guest
    boot: Boot

    def reboot(self) -> None:
        self.guest.reboot()
        self.boot = wait_for_boot(self.guest)

    def reachable(self) -> dict[str, bool]:
        return lab.reachability(self.place)

    def comes_to_answer_everywhere(self) -> dict[str, bool]:
        """Reachability once all is well, or after the time that it may take."""
        until = time.monotonic() + SETTLING_SECONDS * self.guest.patience
        while True:
            found = self.reachable()
            if all(found.values()) or time.monotonic() > until:
                return found

    def expected(self, *, only_first_nic: bool) -> dict[str, bool]:
        addresses = [(port, port.address4.ip) for port in self.place.ports]
        addresses += [(port, port.address6.ip) for port in self.place.ports]
        first = self.place.ports[0]
        return {str(ip): port is first or not only_first_nic for port, ip in addresses}

    def check(self) -> tuple[int, str]:
        """``source-routing check`` in the guest, once well or after the settling time."""
        until = time.monotonic() + SETTLING_SECONDS * self.guest.patience
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
    with lab.Lab(lab.ports(nics)) as place:
        drive = ConfigDrive(place.ports, user_data, dhcp=dhcp)
        home = scratch / f"guest-{uuid.uuid4().hex[:8]}"
        with contextlib.ExitStack() as stack:
            if image.is_dir():
                running: Guest = stack.enter_context(nspawn.booted(place, [image], drive, home))
            else:
                running = stack.enter_context(qemu.booted(place, image, drive, home))
            yield Server(place, running, wait_for_boot(running))


def instance_of(server: Server) -> Optional[str]:
    """The instance that the guest takes itself for."""
    told = server.guest.run(["cat", "/var/lib/cloud/data/instance-id"])
    return told.stdout.strip() or None
