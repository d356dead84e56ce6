"""Routers that come, go and change their minds, on booted servers with their real managers.

ifupdown leaves router advertisements to the kernel; systemd-networkd and
NetworkManager read them themselves.  Each server is told everything by its
network: IPv4 by DHCP, IPv6 by routers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from imagebuild import bake, recipe
from imagebuild.lab import network, nspawn
from imagebuild.lab.config_drive import ConfigDrive
from imagebuild.lab.guest import running, wait_for_boot
from imagebuild.lab.network import Port
from imagebuild.progress import Progress
from lab import wait_until

from ..daemons.dhcp import trixie as servers
from ..daemons.routers import Advertisement, Prefix
from ..results import REPEAT, Measured
from ..sizes import one_each
from .dhcp import DhcpServer
from .managers.meter import Streams
from .router import Router
from .story import ON, Server

pytestmark = pytest.mark.boot

OTHER_ROUTERS = ("fe80::2:2", "fe80::2:3")
PREFERRED_ROUTER = "fe80::3:3"
OTHER_PREFIX = "2001:db8:99::/64"
WORLDS = {
    "ifupdown": recipe.Recipe("bookworm", "ifupdown"),
    "networkd": recipe.Recipe("trixie", "networkd", kernel=False),
    "network-manager": recipe.Recipe("trixie", "network-manager", kernel=False),
}

_PRIVACY = "IPv6PrivacyExtensions=yes"
TEMPORARY_ADDRESSES = {
    "ifupdown": "sysctl -q net.ipv6.conf.{nic}.use_tempaddr=2",
    "networkd": (
        "for file in /etc/systemd/network/*{nic}.network; do mkdir -p $file.d; "
        f"printf '[Network]\\n{_PRIVACY}\\n' >$file.d/60-lab.conf; done; networkctl reload"
    ),
    "network-manager": (
        "id=$(nmcli -g GENERAL.CON-UUID device show {nic}); "
        "nmcli connection modify $id ipv6.ip6-privacy 2 && nmcli device reapply {nic}"
    ),
}


class TellingNothing(ConfigDrive):
    """Metadata of ports whose subnets tell by DHCP and by router advertisement."""

    def _networks(self, number: int, port: Port) -> list[dict[str, Any]]:
        common = {"link": f"tap{number}", "network_id": f"net{number}"}
        return [
            {"id": f"network{number}", "type": "ipv4_dhcp", **common},
            {"id": f"network{number}-v6", "type": "ipv6_slaac", **common},
        ]


@dataclass
class Place:
    """A booted server and the router that talks to it."""

    name: str
    server: Server
    router: Router
    dhcp: DhcpServer
    report: dict[str, list[float]] = field(default_factory=dict)  # seconds

    @property
    def ports(self) -> tuple[Port, ...]:
        return self.server.place.ports

    def shell(self, script: str) -> str:
        done = self.server.guest.run(["sh", "-c", script])
        assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
        return done.stdout

    def usable(self, nic: str = "") -> list[str]:
        """IPv6 addresses that packets may have."""
        told = json.loads(self.shell("ip -6 -j address show scope global"))
        return [
            info["local"]
            for link in told
            if nic in ("", link.get("ifname"))
            for info in link.get("addr_info", [])
            if info and not info.get("tentative") and not info.get("dadfailed")
        ]

    def leased(self) -> str:
        return self.shell("ip -4 -o address show scope global")

    def defaults(self) -> str:
        """Of table main."""
        return self.shell("ip -6 route show default")

    def gateway(self, nic: str) -> str:
        """Of the NIC's own table; '' when that has no default."""
        told = self.shell("ip -N -6 route show table all")
        found = re.findall(rf"^default via (\S+) dev {nic} table 50\d ", told, re.MULTILINE)
        return found[0] if found else ""

    def gateway4(self, nic: str) -> str:
        told = self.shell("ip -N -4 route show table all")
        found = re.findall(rf"^default via (\S+) dev {nic} table 50\d ", told, re.MULTILINE)
        return found[0] if found else ""

    def ruled(self) -> set[str]:
        return set(re.findall(r"from (\S*:\S*) lookup", self.shell("ip -N -6 rule")))

    def check(self) -> str:
        done = self.server.guest.run(["source-routing", "check"])
        return "" if done.returncode == 0 else done.stdout + done.stderr

    def silent(self) -> list[str]:
        leased = [str(port.address4.ip) for port in self.ports]
        found = self.usable() + [ip for ip in leased if f" {ip}/" in self.leased()]
        return [ip for ip in found if not self.server.place.answers(ip)]

    def duplicates(self) -> list[str]:
        found: list[str] = []
        for family in ("-4", "-6"):
            listing = self.shell(f"ip -N {family} rule; ip -N {family} route show table all")
            lines = [
                re.sub(r" (proto|expires) \S+", "", line).strip() for line in listing.splitlines()
            ]
            found += [line for line, count in Counter(lines).items() if line and count > 1]
        return found

    def happens(self, noticed: Callable[[], object]) -> None:
        """Wait until the event has reached the kernel's tables."""
        wait_until(noticed, story=self.story)

    def heals(self, event: str, condition: Callable[[], object]) -> None:
        """By itself; and everything that must hold after any event."""
        self.is_over(event, condition)
        assert self.silent() == [], self.story()
        assert self.duplicates() == []
        there = self.shell("ip -6 address show scope global")
        assert self.ruled() <= set(re.findall(r"inet6 (\S+)/", there)), self.story()

    def is_over(self, event: str, condition: Callable[[], object]) -> None:
        seconds = wait_until(condition, story=self.story)
        self.report.setdefault(event, []).append(seconds)
        wait_until(lambda: not self.check(), story=self.story)
        print(f"{self.name}: {event}: over after {seconds:.1f} s")

    def story(self) -> str:
        commands = "ip -6 address; ip -6 route show table all; ip -N -6 rule; ip -4 rule"
        journal = "journalctl -b --no-pager -o short-precise | grep source-routing | tail -60"
        return self.shell(f"{commands}; {journal}") + self.check()

    def recorded(self, record_property: Callable[[str, object], None]) -> None:
        for event, seconds in self.report.items():
            record_property(*Measured(self.name, event, seconds).recorded())
        self.report.clear()

    def usual(self, *changed: Advertisement) -> None:
        """Let the router say what it always says, but for what has changed."""
        words = {port.tap: says(port) for port in self.ports}
        words.update((one.device, one) for one in changed)
        self.router.says(*words.values())


