"""The lab's router as hosts see it: real radvd from a root of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from imagebuild.lab import Lab

from ..daemons.routers import Advertisement, router_tree

# $1 is the root, $2 the configuration.  Private mounts, so that nothing is left anywhere.
_ENTER = """
set -eu
root=$1
mount --bind "$root" "$root"
mount -t tmpfs tmpfs "$root/run"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
printf '%s' "$2" >"$root/run/radvd.conf"
exec chroot "$root" radvd --nodaemon -C /run/radvd.conf -p /run/radvd.pid -m stderr
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


class Router:
    """Advertises itself on the ports of a lab, as it is told."""

    def __init__(self, lab: Lab, scratch: Path):
        self._lab, self._tree, self._log = lab, router_tree(), scratch / "radvd.log"
        self._process: subprocess.Popen[bytes] | None = None

    def says(self, *advertisements: Advertisement) -> None:
        """(Re)start it with other words, without a goodbye of the old ones."""
        self.stop()
        argv = [
            *self._lab.router.prefix(),
            *("setpriv", "--pdeathsig", "KILL"),
            *("unshare", "--mount", "--propagation", "private"),
            *("sh", "-c", _ENTER, "enter", str(self._tree)),
            "".join(one.conf() for one in advertisements),
        ]
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        time.sleep(0.3)
        if self._process.poll() is not None:
            raise RuntimeError(f"radvd does not run: {self.log()}")

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
            self._process.wait(timeout=10)
            self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]
