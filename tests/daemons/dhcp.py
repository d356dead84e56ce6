"""A server whose NICs ask for leases, real clients of all kinds, and real DHCP servers.

The lab's router leases; what it tells can change from one renewal to the next,
which are two seconds apart.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab import Cloud, Lab, Monitor, Ping, UdpEcho, pings, seed_nics, wait_until

from .machine import Machine
from .roots import root_tree

BRIDGES = {"ens3": "br1", "ens4": "br2"}
TABLES = {"ens3": 500, "ens4": 501}


def trixie() -> Path:
    return root_tree("dhcp-clients")


def bookworm() -> Path:
    return root_tree("ifupdown")


# -- the server's side ------------------------------------------------------------------


@dataclass(frozen=True)
class Terms:
    """What a lease says; `classless` as dnsmasq(8) wants option 121."""

    address: str
    router: str
    classless: str = ""


USUAL = {
    "ens3": Terms("162.253.43.134", "162.253.43.1"),
    "ens4": Terms("10.13.96.161", "10.13.96.1"),
}
OTHER_ROUTERS = {"ens3": "162.253.43.2", "ens4": "10.13.96.2"}


# What udhcpd logs of a lease that it grants or renews.
SHORT = "sending ACK to"


class Leasing:
    """DHCP servers in the lab's router: one at a time, or none."""

    def __init__(self, machine: Machine, macs: Mapping[str, str]):
        self._machine, self._macs = machine, macs
        self.terms = dict(USUAL)
        self._short = 0

    def tell(self, **changed: Terms | None) -> None:
        """(Re)start dnsmasq with other terms; None: it knows the NIC no more."""
        self.stop()
        self.terms.update(changed)
        argv = []
        for nic, terms in self.terms.items():
            if terms is None:
                continue
            argv += [
                f"--dhcp-host={self._macs[nic]},{terms.address}",
                f"--dhcp-option=tag:{nic},option:router,{terms.router}",
            ]
            if terms.classless:
                argv.append(f"--dhcp-option=tag:{nic},121,{terms.classless}")
        self._machine.run(
            "dnsmasq",
            *("--conf-file=/dev/null", "--port=0", "--user=root", "--bind-dynamic"),
            *("--pid-file=/run/dhcp.pid", "--dhcp-leasefile=/run/dnsmasq.leases"),
            *("--log-facility=/run/dnsmasq.log", "--dhcp-authoritative", "--no-ping"),
            *(f"--interface={bridge}" for bridge in BRIDGES.values()),
            "--dhcp-range=set:ens3,162.253.43.0,static,2m",
            "--dhcp-range=set:ens4,10.13.96.0,static,255.255.224.0,2m",
            *("--dhcp-option-force=option:T1,2", "--dhcp-option-force=option:T2,4"),
            *argv,
        )

    def tell_shortly(self, nic: str, seconds: int) -> None:
        """Run udhcpd instead, which leases for less than two minutes, for one NIC."""
        self.stop()
        terms = self.terms[nic]
        assert terms is not None
        self._machine.write(
            "/run/udhcpd.conf",
            f"start {terms.address}\nend {terms.address}\ninterface {BRIDGES[nic]}\n"
            f"static_lease {self._macs[nic]} {terms.address}\n"
            f"min_lease 2\noption lease {seconds}\noption router {terms.router}\n"
            "option subnet 255.255.224.0\nlease_file /run/udhcpd.leases\n"
            "pidfile /run/dhcp.pid\n",
        )
        self._short = self._machine.log().count(SHORT)
        self._machine.run("sh", "-c", "touch /run/udhcpd.leases; udhcpd -S /run/udhcpd.conf")

    def is_short(self, address: str) -> bool:
        """Whether a lease of this address has been renewed for that short a time."""
        return self._machine.log().count(f"{SHORT} {address}") > self._short

    def stop(self) -> None:
        """Like a server that died: it says nothing to anybody."""
        script = """
            pid=$(cat /run/dhcp.pid 2>/dev/null) || exit 0
            kill -9 "$pid" && while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
            rm -f /run/dhcp.pid /run/dnsmasq.log
        """
        self._machine.run("sh", "-c", script)

    def granted(self, nic: str) -> int:
        """How many leases this dnsmasq has granted or renewed."""
        return self._machine.read("/run/dnsmasq.log").count(f"DHCPACK({BRIDGES[nic]})")

    def log(self) -> str:
        return self._machine.read("/run/dnsmasq.log")


