"""Any topology: the invariant where the route is known, main's own word everywhere else.

The oracle is a longest-prefix match of its own over what table main holds;
the answer is the kernel's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from lab import Lab, SourceRouting
from lab.probes import Lookup, route_get, routes_get

pytestmark = pytest.mark.kernel

# Where a NIC may live: neighbours that collapse into one prefix, subnets inside
# the coarse routes below, different lengths.
SUBNETS = {
    4: (
        "10.0.0.0/24 10.0.1.0/24 10.0.2.0/23 10.64.0.0/16 10.65.128.0/17 172.16.5.0/24 "
        "192.0.2.0/25 192.0.2.128/25 198.51.100.64/26 100.64.0.0/29"
    ).split(),
    6: (
        "fd00:0:0:1::/64 fd00:0:0:2::/64 fd00:0:0:3::/64 fd00:64::/56 2001:db8::/64 "
        "2001:db8:0:1::/64 2001:db8:5::/120 2001:db8:6::/96"
    ).split(),
}
# What main may route, through a managed NIC or past all of them; from one that
# covers a quarter of the world to single hosts.
PREFIXES = {
    4: (
        "0.0.0.0/2 64.0.0.0/2 10.0.0.0/8 10.0.0.0/22 10.0.0.128/25 10.64.0.0/10 10.65.0.0/16 "
        "172.16.0.0/12 172.16.5.128/25 192.0.2.0/24 203.0.113.0/24 203.0.113.7/32 "
        "100.64.0.0/10 169.254.169.254/32 10.0.2.17/32"
    ).split(),
    6: (
        "fd00::/8 fd00::/16 fd00:0:0:2::/80 fd00:64::/48 2001:db8::/32 2001:db8::/63 "
        "2001:db8:7::/48 2001:db8:7::7/128 2001:db8:5::80/121 2000::/3 fd00:0:0:3::9/128"
    ).split(),
}
BRIDGES = {
    4: ("172.17.0.0/16", "10.200.0.0/16", "10.0.4.0/24"),
    6: ("fd00:d0c::/64", "2001:db8:d::/64"),
}
EVERYWHERE = {4: ("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1"), 6: ("::/0", "::/1", "8000::/1")}
BOOT = "3"  # the protocol that `ip -j` leaves out
ANYWHERE = {
    4: ("8.8.8.8", "64.31.0.51", "200.1.2.3"),
    6: ("2600::1", "fdff::1", "2001:db8:ffff::1"),
}


@dataclass(frozen=True)
class Topology:
    nics: dict[str, dict[int, tuple[str, ...]]]
    """Addresses with prefix lengths, by NIC and family; the first address's gateway is .1."""
    stanza: tuple[str, ...]
    """NICs whose gateways the stanza tells; the others have a default in main."""
    routes: tuple[str, ...]
    """`ip route add` arguments."""
    bridges: dict[str, tuple[str, ...]]

    def gateway(self, nic: str, family: int) -> str:
        addresses = self.nics[nic].get(family)
        return str(ip_interface(addresses[0]).network[1]) if addresses else ""


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    count = draw(st.integers(2, 5))
    names = draw(
        st.lists(
            st.sampled_from(("ens3", "ens4", "ens10", "eth0", "eth1", "enp1s0", "port.7")),
            min_size=count,
            max_size=count,
            unique=True,
        )
    )
    nics: dict[str, dict[int, tuple[str, ...]]] = {}
    used: set[str] = set()
    for name in names:
        nics[name] = {}
        for family in (4, 6):
            if family == 6 and not draw(st.booleans()):
                continue
            subnets = draw(
                st.lists(st.sampled_from(SUBNETS[family]), min_size=1, max_size=2, unique=True)
            )
            addresses = []
            for subnet in subnets:
                network = ip_network(subnet)
                for host in draw(st.lists(st.integers(2, 5), min_size=1, max_size=2, unique=True)):
                    address = f"{network[host]}/{network.prefixlen}"
                    if address not in used:
                        used.add(address)
                        addresses.append(address)
            if addresses:
                nics[name][family] = tuple(addresses)
    topology = Topology(nics, (), (), {})
    bridges = {
        f"br{number}": tuple(
            str(ip_interface(f"{ip_network(net)[1]}/{ip_network(net).prefixlen}"))
            for net in (BRIDGES[4][number], *BRIDGES[6][number : number + 1])
        )
        for number in range(draw(st.integers(0, 3)))
    }
    routes = []
    for family in (4, 6):
        ways = [
            f"via {topology.gateway(name, family)} dev {name}"
            for name in names
            if topology.gateway(name, family)
        ]
        ways += [f"dev {name}" for name in names if nics[name].get(family)]
        ways += [
            f"via {ip_interface(address).network[9]} dev {bridge}"
            for bridge, addresses in bridges.items()
            for address in addresses
            if ip_interface(address).version == family
        ]
        if not ways:
            continue
        for prefix in draw(st.lists(st.sampled_from(PREFIXES[family]), max_size=5, unique=True)):
            protocol = draw(st.sampled_from(("static", "boot", "dhcp", "12")))
            metric = draw(st.sampled_from((0, 50, 600)))
            way = draw(st.sampled_from((*ways, "unreachable")))
            kind, way = ("unreachable ", "dev lo") if way == "unreachable" else ("", way)
            told = f" metric {metric}" if metric else ""
            routes.append(f"{kind}{prefix} {way} proto {protocol}{told}")
        if bridges and draw(st.booleans()):
            vpn = EVERYWHERE[family]
            for prefix in draw(st.sampled_from((vpn[:1], vpn[1:]))):
                routes.append(f"{prefix} {ways[-1]} metric 7")
    stanza = tuple(name for name in names if draw(st.booleans()))
    return Topology(nics, stanza, tuple(routes), bridges)


