"""The lab's router as hosts see it: real radvd from a root of its own."""

from __future__ import annotations

import sys
from pathlib import Path

from imagebuild.lab.network import Lab
from lab import PATIENCE_SECONDS

from ..daemons.routers import Advertisement, router_tree
from .daemon import Daemon

# $1 is the configuration.
_RADVD = """
printf '%s' "$1" >/run/radvd.conf
exec radvd --nodaemon -C /run/radvd.conf -p /run/radvd.pid -m stderr
"""
_OWN_SYS = 'mount -t sysfs sysfs /sys && exec "$@"'

# A second router on the link: one advertisement of its own, without prefixes.
# $1 is the interface, $2 its link-local address, $3 the lifetime, $4 the preference.
_SPEAK = """
import socket, struct, sys
device, address, lifetime, preference = sys.argv[1:]
index = socket.if_nametoindex(device)
flags = {"high": 0b01000, "medium": 0, "low": 0b11000}[preference]
mac = bytes.fromhex(open(f"/sys/class/net/{device}/address").read().strip().replace(":", ""))
# RFC 4861 4.2, RFC 4191 2.2, and the source link-layer address option.
words = struct.pack("!BBHBBHII", 134, 0, 0, 64, flags, int(lifetime), 0, 0) + b"\\x01\\x01" + mac
with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as speaking:
    speaking.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    speaking.bind((address, 0, 0, index))
    speaking.sendto(words, ("ff02::1", 0, 0, index))
"""


class Router(Daemon):
    """Advertises itself on the ports of a lab, as it is told."""

    def __init__(self, lab: Lab, scratch: Path):
        super().__init__(lab, scratch / "radvd.log", router_tree())

    def says(self, *advertisements: Advertisement) -> None:
        """(Re)start it with other words, without a goodbye of the old ones."""
        conf = "".join(one.conf() for one in advertisements)
        self.run(("sh", "-c", _RADVD, "radvd", conf), "started")

    def another_says(self, device: str, address: str, lifetime: int, preference: str) -> None:
        """One advertisement of another router, which has the link-local `address`.

        Its `lifetime` is in seconds; with 0 it says that it is no default router any more.
        """
        self._lab.router.run(["ip", "address", "replace", f"{address}/64", "dev", device, "nodad"])
        speak = [sys.executable, "-c", _SPEAK, device, address, str(lifetime), preference]
        # The namespace's /sys is this one's: not that of the interface.
        self._lab.router.run(["unshare", "--mount", "sh", "-c", _OWN_SYS, "speak", *speak])

    def leaves(self) -> None:
        """End it in order: it says goodbye, which is an advertisement with lifetime 0."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=PATIENCE_SECONDS)
            self._process = None
