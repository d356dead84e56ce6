"""A data centre of a few network namespaces in which guests boot.

    remote ---- router ---- [anti-spoofing] ---- guest's NIC 1
                       \\--- [anti-spoofing] ---- guest's NIC 2 ...

A child of this process holds each namespace, which has no name.  So nothing can be
left behind, and no leftover of another run can answer in place of a guest.  The
host's own network is not touched.  Each lab has new MACs: an answer from one of
them comes from this run's guest.
"""

from __future__ import annotations

import ipaddress
import os
import random
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

from ..command import Argument, Completed, attempt, run
from ..errors import BuildError
from . import process

PROGRAMS: Mapping[str, str] = {
    "ip": "iproute2",
    "nft": "nftables",
    "ping": "iputils-ping",
    **process.PROGRAMS,
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "sysctl": "procps",
}

REMOTE4, REMOTE_GATEWAY4 = IPv4Interface("64.31.0.51/24"), IPv4Interface("64.31.0.1/24")
REMOTE6 = IPv6Interface("2001:db8:ffff::51/64")
REMOTE_GATEWAY6 = IPv6Interface("2001:db8:ffff::1/64")

MOST_PORTS = 28


@dataclass(frozen=True)
class Port:
    """A NIC of the guest as its cloud knows it."""

    name: str  # its name in the container; in QEMU udev names it
    mac: str
    address4: IPv4Interface
    gateway4: ipaddress.IPv4Address
    address6: IPv6Interface
    gateway6: ipaddress.IPv6Address
    default: bool  # the metadata gives it the default route
    routes4: tuple[str, ...] = ()  # other destinations behind the gateway

    @property
    def tap(self) -> str:
        """The router's end of the cable."""
        return f"port-{self.name}"

    @property
    def router4(self) -> IPv4Interface:
        """The gateway's address with its prefix length, as the router has it."""
        return IPv4Interface(f"{self.gateway4}/{self.address4.network.prefixlen}")

    @property
    def router6(self) -> IPv6Interface:
        return IPv6Interface(f"{self.gateway6}/{self.address6.network.prefixlen}")


def ports(count: int = 2, seed: int | None = None) -> tuple[Port, ...]:
    """`count` NICs; the first two are the public and the private one of a classic server."""
    chance = random.Random(seed) if seed is not None else random.SystemRandom()
    addresses = ["162.253.43.134/24", "10.13.96.161/19", "172.20.7.11/22", "192.168.77.5/24"]
    # Up to the number of slots on a machine's PCI bus; further ports are all alike.
    addresses += [f"10.{128 + number}.0.5/24" for number in range(MOST_PORTS - len(addresses))]
    if not 1 <= count <= len(addresses):
        raise BuildError(f"a lab has 1 to {len(addresses)} NICs, not {count}")
    # In the metadata the first two are as on the server that prompted this project.  The
    # others are as in Neutron, which gives a default route to every port whose subnet has a
    # gateway, and host routes to one whose subnet has those.
    defaults = {1: False, 3: False}
    routes = {1: ("10.0.0.0/8",), 3: ("198.18.0.0/15",)}
    result = []
    for number, text in enumerate(addresses[:count]):
        address4 = IPv4Interface(text)
        prefix6 = f"2001:db8:{number + 1:x}:"
        tail = ":".join(f"{chance.randrange(256):02x}" for _ in range(3))
        result.append(
            Port(
                name=f"ens{number + 3}",
                mac=f"fa:16:3e:{tail}",
                address4=address4,
                gateway4=address4.network.network_address + 1,
                address6=IPv6Interface(f"{prefix6}:134/64"),
                gateway6=ipaddress.IPv6Address(f"{prefix6}:1"),
                default=defaults.get(number, True),
                routes4=routes.get(number, ()),
            )
        )
    return tuple(result)