def says(port: Port, *prefixes: Prefix, **more: Any) -> Advertisement:
    own = Prefix(str(port.address6.network))
    return Advertisement(port.tap, prefixes or (own,), **more)


def guard(place: network.Lab, port: Port) -> None:
    """Anti-spoofing by prefix: hosts choose their addresses themselves."""
    table = f"table netdev guard_{port.name}"
    six = f"fe80::/64, ::, {port.address6.network}, {OTHER_PREFIX}"
    place.router.run(
        ["nft", "-f", "-"],
        stdin=f"""
{table}
delete {table}
{table} {{
    chain in {{
        type filter hook ingress device "{port.tap}" priority 0; policy accept;
        ether saddr != {port.mac} drop
        ip saddr != {{ {port.address4.network}, 0.0.0.0 }} drop
        arp saddr ip != {{ {port.address4.network}, 0.0.0.0 }} drop
        ip6 saddr != {{ {six} }} drop
    }}
}}
""",
    )


@contextlib.contextmanager
def boot(
    name: str,
    image: Path,
    scratch: Path,
    telling: type[ConfigDrive] = TellingNothing,
    words: Callable[[Port], Advertisement] = says,
    leases: tuple[str, ...] = (),
) -> Iterator[Place]:
    """A server that is told by `telling`, its routers' `words` and a DHCP server's `leases`."""
    home = scratch / f"guest-{uuid.uuid4().hex[:8]}"
    home.mkdir()
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(network.Lab(network.ports(2)))
        drive = telling(place.ports, ON)
        # The cables are plugged in by the start of the guest, and with them the router's ports.
        guest = stack.enter_context(
            running(nspawn.ContainerGuest(place, [image], drive, home / "guest"))
        )
        for port in place.ports:
            guard(place, port)
        dhcp = DhcpServer(place, servers(), home)
        stack.callback(dhcp.stop)
        if leases:
            dhcp.start(place.ports, *leases)
        router = Router(place, home)
        stack.callback(router.stop)
        router.says(*(words(port) for port in place.ports))
        yield Place(
            name, Server(place, guest, wait_for_boot(guest), f"{name} (container)"), router, dhcp
        )


