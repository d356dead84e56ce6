"""What a piece of software sets up on a server, and what is reached then.

Each is data: lines for `ip -batch`, rulesets for nft, a device where it has one, and the
packets that have to arrive.  Its daemons do not run: what they do to routing is here.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Union

import lab as laboratory
from lab import Cloud, Lab, Ping, pings
from lab.probes import AT_ONCE

TUN_WIRE = Path(laboratory.__file__).with_name("tun_wire.py")

# The server's addresses, the hosts beside it, and who is far away (`lab.Cloud`).
ENS3, ENS4 = "162.253.43.134", "10.13.96.161"
ENS3_6, ENS4_6 = "2001:db8:43::134", "fd00:96::161"
H1, H2 = "162.253.43.77", "10.13.100.77"
R, R_6 = "64.31.0.51", "2001:db8:ffff::51"
GATEWAY3, GATEWAY4 = "162.253.43.1", "10.13.96.1"
CONTAINER = "172.17.0.2"

# The far end X of a tunnel, a network behind it, and a host that only it leads to.
FAR, BEHIND, WORLD = "100.64.0.2", "10.20.0.7", "198.18.7.7"

ALONE = "without us"
IT_FIRST = "set up before us"
WE_FIRST = "set up after us"
WAYS = (ALONE, IT_FIRST, WE_FIRST)


class Fetch(NamedTuple):
    """One TCP connection; `source` need not be an address of the host (transparent)."""

    netns: str
    destination: str
    port: int
    source: str | None = None

    def __str__(self) -> str:
        origin = f"{self.netns} from {self.source}" if self.source else self.netns
        return f"{origin} -> {self.destination}:{self.port}"


class Listener(NamedTuple):
    """Says hello to whoever connects; takes connections to any address that come to it."""

    netns: str
    port: int


class Tunnel(NamedTuple):
    """A tun device of the server, and its far end X."""

    device: str
    address: str
    far: tuple[str, ...] = (FAR, BEHIND, WORLD)


Probe = Union[Ping, Fetch]

# What every server is asked: the first NIC serves without us, the second one does not.
SERVED = (
    Ping("R", ENS3),
    Ping("H1", ENS3),
    Ping("H2", ENS4),
    Ping("S", R),
    Ping("S", H2),
    Ping("R", ENS3_6),
    Ping("S", R_6),
)
MENDED = (
    Ping("R", ENS4),
    Ping("H1", ENS4),
    Ping("H2", ENS3),
    Ping("R", ENS4_6),
    Ping("S", R, ENS4),
    Ping("S", R, "ens4"),
)


def without(probes: Iterable[Probe], *gone: Probe) -> tuple[Probe, ...]:
    assert set(gone) <= set(probes), gone
    return tuple(one for one in probes if one not in gone)


@dataclass(frozen=True)
class Software:
    name: str
    source: str
    """Where its rules, tables and marks are from."""
    sets: tuple[str, ...] = ()
    """`ip -batch` lines in the server."""
    tunnel: Tunnel | None = None
    elsewhere: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """`ip -batch` lines in other namespaces, which are made where they are not there."""
    pod: tuple[str, str] | None = None
    """The server's device and the address of a pod P behind it."""
    allowed: tuple[str, ...] = ()
    """What the cloud lets the server's ports send besides their own addresses."""
    allowed_ports: tuple[int, ...] = (0, 1)
    nft: str = ""
    sysctls: Mapping[str, int] = field(default_factory=dict)
    listeners: tuple[Listener, ...] = ()
    container: bool = False
    stanza: Mapping[str, object] = field(default_factory=dict)
    works: tuple[Probe, ...] = SERVED
    """Arrives without us, and with us both ways."""
    mended: tuple[Probe, ...] = MENDED
    """Is lost without us, and arrives with us."""
    lost: tuple[Probe, ...] = ()
    """Is lost without us, and with us both ways."""
    with_us: tuple[Probe, ...] = ()
    """Arrives with us both ways; without us nobody can tell."""
    not_mended: Mapping[str, tuple[Probe, ...]] = field(default_factory=dict)
    """What of `mended` is lost in one of the ways."""
    next_run: tuple[Probe, ...] = ()
    """What of `works` waits for our next run (an event, or `apply`) when we were first."""

    def __post_init__(self) -> None:
        # What worked without us has no exceptions.
        assert all(set(dead) <= set(self.mended) for dead in self.not_mended.values())
        assert set(self.next_run) <= set(self.works)
        groups = (self.works, self.mended, self.lost, self.with_us)
        assert len(set().union(*groups)) == sum(map(len, groups)), self.name

    def __str__(self) -> str:
        return self.name

    def dead(self, way: str) -> set[Probe]:
        if way == ALONE:
            return {*self.mended, *self.lost}
        return {*self.lost, *self.not_mended.get(way, ())}

    def living(self, way: str) -> list[Probe]:
        asked = (*self.works, *self.mended, *(self.with_us if way != ALONE else ()))
        return [one for one in asked if one not in self.dead(way)]

    def set_up(self, lab: Lab, cloud: Cloud) -> None:
        if self.pod:
            lab.add("P")
            cloud.wire("S", self.pod[0], "P", "eth0")
            lab.batch("P", [f"address add {self.pod[1]}/32 dev eth0", *LINK_LOCAL_ROUTER])
            lab.sysctl("S", {f"net/ipv4/conf/{self.pod[0]}/proxy_arp": 1})
        if self.tunnel:
            wire(lab, self.tunnel)
        for netns, lines in self.elsewhere.items():
            lab.batch(netns, lines)
        # As its daemon does it, one after the other.
        lab.batch("S", self.sets)
        if self.sysctls:
            lab.sysctl("S", self.sysctls)
        if self.nft:
            lab.nft("S", self.nft)
        if self.allowed:
            allow(lab, self.allowed, self.allowed_ports)
        for one in self.listeners:
            listen(lab, one)


