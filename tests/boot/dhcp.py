"""The subnets' DHCP server: dnsmasq from a root of its own, in the lab's router."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from imagebuild.lab.network import Lab, Port

from .daemon import Daemon


class DhcpServer(Daemon):
    """Leases each port its address, for two minutes."""

    def __init__(self, lab: Lab, tree: Path, scratch: Path):
        super().__init__(lab, scratch / "dnsmasq.log", tree)
        self.start(lab.ports)

    def start(self, ports: Sequence[Port], *more: str) -> None:
        """(Re)start it; an address that is another now comes with the next renewal.

        `more` are options of dnsmasq(8); each port's name is a tag.
        """
        argv = [
            *("dnsmasq", "--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null"),
            *("--port=0", "--user=root", "--pid-file", "--bind-dynamic", "--no-ping"),
            *("--dhcp-authoritative", "--dhcp-leasefile=/run/dnsmasq.leases"),
        ]
        for port in ports:
            network = port.address4.network
            argv += [
                f"--interface={port.tap}",
                f"--dhcp-range=set:{port.name},{network.network_address},static,{network.netmask},2m",
                f"--dhcp-host={port.mac},{port.address4.ip}",
                f"--dhcp-option=tag:{port.name},option:router,{port.gateway4}",
            ]
        self.run((*argv, *more), "DHCP, static leases only on")

    def start_briefly(self, port: Port, seconds: int) -> None:
        """Run udhcpd instead, which leases for less than two minutes; for one port."""
        conf = (
            f"start {port.address4.ip}\nend {port.address4.ip}\ninterface {port.tap}\n"
            f"static_lease {port.mac} {port.address4.ip}\noption lease {seconds}\nmin_lease 2\n"
            f"option router {port.gateway4}\noption subnet {port.address4.netmask}\n"
            "lease_file /run/udhcpd.leases\npidfile /run/udhcpd.pid\n"
        )
        script = 'printf %s "$1" >/run/udhcpd.conf; touch /run/udhcpd.leases; '
        script += "exec udhcpd -f /run/udhcpd.conf"
        self.run(("sh", "-c", script, "udhcpd", conf), "udhcpd: started")