class Namespace:
    """A network namespace that exists as long as the process that holds it."""

    def __init__(self, holder: subprocess.Popen[bytes]):
        self._holder = holder

    @classmethod
    def create(cls) -> Namespace:
        # The holder ends with this process, and the namespace with the holder.
        holder = process.start(["unshare", "--net", "sleep", "infinity"])
        own = os.readlink("/proc/self/ns/net")
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if holder.poll() is not None:
                raise BuildError("no network namespace could be made (root is needed)")
            # `sleep` runs only after unshare has created the namespace.
            if (
                os.readlink(f"/proc/{holder.pid}/ns/net") != own
                and Path(f"/proc/{holder.pid}/comm").read_text().strip() == "sleep"
            ):
                namespace = cls(holder)
                namespace.run(["ip", "link", "set", "lo", "up"])
                return namespace
            time.sleep(0.01)
        holder.kill()
        raise BuildError("a network namespace was not there after 60 s")

    @property
    def pid(self) -> int:
        return self._holder.pid

    @property
    def path(self) -> str:
        return f"/proc/{self.pid}/ns/net"

    def prefix(self) -> list[str]:
        """The words before a command that run it in this namespace."""
        return ["nsenter", f"--net={self.path}"]

    def run(
        self, argv: Sequence[Argument], *, timeout: float = 120, stdin: str | None = None
    ) -> str:
        return run([*self.prefix(), *argv], timeout=timeout, stdin=stdin)

    def attempt(
        self, argv: Sequence[Argument], *, timeout: float = 120, stdin: str | None = None
    ) -> Completed:
        return attempt([*self.prefix(), *argv], timeout=timeout, stdin=stdin)

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()


