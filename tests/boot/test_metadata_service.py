"""Servers without a ConfigDrive, who ask the metadata service; and cloud-init's own hotplug.

That needs such a server, and a later cloud-init than Debian 12's: with a ConfigDrive
its hotplug fails before it has done anything (seen with 25.1), and 22.4 asks for a
lease that its NIC has already, and fails too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from imagebuild import bake
from imagebuild.lab import network, nspawn
from imagebuild.lab.guest import running, wait_for_boot
from imagebuild.progress import Progress

from ..daemons.roots import root_tree
from ..sizes import one_each
from .dhcp import DhcpServer
from .managers.test_managers import Place, leaves_nothing, namespace_of
from .managers.worlds import WORLDS, World
from .metadata_service import DATASOURCE, ByService, MetadataService
from .story import ON, Server, hot_port

pytestmark = pytest.mark.boot

# An image, and what its network manager needs after cloud-init has written its files:
# of a networkd that nobody tells cloud-init only sets the link up.
SERVED = {
    "trixie-networkd": "networkctl reload",
    "trixie-netplan": ":",
    "trixie-network-manager": ":",
}
# Not in the image: at a boot that would have cloud-init reload the rules of udev.
WHEN_PLUGGED = (
    "printf 'updates: {{network: {{when: [boot-new-instance, hotplug]}}}}\\n' "
    ">/etc/cloud/cloud.cfg.d/96-lab-hotplug.cfg"
)


@dataclass
class Told(Place):
    """A server and the service that tells it what it is."""

    service: MetadataService

    def ports_are(self, *ports: network.Port) -> None:
        self.service.tells(dataclasses.replace(self.guest.drive, ports=ports))

    def hotplugged(self, port: network.Port) -> None:
        """What udev's rule has cloud-init do: a container has no udev."""
        argv = ["env", "PATH=/opt/no-udev:/usr/sbin:/usr/bin:/sbin:/bin", "cloud-init"]
        argv += ["devel", "hotplug-hook", "--subsystem=net", "handle", "--udevaction=add"]
        argv += [f"--devpath=/devices/virtual/net/{port.name}"]
        done = self.guest.run(argv)
        assert done.returncode == 0, done.stdout + done.stderr
        self.shell(SERVED[self.world.name])


@contextlib.contextmanager
def boot(world: World, image: Path, scratch: Path) -> Iterator[Told]:
    home = scratch / f"guest-{uuid.uuid4().hex[:8]}"
    home.mkdir()
    world = dataclasses.replace(world, nics=2, overlay={**world.overlay, **DATASOURCE})
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(network.Lab(network.ports(world.nics)))
        # cloud-init asks for an address first, to be able to ask for the rest.
        dhcp = DhcpServer(place, root_tree("router"), home)
        stack.callback(dhcp.stop)
        service = MetadataService(place, home)
        stack.callback(service.stop)
        drive = ByService(place.ports, ON)
        service.tells(drive)
        lowers = [*world.lay_over(home), image]
        guest = stack.enter_context(
            running(nspawn.ContainerGuest(place, lowers, drive, home / "guest"))
        )
        server = Server(place, guest, wait_for_boot(guest), f"{world.name} (container, service)")
        yield Told(server, world, None, service)


@pytest.fixture(
    scope="module",
    params=one_each(SERVED, ("trixie-netplan",), "hotplug by cloud-init, under other managers"),
)
def told(request: pytest.FixtureRequest, progress: Progress, scratch: Path) -> Iterator[Told]:
    world = WORLDS[request.param]
    with boot(world, bake.baked_root(world.recipe, progress), scratch) as made:
        yield made


def test_what_the_service_tells_is_served_from_the_first_boot(told: Told) -> None:
    told.is_well()
    status = told.server.boot.status
    assert status["status"] == "done", status
    assert "DataSourceOpenStack" in status["detail"], status
    assert "no gateway" not in told.shell("source-routing status")


def test_a_port_is_served_once_cloud_inits_hotplug_has_it_up(told: Told) -> None:
    port = plugged()
    told.shell(WHEN_PLUGGED)
    told.server.place.plug(port, namespace_of(told))
    told.ports_are(*told.server.place.ports, port)
    told.hotplugged(port)
    assert told.serves(port), told.shell("source-routing status; ip address")
    told.is_well()


def test_pulled_out_it_leaves_nothing(told: Told) -> None:
    port = plugged()
    told.server.place.pull(port)
    told.ports_are(*told.server.place.ports)
    leaves_nothing(told, port)
    told.is_well()


def plugged() -> network.Port:
    return dataclasses.replace(hot_port(3), routes4=("203.0.113.0/24",))