@pytest.fixture(
    scope="module", params=one_each(WORLDS, ("networkd",), "routers, under the other managers")
)
def place(request: pytest.FixtureRequest, progress: Progress, scratch: Path) -> Iterator[Place]:
    image = bake.baked_root(WORLDS[request.param], progress)
    with boot(request.param, image, scratch) as made:
        yield made


def test_what_routers_and_leases_tell_is_served_from_the_first_boot(place: Place) -> None:
    place.happens(lambda: all(place.usable(port.name) for port in place.ports))
    place.happens(lambda: all(f" {port.address4.ip}/" in place.leased() for port in place.ports))
    place.heals("first boot", lambda: set(place.usable()) <= place.ruled())


def test_all_is_well_after_whatever_the_network_says(
    place: Place, record_property: Callable[[str, object], None]
) -> None:
    """One thing after the other: each finds what the one before has left."""
    failures = {}
    for event in (*ROUTER_EVENTS, *LEASE_EVENTS.get(place.name, ())):
        try:
            for _time in range(REPEAT):
                event(place)
        except AssertionError as error:
            failures[event.__name__] = str(error)
            place.usual()
            time.sleep(3)
    assert failures == {}, "\n".join(failures.values())
    place.recorded(record_property)


def a_prefix_comes_is_deprecated_and_over(place: Place) -> None:
    known = set(place.usable())
    _tells_other_prefix(place, preferred=12, valid=12)
    place.happens(lambda: set(place.usable()) > known)
    place.heals("a new prefix", lambda: set(place.usable()) <= place.ruled())
    _tells_other_prefix(place, preferred=0, valid=12)
    place.happens(lambda: "deprecated" in place.shell("ip -6 address show scope global"))
    place.heals("a deprecated prefix", lambda: set(place.usable()) <= place.ruled())
    place.usual()
    place.happens(lambda: set(place.usable()) == known)
    place.heals("a prefix is over", lambda: place.ruled() == known)


def _tells_other_prefix(place: Place, **seconds: int) -> None:
    """Let the second NIC's router tell another one beside its own."""
    second = place.ports[1]
    address = OTHER_PREFIX.replace("::/", "::1/")
    place.server.place.router.run(["ip", "address", "replace", address, "dev", second.tap, "nodad"])
    own = Prefix(str(second.address6.network))
    place.usual(says(second, own, Prefix(OTHER_PREFIX, **seconds)))


def a_router_says_goodbye_and_comes_back(place: Place) -> None:
    second = place.ports[1]
    place.usual(says(second, lifetime=0))
    place.happens(lambda: f"dev {second.name}" not in place.defaults())
    place.is_over(
        "router lifetime 0",
        lambda: not set(place.usable(second.name)) & place.ruled(),
    )
    place.usual()
    place.happens(lambda: f"dev {second.name}" in place.defaults())
    place.heals("the router is back", lambda: set(place.usable()) <= place.ruled())


def another_router_is_preferred_and_says_goodbye(place: Place) -> None:
    """Two routers on one link."""
    second = place.ports[1]
    first_router = place.gateway(second.name)
    # radvd would speak from either address.
    place.usual(says(second, more=f"AdvRASrcAddress {{ {first_router}; }};\n"))
    place.router.another_says(second.tap, PREFERRED_ROUTER, 600, "high")
    place.happens(lambda: f"via {PREFERRED_ROUTER} dev {second.name}" in place.defaults())
    place.heals(
        "a second router is preferred", lambda: place.gateway(second.name) == PREFERRED_ROUTER
    )
    place.router.another_says(second.tap, PREFERRED_ROUTER, 0, "high")
    place.happens(lambda: PREFERRED_ROUTER not in place.defaults())
    place.heals(
        "the second router says goodbye", lambda: place.gateway(second.name) == first_router
    )
    router = place.server.place.router
    router.run(["ip", "address", "del", f"{PREFERRED_ROUTER}/64", "dev", second.tap])


def temporary_addresses_come_and_go(place: Place) -> None:
    """Privacy extensions (RFC 8981): each address has its rule for as long as it is there."""
    second = place.ports[1]
    if not _temporary(place):
        place.shell(TEMPORARY_ADDRESSES[place.name].format(nic=second.name))
    _tells_other_prefix(place, preferred=30, valid=30)  # the kernel makes none for shorter ones
    place.happens(lambda: _others(_temporary(place)))
    place.heals("temporary addresses", lambda: set(place.usable()) <= place.ruled())
    (gone, *_more) = _others(_temporary(place))
    place.shell(f"ip address del {gone}/64 dev {second.name}")
    place.heals(
        "a temporary address is over",
        lambda: gone not in place.ruled() and set(place.usable()) <= place.ruled(),
    )
    place.usual()
    wait_until(lambda: not _others(place.usable()), story=place.story)


