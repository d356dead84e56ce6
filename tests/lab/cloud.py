"""The topology: a server with several ports in a cloud, and the world around it.

::

    R ---- RT ==== bridge of subnet 1 ---- S:ens3     S: docker0 ---- C
                        |
                       H1
           RT ==== bridge of subnet 2 ---- S:ens4
                        |
                       H2

R is a remote host; RT is the router and the hypervisor, whose side of each port of S
acts like Neutron's port security: it drops packets without that port's own addresses.
H1.. are hosts on the subnets, S is the server, C a container behind a docker-like
bridge in S.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface

from .netns import Lab, LabError
from .probes import Ping
from .waiting import wait_until

REMOTE = ("64.31.0.51/24", "2001:db8:ffff::51/64")
REMOTE_GATEWAYS = ("64.31.0.1/24", "2001:db8:ffff::1/64")
DOCKER = ("172.17.0.1/16", "fd00:d0c::1/64")
CONTAINER = ("172.17.0.2/16", "fd00:d0c::2/64")


@dataclass(frozen=True)
class Nic:
    """One port of the server and the subnet that it is in."""

    name: str
    addresses: tuple[str, ...]
    """With prefix lengths, both families."""
    gateways: tuple[str, ...]
    """At most one a family: RT's addresses in that subnet."""
    hosts: tuple[str, ...] = ()
    """Addresses of H, with prefix lengths."""
    subnet: int = 0
    """Ports with the same number share a bridge."""
    mac: str = ""

    def ips(self, family: int) -> tuple[str, ...]:
        return tuple(bare(a) for a in self.addresses if version(a) == family)

    def gateway(self, family: int) -> str:
        return next((g for g in self.gateways if version(g) == family), "")

    @property
    def host(self) -> str:
        return f"H{self.subnet}"


def bare(address: str) -> str:
    """An address without its prefix length."""
    return address.split("/")[0]


def version(address: str) -> int:
    return ip_interface(address).version


def seed_nics(ipv6: bool = True) -> tuple[Nic, Nic]:
    """ens3 and ens4 of the server that prompted this project, with IPv6 added."""
    ens3 = Nic(
        "ens3",
        ("162.253.43.134/24", "2001:db8:43::134/64"),
        ("162.253.43.1", "2001:db8:43::1"),
        ("162.253.43.77/24", "2001:db8:43::77/64"),
        1,
        "fa:16:3e:fc:45:9d",
    )
    ens4 = Nic(
        "ens4",
        ("10.13.96.161/19", "fd00:96::161/64"),
        ("10.13.96.1", "fd00:96::1"),
        ("10.13.100.77/19", "fd00:96::77/64"),
        2,
        "fa:16:3e:2b:e7:89",
    )
    if ipv6:
        return ens3, ens4
    return _only(ens3, 4), _only(ens4, 4)


def nics_in_own_subnets(count: int) -> tuple[Nic, ...]:
    """`count` dual-stack ports, each in its own subnet, named ens3 and up."""
    return tuple(
        Nic(
            f"ens{3 + i}",
            (f"10.{100 + i}.0.10/24", f"fd00:{100 + i}::10/64"),
            (f"10.{100 + i}.0.1", f"fd00:{100 + i}::1"),
            (f"10.{100 + i}.0.77/24", f"fd00:{100 + i}::77/64"),
            i + 1,
        )
        for i in range(count)
    )


def _only(nic: Nic, family: int) -> Nic:
    def keep(addresses: Iterable[str]) -> tuple[str, ...]:
        return tuple(a for a in addresses if version(a) == family)

    return Nic(
        nic.name, keep(nic.addresses), keep(nic.gateways), keep(nic.hosts), nic.subnet, nic.mac
    )