# -- the clients ------------------------------------------------------------------------


@dataclass(frozen=True)
class Client:
    """A DHCP client and who runs it."""

    name: str
    tree: Callable[[], Path]
    files: Mapping[str, str]
    start: str
    """A shell command after which both NICs get their leases."""


INTERFACES = """
auto lo
iface lo inet loopback
auto ens3
iface ens3 inet dhcp
auto ens4
iface ens4 inet dhcp
"""
# Ask again soon, where nobody has answered: by default it takes minutes.
IMPATIENT = """
option rfc3442-classless-static-routes code 121 = array of unsigned integer 8;
request subnet-mask, broadcast-address, routers, rfc3442-classless-static-routes;
initial-interval 1; backoff-cutoff 2; retry 2; timeout 30;
"""
PROFILE = """[connection]
id={nic}
type=ethernet
interface-name={nic}
[ipv4]
method=auto
[ipv6]
method=disabled
"""
DHCLIENT = Client(
    "dhclient",
    bookworm,
    {"/etc/network/interfaces": INTERFACES, "/etc/dhcp/dhclient.conf": IMPATIENT},
    "ifup -a",
)
DHCPCD = Client(
    "dhcpcd",
    trixie,
    {"/etc/network/interfaces": INTERFACES},
    # Five seconds less of looking whether somebody else has the address.
    "echo noarp >>/etc/dhcpcd.conf; rm /etc/systemd/system/*/NetworkManager*.service; ifup -a",
)
NETWORK_MANAGER = Client(
    "NetworkManager",
    trixie,
    {
        "/etc/network/interfaces": "auto lo\niface lo inet loopback\n",
        "/etc/NetworkManager/conf.d/90-test.conf": (
            "[main]\ndhcp=internal\nno-auto-default=*\n[device]\nmatch-device=*\nmanaged=1\n"
            "[logging]\nbackend=syslog\n"
        ),
        **{
            f"/etc/NetworkManager/system-connections/{nic}.nmconnection": PROFILE.format(nic=nic)
            for nic in BRIDGES
        },
    },
    # A sysfs that can be written to tells it that there is a udev to wait for.
    "mount -o remount,bind,ro /sys; ip link set lo up; mkdir -p /run/dbus; "
    "dbus-daemon --system --fork && NetworkManager && nm-online -q -s -t 30",
)
CLIENTS = {client.name: client for client in (DHCLIENT, DHCPCD, NETWORK_MANAGER)}


# -- all of it ---------------------------------------------------------------------------