def _others(addresses: Iterable[str]) -> list[str]:
    """Those of the prefix that comes and goes."""
    return [ip for ip in addresses if ip_address(ip) in ip_network(OTHER_PREFIX)]


def an_address_that_another_host_has_gets_no_rule_until_it_may_be_used(place: Place) -> None:
    """Duplicate address detection (RFC 4862 5.4)."""
    second = place.ports[1]
    ip = str(second.address6.network[0xDAD])
    router = place.server.place.router
    router.run(["ip", "address", "replace", f"{ip}/64", "dev", second.tap, "nodad"])
    place.shell(f"ip address add {ip}/64 dev {second.name}")
    place.happens(lambda: f" {ip}/" in place.shell("ip -6 -o address show dadfailed"))
    time.sleep(1)  # an apply may have seen it before that was known
    place.is_over("a duplicate address", lambda: ip not in place.ruled())
    place.shell(f"ip address del {ip}/64 dev {second.name}")
    router.run(["ip", "address", "del", f"{ip}/64", "dev", second.tap])
    place.shell(f"ip address add {ip}/64 dev {second.name}")
    place.happens(lambda: ip in place.usable())
    place.heals("an address is no duplicate", lambda: ip in place.ruled())
    place.shell(f"ip address del {ip}/64 dev {second.name}")
    place.heals("an address is taken away", lambda: ip not in place.ruled())


def _temporary(place: Place) -> list[str]:
    told = place.shell("ip -6 -o address show temporary")
    usable = place.usable()
    return [ip for ip in re.findall(r"inet6 (\S+)/", told) if ip in usable]


def another_router_replaces_the_first_nics(place: Place) -> None:
    another_router_replaces(place, place.ports[0])


def another_router_replaces_the_second_nics(place: Place) -> None:
    another_router_replaces(place, place.ports[1])


def another_router_replaces(place: Place, port: Port) -> None:
    """The new one has another link-local address; the old one went in order."""
    router = place.server.place.router
    place.router.leaves()
    time.sleep(1)
    told = router.run(["ip", "-6", "-o", "address", "show", "dev", port.tap, "scope", "link"])
    (old,) = re.findall(r"inet6 (\S+)/64", told)
    new = next(ip for ip in OTHER_ROUTERS if ip != old)
    router.run(["ip", "address", "add", f"{new}/64", "dev", port.tap, "nodad"])
    router.run(["ip", "address", "del", f"{old}/64", "dev", port.tap])
    place.usual()
    place.happens(lambda: all(f"dev {own.name}" in place.defaults() for own in place.ports))
    place.happens(lambda: f"via {new} dev {port.name}" in place.defaults())
    place.heals(f"another router for {port.name}", lambda: place.gateway(port.name) == new)


def routers_are_preferred_now_here_now_there(place: Place) -> None:
    for high, low in (place.ports, place.ports[::-1]):
        place.usual(says(high, preference="high"), says(low, preference="low"))
        place.happens(lambda nic=high.name: re.search(rf"dev {nic} .*pref high", place.defaults()))
        place.heals(f"{high.name} is preferred", lambda: set(place.usable()) <= place.ruled())
        assert all(place.gateway(port.name) for port in place.ports)


def a_lease_is_renewed(place: Place) -> None:
    """With the same words: nothing of ours is touched, and nothing lost."""
    second = place.ports[1]
    address = str(second.address4.ip)
    acks = place.dhcp.told(f"DHCPACK({second.tap})")
    with Streams(place.server.place, [address], 0.01) as streams, heard(place) as events:
        wait_until(lambda: streams.first(address) is not None)
        place.shell(f"networkctl renew {second.name}")
        place.happens(lambda: place.dhcp.told(f"DHCPACK({second.tap})") > acks)
        # networkd sets the address anew, for as long as the lease says.
        place.happens(lambda: [line for line in events() if f" {address}/" in line])
        place.heals("a renewed lease", lambda: not working(place))
        moment = time.monotonic()
        wait_until(lambda: streams.answering_since(moment), story=place.story)
        wait_until(lambda: not working(place), story=place.story)
        told = events()
    assert [line for line in told if "proto 83" in line] == []
    assert streams.outages()[address].lost == 0


