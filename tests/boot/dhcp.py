"""The subnets' DHCP server: dnsmasq from a root of its own, in the lab's router."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from imagebuild.lab import Lab, Port

# $1 is the root.  Private mounts, so that nothing of it is left anywhere.
_ENTER = """
set -eu
root=$1
shift
mount --bind "$root" "$root"
mount -t tmpfs tmpfs "$root/run"
mount --bind /dev "$root/dev"
exec chroot "$root" "$@"
"""


class DhcpServer:
    """Leases each port its address, for two minutes."""

    def __init__(self, lab: Lab, tree: Path, scratch: Path):
        self._lab, self._tree, self._log = lab, tree, scratch / "dnsmasq.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.start(lab.ports)

    def start(self, ports: Sequence[Port], *more: str) -> None:
        """(Re)start it; an address that is another now comes with the next renewal.

        `more` are options of dnsmasq(8); each port's name is a tag.
        """
        self.stop()
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
        self._run((*argv, *more))

    def _run(self, server: Sequence[str]) -> None:
        argv = [
            *self._lab.router.prefix(),
            *("setpriv", "--pdeathsig", "KILL"),
            *("unshare", "--mount", "--propagation", "private"),
            *("sh", "-c", _ENTER, "enter", str(self._tree)),
            *server,
        ]
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        time.sleep(0.5)
        if self._process.poll() is not None:
            raise RuntimeError(f"the DHCP server does not run: {self.log()}")

    def start_briefly(self, port: Port, seconds: int) -> None:
        """Run udhcpd instead, which leases for less than two minutes; for one port."""
        self.stop()
        conf = (
            f"start {port.address4.ip}\nend {port.address4.ip}\ninterface {port.tap}\n"
            f"static_lease {port.mac} {port.address4.ip}\noption lease {seconds}\nmin_lease 2\n"
            f"option router {port.gateway4}\noption subnet {port.address4.netmask}\n"
            "lease_file /run/udhcpd.leases\npidfile /run/udhcpd.pid\n"
        )
        script = 'printf %s "$1" >/run/udhcpd.conf; touch /run/udhcpd.leases; '
        script += "exec udhcpd -f /run/udhcpd.conf"
        self._run(("sh", "-c", script, "udhcpd", conf))

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def log(self) -> str:
        """The end of what it has told."""
        return self._log.read_text(errors="replace")[-2000:]