@dataclass
class Cloud:
    """Builds the topology in a lab; see the module's picture."""

    lab: Lab
    nics: Sequence[Nic]
    rp_filter: int = 0
    anti_spoofing: bool = True
    container: bool = True
    hosts: bool = True
    primary_default: bool = True
    """Main's default routes go by the first port."""
    main_routes: Sequence[str] = ()
    """More `ip route add` arguments for S."""
    remote: tuple[str, ...] = REMOTE
    macs: dict[str, str] = field(default_factory=dict)

    def build(self) -> Cloud:
        self.macs = {
            nic.name: nic.mac or f"fa:16:3e:00:00:{i:02x}" for i, nic in enumerate(self.nics, 1)
        }
        self.lab.add("R", "RT", "S")
        self._routers()
        self._ports()
        if self.hosts:
            self._hosts()
        if self.container:
            self.bridge("docker0", DOCKER, "C", CONTAINER)
            self.lab.nft("S", _MASQUERADE)
        self._main_routes()
        if self.anti_spoofing:
            self.port_security()
        self.settle()
        return self

    @property
    def host_names(self) -> list[str]:
        return sorted({nic.host for nic in self.nics}) if self.hosts else []

    # -- building blocks ----------------------------------------------------

    def _routers(self) -> None:
        lab = self.lab
        lab.sysctl(
            "S",
            {
                "net/ipv4/conf/all/rp_filter": self.rp_filter,
                "net/ipv4/conf/default/rp_filter": self.rp_filter,
            },
        )
        for short in ("RT", "S") if self.container else ("RT",):
            lab.sysctl(
                short,
                {
                    "net/ipv4/conf/all/forwarding": 1,
                    "net/ipv4/conf/default/forwarding": 1,
                    "net/ipv6/conf/all/forwarding": 1,
                    "net/ipv6/conf/default/forwarding": 1,
                },
            )
        self.wire("RT", "r0", "R", "eth0")
        lab.batch("RT", _addresses("r0", REMOTE_GATEWAYS))
        lab.batch(
            "R",
            _addresses("eth0", self.remote)
            + [f"route add default via {bare(gateway)}" for gateway in REMOTE_GATEWAYS],
        )

    def _ports(self) -> None:
        lab, lines, inside = self.lab, [], []
        for subnet in sorted({nic.subnet for nic in self.nics}):
            bridge = f"br{subnet}"
            lines += [
                f"link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
                f"link set {bridge} up",
            ]
            prefixes = {}
            for nic in self.nics:
                if nic.subnet == subnet:
                    for gateway in nic.gateways:
                        length = _length_for(gateway, nic.addresses)
                        prefixes[gateway] = f"{gateway}/{length}"
            lines += _addresses(bridge, prefixes.values())
        for nic in self.nics:
            lines += [
                f"link add p-{nic.name} type veth peer name {nic.name} netns {lab.name('S')}",
                f"link set p-{nic.name} master br{nic.subnet} up",
            ]
            inside += [f"link set {nic.name} address {self.macs[nic.name]} up"]
            inside += _addresses(nic.name, nic.addresses)
        lab.batch("RT", lines)
        lab.batch("S", inside)

    def _hosts(self) -> None:
        done = set()
        for nic in self.nics:
            if nic.host in done:
                continue
            done.add(nic.host)
            self.lab.add(nic.host)
            self.wire("RT", f"h{nic.subnet}", nic.host, "eth0", master=f"br{nic.subnet}")
            self.lab.batch(
                nic.host,
                _addresses("eth0", nic.hosts)
                + [f"route add default via {gateway} dev eth0" for gateway in nic.gateways],
            )

    def _main_routes(self) -> None:
        lines = []
        if self.primary_default:
            primary = self.nics[0]
            lines = [f"route add default via {g} dev {primary.name}" for g in primary.gateways]
        self.lab.batch("S", lines + [f"route add {route}" for route in self.main_routes])

    def wire(self, left: str, left_dev: str, right: str, right_dev: str, master: str = "") -> None:
        """A cable between two namespaces, both ends up."""
        enslave = f" master {master}" if master else ""
        peer = self.lab.name(right)
        self.lab.batch(
            left,
            [
                f"link add {left_dev} type veth peer name {right_dev} netns {peer}",
                f"link set {left_dev}{enslave} up",
            ],
        )
        self.lab.batch(right, [f"link set {right_dev} up"])

    def bridge(
        self, name: str, addresses: Iterable[str], inside: str, container: Sequence[str]
    ) -> None:
        """A container bridge in S as a container engine makes it, and its container."""
        addresses = tuple(addresses)
        self.lab.add(inside)
        self.lab.batch(
            "S",
            [
                f"link add {name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
                f"link set {name} up",
                *_addresses(name, addresses),
            ],
        )
        self.wire("S", f"v-{inside}", inside, "eth0", master=name)
        self.lab.batch(
            inside,
            _addresses("eth0", container)
            + [f"route add default via {bare(a)} dev eth0" for a in addresses],
        )

    def port_security(self) -> None:
        """Apply Neutron's port security at the hypervisor's side, for both families and ARP."""
        chains = []
        for number, nic in enumerate(self.nics):
            four = ", ".join((*nic.ips(4), "0.0.0.0"))
            six = ", ".join((*nic.ips(6), "::"))
            chains.append(
                f"chain port_{number} {{\n"
                f'type filter hook ingress device "p-{nic.name}" priority 0\n'
                f"ether saddr != {self.macs[nic.name]} counter drop\n"
                f"arp saddr ip != {{ {four} }} counter drop\n"
                f"ip saddr != {{ {four} }} counter drop\n"
                f"ip6 saddr != {{ fe80::/64, {six} }} counter drop\n}}"
            )
        body = "\n".join(chains)
        self.lab.nft(
            "RT",
            f"table netdev port_security\ndelete table netdev port_security\n"
            f"table netdev port_security {{\n{body}\n}}",
        )

    def settle(self) -> None:
        """Wait until every link has its carrier: before that its queue drops packets."""
        for name in sorted(self.lab._names):
            short = name[len(self.lab.prefix) + 1 :]

            def links(short: str = short) -> str:
                return self.lab.ip(short, "-o", "link", "show", "up")

            wait_until(lambda states=links: " state DOWN " not in states(), story=links)

    # -- asking -------------------------------------------------------------

    def addresses(self, family: int) -> list[tuple[str, str]]:
        """(port, address) of every address of the server."""
        return [(nic.name, ip) for nic in self.nics for ip in nic.ips(family)]

    def remote_ip(self, family: int) -> str:
        return next(bare(a) for a in self.remote if version(a) == family)

    def host_ips(self, family: int) -> dict[str, str]:
        if not self.hosts:
            return {}
        return {nic.host: bare(a) for nic in self.nics for a in nic.hosts if version(a) == family}

    def container_ip(self, family: int) -> str:
        return next(bare(a) for a in CONTAINER if version(a) == family)

    def matrix(self, families: Sequence[int] = (4, 6)) -> list[Ping]:
        """Every ping of the matrix: in from everywhere, out from each own address."""
        found = []
        for family in families:
            ends = {"R": self.remote_ip(family), **self.host_ips(family)}
            if self.container:
                ends["C"] = self.container_ip(family)
            for _nic, ip in self.addresses(family):
                found += [Ping(end, ip) for end in ends]
                found += [Ping("S", there, source=ip) for there in ends.values()]
        return found

    def unbound(self, families: Sequence[int] = (4, 6)) -> list[Ping]:
        """Pings that work without us and must still work: without a source, and the container's."""
        found = []
        for family in families:
            ends = [self.remote_ip(family), *self.host_ips(family).values()]
            if self.container:
                found.append(Ping("C", self.remote_ip(family)))
                ends.append(self.container_ip(family))
            found += [Ping("S", there) for there in ends]
        return found

    def by_device(self, families: Sequence[int] = (4, 6)) -> list[Ping]:
        """Pings from sockets that are bound to a device and have no source address."""
        return [
            Ping("S", self.remote_ip(family), source=nic.name)
            for family in families
            for nic in self.nics
            if nic.ips(family)
        ]

    def stanza(self, **more: object) -> dict[str, object]:
        """A user-data document that sets every gateway and writes no manager's files."""
        served = more.get("families", ["ipv4", "ipv6"])
        entries = {
            nic.name: {f"ipv{ip_address(gateway).version}": gateway for gateway in nic.gateways}
            for nic in self.nics
        }
        interfaces = {
            name: {f"gateway{family[-1]}": ip for family, ip in own.items() if family in served}
            for name, own in entries.items()
        }
        return {"source_routing": {"renderer": "none", "interfaces": interfaces, **more}}


def _addresses(dev: str, addresses: Iterable[str]) -> list[str]:
    return [
        f"address add {address} dev {dev}" + (" nodad" if version(address) == 6 else "")
        for address in addresses
    ]


def _length_for(gateway: str, addresses: Sequence[str]) -> int:
    for address in addresses:
        network = ip_interface(address).network
        if network.version == ip_address(gateway).version and ip_address(gateway) in network:
            return network.prefixlen
    raise LabError(f"no address of the port has {gateway} in its subnet")


_MASQUERADE = """
table inet container {
    chain out {
        type nat hook postrouting priority srcnat
        ip saddr 172.17.0.0/16 oifname != "docker0" masquerade
        ip6 saddr fd00:d0c::/64 oifname != "docker0" masquerade
    }
}
"""
