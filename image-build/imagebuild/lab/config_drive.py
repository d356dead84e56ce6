"""Make the ConfigDrive that OpenStack gives a server: metadata, network, user-data."""

from __future__ import annotations

import ipaddress
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..command import run
from .network import Port

PROGRAMS: Mapping[str, str] = {"genisoimage": "genisoimage"}


@dataclass(frozen=True)
class ConfigDrive:
    """One server's metadata; each has a new `uuid`, so that cloud-init sees a first boot."""

    ports: Sequence[Port]
    user_data: str
    dhcp: bool = False
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))

    def files(self) -> dict[str, str]:
        """Path below the drive's root -> content."""
        meta = {
            "uuid": self.uuid,
            "name": "lab",
            "hostname": "lab",
            "availability_zone": "nova",
            "launch_index": 0,
            "project_id": "lab",
            "devices": [],
        }
        return {
            "openstack/latest/meta_data.json": json.dumps(meta, indent=1),
            "openstack/latest/network_data.json": json.dumps(self.network_data(), indent=1),
            "openstack/latest/user_data": self.user_data,
        }

    def network_data(self) -> dict[str, Any]:
        """network_data.json as Nova writes it: a link for each port, a network for each subnet."""
        links, networks = [], []
        for number, port in enumerate(self.ports):
            link = {
                "id": f"tap{number}",
                "vif_id": f"vif{number}",
                "type": "ovs",
                "mtu": 1500,
                "ethernet_mac_address": port.mac,
            }
            links.append(link)
            networks += self._networks(number, port)
        return {"links": links, "networks": networks, "services": []}

    def _networks(self, number: int, port: Port) -> list[dict[str, Any]]:
        common = {"link": f"tap{number}", "network_id": f"net{number}"}
        if self.dhcp:
            return [{"id": f"network{number}", "type": "ipv4_dhcp", **common}]
        routes4 = [_route(to, port.gateway4) for to in port.routes4]
        routes6 = []
        if port.default:
            routes4.append(_route("0.0.0.0/0", port.gateway4))
        if port.default:
            routes6.append(_route("::/0", port.gateway6))
        else:
            routes6.append(_route("2001:db8:aaaa::/48", port.gateway6))
        return [
            {
                "id": f"network{number}",
                "type": "ipv4",
                "ip_address": str(port.address4.ip),
                "netmask": str(port.address4.network.netmask),
                "routes": routes4,
                **common,
            },
            {
                "id": f"network{number}-v6",
                "type": "ipv6",
                "ip_address": str(port.address6.ip),
                "netmask": str(port.address6.network.netmask),
                "routes": routes6,
                **common,
            },
        ]

    def write_tree(self, where: Path) -> None:
        """Write it as a directory: the drive's content, or a container's seed directory."""
        for name, text in self.files().items():
            path = where / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def write_iso(self, iso: Path, scratch: Path) -> None:
        """Write it as the CD-ROM that Nova attaches."""
        tree = scratch / "config-drive"
        self.write_tree(tree)
        run(["genisoimage", "-quiet", "-J", "-r", "-V", "config-2", "-o", iso, tree])


def _route(to: str, gateway: object) -> dict[str, str]:
    network = ipaddress.ip_network(to)
    return {
        "network": str(network.network_address),
        "netmask": str(network.netmask),
        "gateway": str(gateway),
    }