def build(lab: Lab, topology: Topology) -> None:
    lab.add("S", "P")
    lines = [
        *(
            f"link add {name} type veth peer name peer{number} netns {lab.name('P')}"
            for number, name in enumerate(topology.nics)
        ),
        *(f"link add {bridge} type bridge" for bridge in topology.bridges),
    ]
    lab.batch("S", lines)
    lab.batch("P", [f"link set peer{number} up" for number in range(len(topology.nics))])
    held = {
        name: [a for f in (4, 6) for a in own.get(f, ())] for name, own in topology.nics.items()
    }
    lines = []
    for name, addresses in {**held, **topology.bridges}.items():
        lines.append(f"link set {name} up")
        for address in addresses:
            nodad = " nodad" if ":" in address else ""
            lines.append(f"address add {address} dev {name}{nodad}")
    lab.batch("S", lines)
    # What contradicts what is there already (the same prefix twice) the kernel
    # refuses; the oracle reads what came of it.
    lines = [f"route add {route}" for route in topology.routes]
    for number, name in enumerate(topology.nics):
        for family in (4, 6):
            gateway = topology.gateway(name, family)
            if gateway and name not in topology.stanza:
                lines.append(f"route add default via {gateway} dev {name} metric {100 + number}")
    subprocess.run(
        ["ip", "-n", lab.name("S"), "-force", "-batch", "-"],
        input="\n".join(lines) + "\n",
        text=True,
        capture_output=True,
        timeout=30,
        check=False,
    )


def document(topology: Topology) -> dict[str, Any]:
    interfaces = {
        name: {
            f"gateway{family}": topology.gateway(name, family)
            for family in (4, 6)
            if topology.gateway(name, family)
        }
        for name in topology.stanza
    }
    return {
        "source_routing": {"renderer": "none", "gateway_guess": "never", "interfaces": interfaces}
    }