@contextlib.contextmanager
def heard(place: Place) -> Iterator[Callable[[], list[str]]]:
    """What `ip monitor` in the guest has told of addresses, routes and rules so far."""
    file = "/run/lab-monitor"
    place.shell(f"ip -N -o monitor route rule address >{file} 2>/dev/null & echo $! >{file}.pid")

    def events() -> list[str]:
        return place.shell(f"cat {file}").splitlines()

    def listens() -> bool:
        mark = "blackhole 192.0.2.251/32 table 7777777"
        place.shell(f"ip route add {mark}; ip route del {mark}")
        return events() != []

    try:
        wait_until(listens, story=place.story)
        yield events
    finally:
        place.shell(f"kill $(cat {file}.pid)")


def working(place: Place) -> str:
    """What of ours runs."""
    return place.shell("ps -eo args= | grep '[s]ource-routing' | grep -v ' check$' || :")


def a_lease_tells_another_gateway(place: Place) -> None:
    first, second = place.ports
    other = second.gateway4 + 1
    place.server.place.router.run(
        ["ip", "address", "replace", f"{other}/{second.address4.network.prefixlen}"]
        + ["dev", second.tap]
    )
    place.dhcp.start([first, dataclasses.replace(second, gateway4=other)])
    place.shell(f"networkctl renew {second.name}")
    place.happens(lambda: f"via {other} dev {second.name}" in place.shell("ip route"))
    place.heals("another gateway", lambda: place.gateway4(second.name) == str(other))
    place.dhcp.start([first, second])
    place.shell(f"networkctl renew {second.name}")
    place.happens(lambda: f"via {other} dev {second.name}" not in place.shell("ip route"))
    usual = str(second.gateway4)
    place.heals("the first gateway again", lambda: place.gateway4(second.name) == usual)


def a_lease_tells_classless_routes(place: Place) -> None:
    """Option 121, as Neutron sends it; a client that gets it ignores the router (RFC 3442)."""
    first, second = place.ports
    gateway, metadata = str(second.gateway4), f"169.254.169.254 via {second.gateway4}"
    wrong = dataclasses.replace(second, gateway4=second.gateway4 + 8)
    routes = f"169.254.169.254/32,{gateway},0.0.0.0/0,{gateway}"
    place.dhcp.start([first, wrong], f"--dhcp-option=tag:{second.name},121,{routes}")
    place.shell(f"networkctl renew {second.name}")
    place.happens(lambda: f"{metadata} dev {second.name}" in place.shell("ip r"))
    place.heals("classless routes", lambda: place.gateway4(second.name) == gateway)
    place.dhcp.start([first, second])
    place.shell(f"networkctl renew {second.name}")
    place.happens(lambda: f"{metadata} dev {second.name}" not in place.shell("ip r"))
    place.heals("no classless routes", lambda: place.gateway4(second.name) == gateway)


def a_lease_is_lost_and_another_one_comes(place: Place) -> None:
    """The server knows the port no more; nothing of the lost lease is left."""
    first, second = place.ports
    ip = second.address4.ip
    place.dhcp.start([first])
    place.shell(f"networkctl reconfigure {second.name}")
    place.happens(lambda: f" {ip}/" not in place.leased())
    place.is_over("a lost lease", lambda: f"from {ip} " not in place.shell("ip rule"))
    place.dhcp.start([first, second])
    place.happens(lambda: f" {ip}/" in place.leased())
    place.heals("a lease again", lambda: f"from {ip} " in place.shell("ip rule"))


# Each can be made to happen again and again.
ROUTER_EVENTS = (
    a_prefix_comes_is_deprecated_and_over,
    a_router_says_goodbye_and_comes_back,
    another_router_is_preferred_and_says_goodbye,
    temporary_addresses_come_and_go,
    an_address_that_another_host_has_gets_no_rule_until_it_may_be_used,
    another_router_replaces_the_first_nics,
    another_router_replaces_the_second_nics,
    routers_are_preferred_now_here_now_there,
)
# The other managers' clients have tests of their own.
LEASE_EVENTS = {
    "networkd": (
        a_lease_is_renewed,
        a_lease_tells_another_gateway,
        a_lease_tells_classless_routes,
        a_lease_is_lost_and_another_one_comes,
    ),
}