# The route of pods that have no subnet: a router that only proxy ARP knows.
LINK_LOCAL_ROUTER = (
    "route add 169.254.1.1 dev eth0 scope link",
    "route add default via 169.254.1.1 dev eth0",
)


def wire(lab: Lab, tunnel: Tunnel) -> None:
    """The device, and its far end, which sends everything back through it."""
    lab.add("X")
    other = f"/run/netns/{lab.name('X')}"
    process = lab.popen(
        "S",
        sys.executable,
        str(TUN_WIRE),
        tunnel.device,
        other,
        "tun0",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    lab.batch(
        "S", [f"address add {tunnel.address} dev {tunnel.device}", f"link set {tunnel.device} up"]
    )
    first, *more = tunnel.far
    lab.batch(
        "X",
        [
            f"address add {first}/32 dev tun0",
            "link set tun0 up",
            *(f"address add {one}/32 dev lo" for one in more),
            "route add default dev tun0",
        ],
    )


def allow(lab: Lab, sources: Iterable[str], ports: Iterable[int]) -> None:
    """As Neutron's allowed address pairs do."""
    told = ", ".join(sources)
    lab.nft(
        "RT",
        "".join(
            f"insert rule netdev port_security port_{number} {what} {{ {told} }} accept\n"
            for number in ports
            for what in ("ip saddr", "arp saddr ip")
        ),
    )


_LISTEN = """
import socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.setsockopt(socket.SOL_IP, 19, 1)  # IP_TRANSPARENT
s.bind(("", int(sys.argv[1])))
s.listen()
print("ready", flush=True)
while True:
    c, _ = s.accept(); c.sendall(b"hello"); c.close()
"""
_FETCH = """
import socket, sys
s = socket.socket()
s.settimeout(2)
if len(sys.argv) > 3:
    s.setsockopt(socket.SOL_IP, 19, 1)  # IP_TRANSPARENT
    s.bind((sys.argv[3], 0))
s.connect((sys.argv[1], int(sys.argv[2])))
sys.exit(s.recv(9) != b"hello")
"""


def listen(lab: Lab, one: Listener) -> None:
    process = lab.popen(
        one.netns, sys.executable, "-c", _LISTEN, str(one.port), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"


def fetches(lab: Lab, one: Fetch) -> bool:
    source = [one.source] if one.source else []
    argv = (sys.executable, "-c", _FETCH, one.destination, str(one.port), *source)
    return lab.run(one.netns, *argv, check=False, timeout=20).returncode == 0


def lost(lab: Lab, asked: Iterable[Probe], tries: int = 2) -> set[Probe]:
    """Those that do not arrive, all asked at once."""
    asked = list(asked)
    echoes = [one for one in asked if isinstance(one, Ping)]
    connections = [one for one in asked if isinstance(one, Fetch)]
    dead: set[Probe] = set(pings(lab, echoes, tries)) if echoes else set()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answered = list(pool.map(lambda one: fetches(lab, one), connections))
    return dead | {one for one, well in zip(connections, answered) if not well}