class Oracle:
    """What main alone says, and what the invariant asks for."""

    def __init__(self, lab: Lab, plan: dict[str, Any], family: int):
        flag = "-4" if family == 4 else "-6"
        self.family = family
        told = json.loads(lab.ip("S", "-N", "-j", flag, "route", "show", "table", "main"))
        self.routes = [
            (
                ip_network("0.0.0.0/0" if family == 4 else "::/0")
                if route["dst"] == "default"
                else ip_network(route["dst"]),
                route,
            )
            for route in told
        ]
        self.gateways = {
            name: nic["gateways"][f"ipv{family}"]["address"]
            for name, nic in plan["interfaces"].items()
            if f"ipv{family}" in nic["gateways"]
        }

    def best(self, destination: str) -> dict[str, Any] | None:
        """Main's longest match, defaults and their halves left out."""
        ip = ip_address(destination)
        found = [(net, route) for net, route in self.routes if ip in net and net.prefixlen > 1]
        if not found:
            return None
        return min(found, key=lambda one: (-one[0].prefixlen, one[1].get("metric", 0)))[1]

    def right(self, owner: str, destination: str) -> set[str]:
        """The interfaces by which a packet from `owner` to `destination` may leave."""
        best = self.best(destination)
        if best is None:
            return {owner}
        if best.get("type") in ("unreachable", "7"):
            return {"unreachable"}
        dev = best["dev"]
        if dev == owner or dev not in self.gateways:
            return {dev}
        # By a sibling: the own gateway, when main's route is a configured one to
        # the sibling's link or gateway; behind another hop main's own word stands.
        behind = best.get("gateway", self.gateways[dev]) != self.gateways[dev]
        daemon = best.get("protocol", BOOT) not in ("0", "2", "3", "4", "9", "16")
        return {owner, dev} if behind or daemon else {owner}

    def destinations(self, local: set[str]) -> list[str]:
        """Inside, at the ends of and beside each prefix of main; and far away."""
        found = dict.fromkeys(ANYWHERE[self.family])
        for net, _route in self.routes:
            first, last = int(net.network_address), int(net.broadcast_address)
            middle = first + (last - first) // 3 + 1
            for number in (first + 1, middle, last - 1, first - 1, last + 1):
                if 0 < number < 1 << net.max_prefixlen:
                    found[str(ip_address(number) if self.family == 4 else _six(number))] = None
        return [text for text in found if _asked(text) and text not in local]


def _six(number: int) -> Any:
    return ip_address(number.to_bytes(16, "big"))


def _asked(text: str) -> bool:
    ip = ip_address(text)
    kernel = (
        ip.is_multicast
        or ip.is_loopback
        or ip.is_unspecified
        or (ip.is_link_local and text != "169.254.169.254")
        or text.startswith(("0.", "255.", "240."))
        or ip.version == 4
        and int(ip) >= int(ip_address("240.0.0.0"))
    )
    return not kernel


# A failing topology is told whole; shrinking it would take minutes, each try a namespace.
PHASES = [phase for phase in Phase if phase is not Phase.shrink]