@dataclass
class World:
    """A server with two NICs that has just got its leases, and is served."""

    lab: Lab
    client: Client
    server: Machine
    router: Machine
    cloud: Cloud
    leasing: Leasing
    healed: dict[str, float] = field(default_factory=dict)
    """Seconds from the client's own action until all was right, by event."""

    @staticmethod
    @contextmanager
    def begin(client: Client, lab: Lab, home: Path) -> Iterator[World]:
        cloud = Cloud(lab, seed_nics(ipv6=False), container=False, hosts=False, rp_filter=1)
        cloud.build()
        for nic in BRIDGES:
            lab.ip("S", "address", "flush", "dev", nic)
            lab.ip("S", "link", "set", nic, "down")
            length = 24 if nic == "ens3" else 19
            lab.ip("RT", "address", "add", f"{OTHER_ROUTERS[nic]}/{length}", "dev", BRIDGES[nic])
        lab.ip("S", "link", "set", "lo", "down")
        machines = [Machine(lab, "RT", trixie(), home / "router")]
        try:
            machines.append(Machine(lab, "S", client.tree(), home / "server"))
            router, server = machines
            server.install()
            server.write("/etc/fstab", "")
            for path, text in client.files.items():
                server.write(path, text, 0o600 if path.endswith(".nmconnection") else 0o644)
            leasing = Leasing(router, cloud.macs)
            leasing.tell()
            world = World(lab, client, server, router, cloud, leasing)
            server.run("sh", "-c", client.start, timeout=90)
            world.has_leases()
            yield world
        finally:
            for machine in machines:
                machine.stop()

    # -- what there is -------------------------------------------------------------------

    def addresses(self, nic: str) -> list[str]:
        told = json.loads(self.lab.ip("S", "-4", "-j", "address", "show", "dev", nic))
        found = [info for link in told for info in link.get("addr_info", [])]
        return [info["local"] for info in found if info and info.get("scope") == "global"]

    def has_leases(self) -> None:
        for nic, terms in self.leasing.terms.items():
            wait_until(lambda nic=nic, terms=terms: terms.address in self.addresses(nic))

    def rules(self) -> str:
        return self.lab.ip("S", "-N", "-4", "rule")

    def ruled(self) -> set[str]:
        return set(re.findall(r"from (\d\S+) lookup", self.rules()))

    def gateway(self, nic: str) -> str:
        """Of the NIC's own table; '' when that has no default."""
        table = str(TABLES[nic])
        told = self.lab.ip("S", "-4", "route", "show", "table", table, "default", check=False)
        found = re.findall(rf"^default via (\S+) dev {nic} ", told, re.MULTILINE)
        assert len(found) < 2, told
        return found[0] if found else ""

    def serves(self, nic: str, address: str, gateway: str) -> bool:
        """Whether `address` is the only one of its NIC that has rules, and its way out right."""
        others = {own for other in BRIDGES if other != nic for own in self.addresses(other)}
        return self.ruled() - others == {address} and self.gateway(nic) == gateway

    def check(self) -> str:
        done = self.server.run("source-routing", "check", check=False)
        return "" if done.returncode == 0 else done.stdout + done.stderr

    def port_security(self, nic: str, *addresses: str) -> None:
        """Let the cloud know which addresses a port has now."""
        self.cloud.nics = tuple(
            dataclasses.replace(own, addresses=tuple(f"{ip}/19" for ip in addresses))
            if own.name == nic
            else own
            for own in self.cloud.nics
        )
        self.cloud.port_security()

    # -- what happens --------------------------------------------------------------------

    @contextmanager
    def losing_nothing(self, *nics: str) -> Iterator[None]:
        """A dense stream to each of these NICs meanwhile; not one packet may be lost."""
        meters = {
            nic: UdpEcho(self.lab, "R", "S", self.leasing.terms[nic].address, 5) for nic in nics
        }
        with_first = list(meters.values())
        with with_first[0]:
            if len(with_first) > 1:
                with with_first[1]:
                    yield
            else:
                yield
        lost = {nic: meter.loss.lost for nic, meter in meters.items()}
        assert lost == dict.fromkeys(nics, 0), self.story()

    @contextmanager
    def nothing_happens(self) -> Iterator[None]:
        """Nothing of ours changes in the kernel, and no Python is run."""
        applies = self.server.applies()
        with Monitor(self.lab, "S") as monitor:
            yield
        assert [event for event in monitor.events if "proto 83" in event] == []
        assert self.server.applies() == applies, self.server.log()

    def heals(self, event: str, noticed: Callable[[], object], right: Callable[[], object]) -> None:
        """The client acts, and then everything comes to be `right`, by itself."""
        try:
            wait_until(noticed)
            started = time.monotonic()
            wait_until(right)
            seconds = time.monotonic() - started
            # Asking takes a Python of its own, too.
            wait_until(lambda: not self.check())
            content = time.monotonic() - started
        except AssertionError as error:
            raise AssertionError(f"{event}: {error}\n{self.story()}") from None
        self.healed[event] = seconds
        told = f"over after {seconds:.2f} s, {content:.2f} s with its check"
        print(f"{self.client.name}: {event}: {told}")
        self.is_well()

    def is_well(self) -> None:
        """All that has to hold after anything."""
        assert self.check() == "", self.story()
        there = {address for nic in BRIDGES for address in self.addresses(nic)}
        assert self.ruled() <= there, self.story()
        if there:
            assert pings(self.lab, [Ping("R", ip) for ip in there]) == [], self.story()
        lines = [line for line in self.rules().splitlines() if line.strip()]
        assert [line for line, count in Counter(lines).items() if count > 1] == []

    def story(self) -> str:
        asked = (["-4", "address"], ["-N", "-4", "rule"], ["-4", "route", "show", "table", "all"])
        told = "\n".join(self.lab.ip("S", *argv) for argv in asked)
        return f"{told}\n{self.check()}\n{self.server.log()[-6000:]}\n{self.leasing.log()[-2000:]}"