@dataclass
class Lab:
    """A remote host, and a router with a guarded port for each NIC; a context manager."""

    ports: tuple[Port, ...] = field(default_factory=ports)
    _stack: ExitStack = field(default_factory=ExitStack, repr=False)

    def __enter__(self) -> Lab:
        with ExitStack() as stack:
            self.remote = self._namespace(stack)
            self.router = self._namespace(stack)
            self._wire_remote()
            self.router.run(
                ["sysctl", "-q", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @staticmethod
    def _namespace(stack: ExitStack) -> Namespace:
        namespace = Namespace.create()
        stack.callback(namespace.close)
        return namespace

    def _wire_remote(self) -> None:
        self.router.run(
            ["ip", "link", "add", "remote", "type", "veth", "peer", "name", "uplink"]
            + ["netns", str(self.remote.pid)]
        )
        _addresses(self.router, "remote", REMOTE_GATEWAY4, REMOTE_GATEWAY6)
        _addresses(self.remote, "uplink", REMOTE4, REMOTE6)
        for family, gateway in (("-4", REMOTE_GATEWAY4.ip), ("-6", REMOTE_GATEWAY6.ip)):
            self.remote.run(["ip", family, "route", "add", "default", "via", str(gateway)])

    def plug_container(self) -> Namespace:
        """Create a namespace for a container, with its NICs."""
        guest = self._namespace(self._stack)
        for port in self.ports:
            self.plug(port, guest)
        return guest

    def plug(self, port: Port, guest: Namespace) -> None:
        """Plug another NIC into a container, which may be running."""
        self.router.run(
            ["ip", "link", "add", port.tap, "type", "veth"]
            + ["peer", "name", port.name, "address", port.mac, "netns", str(guest.pid)]
        )
        self._guard(port)

    def pull(self, port: Port) -> None:
        """Unplug a NIC, if it is plugged in."""
        self.router.attempt(["ip", "link", "del", port.tap])
        self.router.attempt(["nft", "delete", "table", "netdev", _table(port)])

    def plug_taps(self) -> Namespace:
        """Create taps for a virtual machine; returns the namespace in which to run QEMU."""
        for port in self.ports:
            self.plug_tap(port)
        return self.router

    def plug_tap(self, port: Port) -> None:
        """Create the tap of another NIC, for a hypervisor that may be running."""
        self.router.run(["ip", "tuntap", "add", "dev", port.tap, "mode", "tap"])
        self._guard(port)

    def unplug(self) -> None:
        """Remove all cables, so that the next guest starts with new ones."""
        for port in self.ports:
            self.pull(port)

    def disconnect(self, port: Port) -> None:
        """Unplug a NIC's cable at the router: the NIC stays but loses its carrier."""
        self.router.run(["ip", "link", "set", port.tap, "down"])

    def connect(self, port: Port) -> None:
        """Plug the cable in again."""
        self.router.run(["ip", "link", "set", port.tap, "up"])
        _addresses(self.router, port.tap, port.router6)  # the kernel removed it with the link

    def _guard(self, port: Port) -> None:
        _addresses(self.router, port.tap, port.router4, port.router6)
        self.router.run(["nft", "-f", "-"], stdin=anti_spoofing(port))

    def answers(self, address: object, *, count: int = 3) -> bool:
        """Whether the remote host gets replies from `address`, all of `count` pings.

        Address resolution may lose the first packets, so one ping goes first.
        """
        target = str(address)
        self.remote.attempt(["ping", "-q", "-n", "-c1", "-W2", target], timeout=60)
        pings = ["ping", "-q", "-n", f"-c{count}", "-i0.2", "-W2", target]
        return self.remote.attempt(pings, timeout=60).returncode == 0

    def becomes_reachable(self, address: object, timeout: float) -> bool:
        """Whether `address` answers the remote host within `timeout` seconds."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            if self.answers(address):
                return True
            time.sleep(1)
        return False

    def neighbour(self, port: Port, address: object) -> str:
        """The MAC that answered the router's ARP or ND request for `address`, or ""."""
        found = self.router.run(["ip", "neigh", "show", str(address), "dev", port.tap])
        match = re.search(r"lladdr ([0-9a-f:]{17})", found)
        return match.group(1) if match else ""

    def spoofed(self, port: Port) -> int:
        """The number of packets that the port's anti-spoofing has dropped."""
        listing = self.router.run(["nft", "list", "counter", "netdev", _table(port), "spoofed"])
        match = re.search(r"packets (\d+)", listing)
        return int(match.group(1)) if match else 0


def _addresses(namespace: Namespace, device: str, *addresses: object) -> None:
    for address in addresses:
        nodad = ["nodad"] if ":" in str(address) else []
        namespace.run(["ip", "address", "replace", str(address), "dev", device, *nodad])
    namespace.run(["ip", "link", "set", device, "up"])


def _table(port: Port) -> str:
    return f"guard_{port.name}"


def anti_spoofing(port: Port) -> str:
    """The nftables rules of Neutron's port security: only the port's own MAC and addresses pass."""
    own6 = f"{{ {port.address6.ip}, ::, {link_local(port.mac)} }}"
    return f"""
table netdev {_table(port)} {{
    counter spoofed {{ }}
    chain in {{
        type filter hook ingress device "{port.tap}" priority 0; policy accept;
        ether saddr != {port.mac} counter name spoofed drop
        ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept
        ip saddr != {port.address4.ip} counter name spoofed drop
        arp saddr ip != {{ {port.address4.ip}, 0.0.0.0 }} counter name spoofed drop
        ip6 saddr != {own6} counter name spoofed drop
    }}
}}
"""


def link_local(mac: str) -> ipaddress.IPv6Address:
    """The EUI-64 link-local address of a MAC (RFC 4291, appendix A)."""
    octets = [int(part, 16) for part in mac.split(":")]
    octets[0] ^= 2
    identifier = bytes(octets[:3]) + b"\xff\xfe" + bytes(octets[3:])
    return ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + identifier)


def reachability(lab: Lab) -> dict[str, bool]:
    """Whether each address of each NIC, IPv4 before IPv6, answers the remote host."""
    addresses = [port.address4.ip for port in lab.ports] + [port.address6.ip for port in lab.ports]
    return {str(address): lab.answers(address) for address in addresses}