@settings(
    max_examples=int(os.environ.get("EXAMPLES", "25")),
    phases=PHASES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(topology=topologies())
def test_for_every_address_and_destination_the_kernel_is_right(topology: Topology, tmp_path: Path):
    root = tmp_path / "root"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    note(f"{topology}")
    with Lab() as lab:
        build(lab, topology)
        command = SourceRouting(lab, "S", root)
        command.configure(document(topology))
        command.ok("apply")
        plan = command.run("plan", "--json").json
        wrong = []
        for family in (4, 6):
            oracle = Oracle(lab, plan, family)
            if not oracle.gateways:
                continue
            local = _local(lab, family)
            asked = [
                (nic, ip, destination)
                for nic in oracle.gateways
                for ip in _bare(topology, nic, family)
                for destination in oracle.destinations(local)
            ]
            answers = routes_get(lab, "S", [(to, "from", ip) for _nic, ip, to in asked])
            for (nic, ip, to), answer in zip(asked, answers):
                if not _agrees(answer, oracle.right(nic, to)):
                    wrong.append(f"{ip} ({nic}) -> {to}: {answer}, right: {oracle.right(nic, to)}")
            for nic in oracle.gateways:
                for to in ANYWHERE[family][:1]:
                    best = oracle.best(to)
                    bound = route_get(lab, "S", to, "oif", nic)
                    if best is None and bound.dev != nic:
                        wrong.append(f"bound to {nic} -> {to}: {bound}")
        assert wrong == [], "\n".join(wrong)
        command.ok("check")


# Of somebody else: rules before ours and after, and what they select by.
PRIORITIES = (90, 3000, 5042, 9000, 30000)
SELECTORS = {
    4: ("", "to 203.0.113.0/24", "to 10.0.0.0/8", "from 172.17.0.0/16", "from 203.0.113.0/24"),
    6: ("", "to fd00::/16", "to 2001:db8:7::/48", "from fd00:d0c::/64"),
}
SELECTED_BY_MORE = ("fwmark 0x1/0x1", "iif br0", "not fwmark 0x4", "tos 0x10", "uidrange 7-9")
TABLES = (77, 52)


@st.composite
def other_peoples(draw: st.DrawFn, topology: Topology) -> tuple[str, ...]:
    """`ip -batch` lines: rules and tables beside those of the topology."""
    lines = []
    for family in (4, 6):
        ways = [f"dev {name}" for name, own in topology.nics.items() if own.get(family)]
        ways += [f"dev {bridge}" for bridge in topology.bridges]
        for table in TABLES if ways else ():
            chosen = st.sampled_from((*PREFIXES[family], *EVERYWHERE[family]))
            for prefix in draw(st.lists(chosen, max_size=3, unique=True)):
                way = draw(st.sampled_from(ways))
                lines.append(f"-{family} route add {prefix} {way} table {table}")
        for _rule in range(draw(st.integers(0, 4))):
            priority = draw(st.sampled_from(PRIORITIES))
            selector = draw(st.sampled_from((*SELECTORS[family], *SELECTED_BY_MORE)))
            table = draw(st.sampled_from(TABLES))
            lines.append(f"-{family} rule add pref {priority} {selector} lookup {table}")
    return tuple(lines)


@settings(
    max_examples=int(os.environ.get("EXAMPLES", "25")),
    phases=PHASES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_what_is_not_from_an_address_of_ours_goes_as_without_us(data: st.DataObject, tmp_path):
    """Whatever rules and tables others have: unbound, marked, forwarded, from a container."""
    topology = data.draw(topologies())
    lines = data.draw(other_peoples(topology))
    root = tmp_path / "root"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    with Lab() as lab:
        build(lab, topology)
        lab.sysctl("S", {"net/ipv4/ip_forward": 1, "net/ipv6/conf/all/forwarding": 1})
        for family in (4, 6):
            own = [line.removeprefix(f"-{family} ") for line in lines if line[1] == str(family)]
            # One that is there already is refused.
            lab.run(
                "S",
                "ip",
                f"-{family}",
                "-force",
                "-batch",
                "-",
                stdin="\n".join(own) + "\n",
                check=False,
            )
        command = SourceRouting(lab, "S", root)
        command.configure(document(topology))
        questions = list(_of_others(topology))
        before = routes_get(lab, "S", questions)
        command.ok("apply")
        after = routes_get(lab, "S", questions)
        changed = [
            f"{question}: {was}, now {now}"
            for question, was, now in zip(questions, before, after)
            # With rules the kernel no longer keeps local and main in one table.
            if was._replace(table="") != now._replace(table="")
        ]
        assert changed == [], "\n".join(changed)


def _of_others(topology: Topology) -> Iterator[tuple[str, ...]]:
    """Questions to the kernel about packets that are not from an address of ours."""
    for family in (4, 6):
        networks = map(ip_network, (*PREFIXES[family], *SUBNETS[family]))
        inside = [str(net[min(7, net.num_addresses - 1)]) for net in networks]
        remote = ANYWHERE[family][0]
        ways: list[tuple[str, ...]] = [(), ("mark", "1"), ("mark", "4")]
        ways += [("from", remote, "iif", nic) for nic in topology.nics]
        for number, bridge in enumerate(topology.bridges):
            for net in (BRIDGES[family] + (BRIDGES[family][0],))[number : number + 1]:
                ways.append(("from", str(ip_network(net)[9]), "iif", bridge))
        for to in dict.fromkeys((*inside, *ANYWHERE[family])):
            if _asked(to):
                yield from ((to, *how) for how in ways)


def _agrees(answer: Lookup, right: set[str]) -> bool:
    if right == {"unreachable"}:
        return bool(answer.error)
    return not answer.error and answer.dev in right


def _bare(topology: Topology, nic: str, family: int) -> list[str]:
    return [address.split("/")[0] for address in topology.nics[nic].get(family, ())]


def _local(lab: Lab, family: int) -> set[str]:
    """What the kernel keeps for itself: own addresses, broadcasts, anycast."""
    flag = "-4" if family == 4 else "-6"
    told = json.loads(lab.ip("S", "-j", flag, "route", "show", "table", "local"))
    return {route["dst"] for route in told}
