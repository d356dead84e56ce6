"""Routers come, go and change their minds; the kernel believes them, and the hooks follow.

The server has ifupdown's ``inet6 auto``: the kernel itself makes addresses and
default routes by router advertisement (RFC 4861, 4862, 8981), long after any
hook has run.  Each event has to be over within seconds, by events alone.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from lab import Cloud, Lab, Monitor, Ping, pings, seed_nics, wait_until

from .machine import Machine
from .roots import root_tree
from .routers import Advertisement, Prefix, Radvd, router_tree

pytestmark = pytest.mark.daemon
# `boot/test_router_advertisements` shows it on a booted server.
AS_UNDER_NETWORKD = pytest.mark.thorough("routers, under ifupdown, one thing at a time")

ONE, TWO, THREE = "2001:db8:43::/64", "fd00:96::/64", "fd00:97::/64"
NICS = {"ens3": ("br1", ONE), "ens4": ("br2", TWO)}

INTERFACES = """
auto lo
iface lo inet loopback
auto ens3
iface ens3 inet6 auto
auto ens4
iface ens4 inet6 auto
"""
TEMPORARY = INTERFACES + "    privext 2\n"
STATEFUL = INTERFACES.replace("inet6 auto", "inet6 dhcp\n    accept_ra 2")
# As NetworkManager's method "dhcp" has it: nobody reads advertisements, nobody asks for them.
DEAF = INTERFACES.replace("inet6 auto", "inet6 dhcp\n    accept_ra 0")

SECOND_ROUTER = "fe80::2:2"


@pytest.fixture(scope="session")
def tree() -> Path:
    return root_tree("ifupdown")


class World:
    """A server with IPv6 alone, and routers that tell it everything."""

    def __init__(  # type: ignore[no-untyped-def]
        self, lab: Lab, boot, tree: Path, interfaces: str, report: Callable[[str, object], None]
    ):
        self.lab, self.boot, self._report = lab, boot, report
        self.cloud = Cloud(lab, seed_nics(), container=False, hosts=True, anti_spoofing=False)
        self.cloud.build()
        lab.sysctl("S", {"net/ipv6/route/gc_interval": 1})  # when it looks for what has expired
        for nic in NICS:
            lab.ip("S", "address", "flush", "dev", nic)
            lab.ip("S", "link", "set", nic, "down")
            conf = f"net/ipv6/conf/{nic}"
            solicited = {f"{conf}/router_solicitations": 3, f"{conf}/router_solicitation_delay": 0}
            lab.sysctl("S", {**solicited, f"{conf}/dad_transmits": 1, f"{conf}/accept_dad": 1})
        lab.ip("S", "link", "set", "lo", "down")
        self.port_security({nic: [prefix] for nic, (_bridge, prefix) in NICS.items()})
        self.router = Radvd(boot("RT", router_tree()))
        self.server: Machine = boot("S", tree)
        self.server.install()
        self.server.write("/etc/network/interfaces", interfaces)
        self.server.write("/etc/fstab", "")

    def port_security(self, prefixes: dict[str, list[str]]) -> None:
        """Each port's own prefixes only, and its own MAC; which addresses, nobody knows before."""
        chains = [
            f'chain {nic} {{ type filter hook ingress device "p-{nic}" priority 0\n'
            f"ether saddr != {self.cloud.macs[nic]} counter drop\n"
            f"ip6 saddr != {{ fe80::/64, ::, {', '.join(own)} }} counter drop\n}}\n"
            for nic, own in prefixes.items()
        ]
        table = "table netdev security"
        self.lab.nft("RT", f"{table}\ndelete {table}\n{table} {{\n{''.join(chains)}}}\n")

    def usable(self, nic: str = "") -> list[str]:
        """Global addresses that packets may have."""
        told = json.loads(self.lab.ip("S", "-6", "-j", "address", "show", "scope", "global"))
        return [
            info["local"]
            for link in told
            if link.get("ifname") in NICS and nic in ("", link["ifname"])
            for info in link["addr_info"]
            if info and not info.get("tentative") and not info.get("dadfailed")
        ]

    def has_all_addresses(self, interfaces: str) -> bool:
        told = self.lab.ip("S", "-6", "address", "show", "scope", "global")
        return " tentative" not in told and ("privext" not in interfaces or " temporary" in told)

    def ruled(self) -> set[str]:
        """Addresses with a rule."""
        return set(re.findall(r"from (\S*:\S*) lookup", self.rules()))

    def rules(self) -> str:
        return self.lab.ip("S", "-N", "-6", "rule")

    def gateway(self, nic: str) -> str:
        """Of the NIC's own table; '' when that has no default."""
        told = self.lab.ip("S", "-N", "-6", "route", "show", "table", "all", "proto", "83")
        defaults = re.findall(rf"^default via (\S+) dev {nic} table 50\d ", told, re.MULTILINE)
        assert len(defaults) < 2, defaults
        return defaults[0] if defaults else ""

    def gateways_to(self, prefix: str) -> list[str]:
        """By which siblings reach a prefix of another NIC."""
        told = self.lab.ip("S", "-6", "route", "show", prefix, "table", "all", "proto", "83")
        return re.findall(r" via (\S+) ", told)

    def link_local(self, netns: str, device: str) -> str:
        told = self.lab.ip(netns, "-6", "-o", "address", "show", "dev", device, "scope", "link")
        return re.findall(r"inet6 (\S+)/64", told)[0]

    def defaults(self) -> str:
        """Of table main."""
        return self.lab.ip("S", "-6", "route", "show", "default")

    def flags(self, address: str) -> str:
        """What `ip` tells of an address beside its lifetimes; '' when it is not there."""
        told = self.lab.ip("S", "-6", "-o", "address")
        found = re.findall(rf"inet6 {address}/\d+ (.*?)\\", told)
        return found[0] if found else ""

    def mac(self, netns: str, device: str) -> str:
        return re.findall(r"link/ether (\S+)", self.lab.ip(netns, "link", "show", device))[0]

    def check(self) -> str:
        done = self.server.run("source-routing", "check", check=False)
        return "" if done.returncode == 0 else done.stdout + done.stderr

    def heals(self, event: str, condition: Callable[[], object]) -> None:
        """By itself: `condition`, and then everything else that must hold after any event."""
        started = time.monotonic()
        try:
            wait_until(condition)
        except AssertionError:
            raise AssertionError(f"{event}: {self.story()}") from None
        self.tells(event, started)
        wait_until(lambda: not self.check())
        self.is_well()

    def tells(self, event: str, started: float) -> None:
        seconds = time.monotonic() - started
        self._report(event, f"{seconds:.1f} s")
        print(f"{event}: over after {seconds:.1f} s")

    def is_well(self) -> None:
        assert self.check() == "", self.story()
        assert pings(self.lab, [Ping("R", ip) for ip in self.usable()]) == [], self.story()
        lines = [line for line in self.rules().splitlines() if line.strip()]
        assert [line for line, count in Counter(lines).items() if count > 1] == []
        told = self.lab.ip("S", "-6", "address", "show", "scope", "global")
        assert self.ruled() <= set(re.findall(r"inet6 (\S+)/", told)), self.story()

    def story(self) -> str:
        asked = (["-6", "address"], ["-N", "-6", "rule"], ["-6", "route", "show", "table", "all"])
        told = "\n".join(self.lab.ip("S", *argv) for argv in asked)
        return f"{told}\n{self.lab.ip('S', '-6', 'neigh')}\n{self.check()}\n{self.server.log()}"

    def second_router(self) -> Radvd:
        """Another router on ens4's subnet, which goes by the first one itself."""
        self.lab.add("RT2")
        self.lab.sysctl("RT2", {"net/ipv6/conf/all/forwarding": 1})
        self.cloud.wire("RT", "h-rt2", "RT2", "eth0", master="br2")
        self.lab.batch(
            "RT2",
            [
                f"address add {SECOND_ROUTER}/64 dev eth0 nodad",
                "address add fd00:96::2/64 dev eth0 nodad",
                f"-6 route add default via {self.link_local('RT', 'br2')} dev eth0",
            ],
        )
        radvd = Radvd(self.boot("RT2", router_tree()))
        # Its address of the kernel's own making would be the one that it speaks from.
        other = self.link_local_beside("RT2", "eth0", SECOND_ROUTER)
        self.lab.ip("RT2", "address", "del", f"{other}/64", "dev", "eth0")
        return radvd

    def link_local_beside(self, netns: str, device: str, known: str) -> str:
        told = self.lab.ip(netns, "-6", "-o", "address", "show", "dev", device, "scope", "link")
        return next(ip for ip in re.findall(r"inet6 (\S+)/64", told) if ip != known)


def says(bridge: str, *prefixes: Prefix | str, **more: object) -> Advertisement:
    told = tuple(p if isinstance(p, Prefix) else Prefix(p) for p in prefixes)
    return Advertisement(bridge, told, **more)  # type: ignore[arg-type]


def usual() -> tuple[Advertisement, ...]:
    return tuple(says(bridge, prefix) for bridge, prefix in NICS.values())


@pytest.fixture()
def begin(lab, boot, tree, record_property) -> Iterator[Callable[..., World]]:
    def make(interfaces: str = INTERFACES, *words: Advertisement) -> World:
        world = World(lab, boot, tree, interfaces, record_property)
        world.router.says(*(words or usual()))
        world.server.run("ifup", "-a", timeout=90)
        wait_until(lambda: world.usable("ens3") and world.usable("ens4"))
        # Nobody listens yet: what comes after the apply would go unserved.
        wait_until(lambda: world.has_all_addresses(interfaces))
        world.server.run("source-routing", "apply")
        world.is_well()
        world.server.listen()
        return world

    yield make


def test_addresses_that_come_after_every_hook_are_served(lab, boot, tree, record_property):
    """At the first boot: ifup is done, then the routers speak up."""
    world = World(lab, boot, tree, INTERFACES, record_property)
    world.server.run("ifup", "-a", timeout=90)
    world.server.run("source-routing", "apply")
    assert world.ruled() == set()
    world.server.listen()
    world.router.says(*usual())
    wait_until(lambda: world.usable("ens3") and world.usable("ens4"))
    world.heals("the first addresses", lambda: set(world.usable()) <= world.ruled())
    assert pings(world.lab, [Ping("R", ip) for ip in world.usable()]) == []


def test_nothing_happens_while_routers_repeat_themselves(begin):
    world = begin()
    world.server.looks_again()
    applies = world.server.applies()
    with Monitor(world.lab, "S") as monitor:
        for nic in NICS:
            # Each advertisement renews the lifetimes of the address that it has made.
            (own,) = world.usable(nic)
            wait_until(lambda own=own: monitor.heard(f"inet6 {own}/") > 2, story=world.story)
        world.server.looks_again()
    assert [event for event in monitor.events if "proto 83" in event] == []
    assert world.server.applies() == applies, world.server.log()


@AS_UNDER_NETWORKD
def test_a_new_prefix_is_served_and_one_that_ends_is_forgotten(begin):
    world = begin()
    (old,) = world.usable("ens4")
    world.lab.ip("RT", "address", "add", "fd00:97::1/64", "dev", "br2", "nodad")
    world.port_security({"ens3": [ONE], "ens4": [TWO, THREE]})
    first = says("br1", ONE)
    world.router.says(first, says("br2", TWO, THREE))
    wait_until(lambda: len(world.usable("ens4")) == 2)
    world.heals("a new prefix", lambda: set(world.usable()) <= world.ruled())

    world.router.says(first, says("br2", Prefix(TWO, preferred=0, valid=1200), THREE))
    deprecated = "inet6 " + old
    wait_until(
        lambda: any(
            deprecated in line and "deprecated" in line
            for line in world.lab.ip("S", "-6", "-o", "address").splitlines()
        )
    )
    world.heals("a deprecated prefix", lambda: old in world.ruled())

    # Nobody may shorten a lifetime below two hours (RFC 4862 5.5.3), but time does.
    world.lab.ip(
        "S",
        "address",
        "change",
        f"{old}/64",
        "dev",
        "ens4",
        *"valid_lft 2".split(),
        *"preferred_lft 0".split(),
    )
    world.router.says(first, says("br2", THREE))
    wait_until(lambda: old not in world.usable())
    world.heals("an address whose lifetime is over", lambda: old not in world.ruled())


@AS_UNDER_NETWORKD
def test_a_router_that_says_goodbye_takes_its_rules_along_and_brings_them_back(begin):
    world = begin()
    (own,) = world.usable("ens4")
    world.router.says(says("br1", ONE), says("br2", TWO, lifetime=0))
    wait_until(lambda: "dev ens4" not in world.defaults())
    started = time.monotonic()
    wait_until(lambda: own not in world.ruled() and not world.gateway("ens4"))
    world.tells("router lifetime 0", started)
    assert world.check() == "", world.story()

    world.router.says(*usual())
    wait_until(lambda: "dev ens4" in world.defaults())
    world.heals("the router is back", lambda: own in world.ruled() and world.gateway("ens4"))


def test_a_router_that_is_not_heard_any_more_is_given_up_with_its_lifetime(begin):
    world = begin(INTERFACES, says("br1", ONE), says("br2", TWO, lifetime=6))
    (own,) = world.usable("ens4")
    world.router.says(says("br1", ONE))
    wait_until(lambda: "dev ens4" not in world.defaults())
    started = time.monotonic()
    wait_until(lambda: own not in world.ruled() and not world.gateway("ens4"))
    world.tells("router lifetime over", started)
    assert world.check() == "", world.story()


@AS_UNDER_NETWORKD
@pytest.mark.parametrize("nic", list(NICS))
def test_another_router_is_taken_when_it_replaces_the_first_one(begin, nic):
    """The new one has another link-local address; the old one goes in order."""
    world = begin()
    bridge, _prefix = NICS[nic]
    world.router.leaves()
    old = world.link_local("RT", bridge)
    world.lab.ip("RT", "address", "add", f"{SECOND_ROUTER}/64", "dev", bridge, "nodad")
    world.lab.ip("RT", "address", "del", f"{old}/64", "dev", bridge)
    world.router.says(*usual())
    wait_until(lambda: f"via {SECOND_ROUTER} dev {nic}" in world.defaults())
    world.heals(f"another router for {nic}", lambda: world.gateway(nic) == SECOND_ROUTER)


@AS_UNDER_NETWORKD
def test_of_two_routers_the_preferred_one_is_taken_and_the_other_when_that_goes(begin):
    world = begin()
    first = world.gateway("ens4")
    other = world.second_router()
    other.says(says("eth0", TWO))
    wait_until(lambda: f"via {SECOND_ROUTER} dev ens4" in world.defaults())
    world.server.looks_again()
    assert world.gateway("ens4") == first, "of equals the one in use stays"
    world.is_well()

    other.says(says("eth0", TWO, preference="high"))
    wait_until(lambda: "pref high" in world.defaults())
    world.heals("a preferred router", lambda: world.gateway("ens4") == SECOND_ROUTER)

    other.leaves()
    wait_until(lambda: SECOND_ROUTER not in world.defaults())
    world.heals("the preferred router goes", lambda: world.gateway("ens4") == first)


def test_a_router_that_does_not_answer_is_left_for_one_that_does(begin):
    """It went without a goodbye; the kernel notices it as for main's own routes."""
    world = begin()
    first = world.gateway("ens4")
    other = world.second_router()
    other.says(says("eth0", TWO, preference="high"))
    wait_until(lambda: world.gateway("ens4") == SECOND_ROUTER)
    (own,) = world.usable("ens4")
    assert pings(world.lab, [Ping("R", own)]) == []
    world.lab.ip("RT2", "link", "set", "eth0", "down")
    failed = re.compile(rf"{SECOND_ROUTER} dev ens4 .*FAILED")

    def notices() -> bool:
        pings(world.lab, [Ping("R", own)], tries=1)  # somebody has to talk to it
        return failed.search(world.lab.ip("S", "-6", "neigh")) is not None

    wait_until(notices, story=world.story)
    # The first one's next advertisement, which is the occasion, is at most 4 s away.
    started = time.monotonic()
    wait_until(lambda: world.gateway("ens4") == first)
    world.tells("a dead router", started)
    world.is_well()


@AS_UNDER_NETWORKD
def test_both_nics_have_a_default_and_each_address_its_own(begin):
    """RFC 4191: main sends everything by the preferred router, whose NIC is only one of the two."""
    words = {
        "low and high": (says("br1", ONE, preference="low"), says("br2", TWO, preference="high")),
        "high and low": (says("br1", ONE, preference="high"), says("br2", TWO, preference="low")),
    }
    world = begin(INTERFACES, *words["low and high"])
    for name, said in words.items():
        world.router.says(*said)
        preferred = "ens4" if name == "low and high" else "ens3"
        wait_until(lambda nic=preferred: re.search(rf"dev {nic} .*pref high", world.defaults()))
        world.heals(f"preferences {name}", lambda: set(world.usable()) <= world.ruled())
        assert {nic: bool(world.gateway(nic)) for nic in NICS} == {"ens3": True, "ens4": True}


@AS_UNDER_NETWORKD
def test_temporary_addresses_are_served_as_they_come_and_go(begin):
    """RFC 8981: the kernel makes new ones long before the old ones end."""
    world = begin(TEMPORARY, says("br1", ONE), says("br2", TWO))
    world.lab.sysctl("S", {"net/ipv6/conf/ens4/max_desync_factor": 0})
    assert len(world.usable("ens4")) == 2 and set(world.usable()) <= world.ruled()
    before = set(world.usable("ens4"))
    # A lifetime of its own for the next one: RFC 8981 takes the smaller of the two.
    temporary = next(ip for ip in before if "temporary" in world.flags(ip))
    world.lab.ip("S", "address", "del", f"{temporary}/64", "dev", "ens4")
    # The next advertisement makes another one, and until then all may be well or not.
    wait_until(lambda: temporary not in world.usable("ens4") and len(world.usable("ens4")) == 2)
    world.heals(
        "a temporary address ends",
        lambda: temporary not in world.ruled() and set(world.usable()) <= world.ruled(),
    )
    world.lab.sysctl("S", {"net/ipv6/conf/ens4/use_tempaddr": 0})
    world.lab.sysctl("S", {"net/ipv6/conf/ens4/use_tempaddr": 2})
    stable = next(iter(before - {temporary}))
    world.lab.ip("S", "address", "del", f"{stable}/64", "dev", "ens4")
    wait_until(lambda: stable in world.usable("ens4") and len(world.usable("ens4")) == 2)
    world.heals("another temporary address", lambda: set(world.usable()) <= world.ruled())


def test_an_address_has_its_rule_when_it_may_be_used_and_a_duplicate_never(begin):
    world = begin()
    world.lab.ip("RT", "address", "add", "fd00:97::1/64", "dev", "br2", "nodad")
    world.port_security({"ens3": [ONE], "ens4": [TWO, THREE]})
    (own,) = world.usable("ens4")
    duplicate = str(ip_address(int(ip_address("fd00:97::")) | int(ip_address(own)) & (2**64 - 1)))
    world.lab.ip("H2", "address", "add", f"{duplicate}/64", "dev", "eth0", "nodad")
    world.server.looks_again()
    with Monitor(world.lab, "S") as monitor:
        world.router.says(says("br1", ONE), says("br2", TWO, THREE))
        wait_until(lambda: "fd00:97::/64" in world.lab.ip("S", "-6", "route"))
        world.heals("a prefix without an address", lambda: len(world.gateways_to(THREE)) == 1)
        # What the prefix has had done is done.
        world.server.looks_again()
        applies = world.server.applies()
        # It is tried again with each advertisement, and one whole try is looked at.
        tries = monitor.heard(f"inet6 {duplicate}/")
        wait_until(lambda: monitor.heard(f"inet6 {duplicate}/") > tries + 2, story=world.story)
        world.server.looks_again()
    tried = [event for event in monitor.events if f"inet6 {duplicate}/" in event]
    assert tried and all("Deleted" in e or "tentative" in e for e in tried), tried
    assert [event for event in monitor.events if f"from {duplicate}" in event] == []
    assert world.server.applies() == applies, world.server.log()
    world.is_well()

    with Monitor(world.lab, "S") as monitor:
        world.lab.ip("S", "address", "add", "fd00:97::77/64", "dev", "ens4")
        wait_until(lambda: "fd00:97::77" in world.usable("ens4"))
        world.heals("an address that was tentative", lambda: "fd00:97::77" in world.ruled())
    first, *_more = [event for event in monitor.events if "fd00:97::77" in event]
    assert "tentative" in first, first


def test_addresses_by_dhcpv6_are_served_and_go_with_their_lease(lab, boot, tree, record_property):
    """Routers tell the gateways, and send for addresses to DHCPv6 (RFC 4861 4.2, M flag)."""
    world = World(lab, boot, tree, STATEFUL, record_property)
    world.router.says(
        *(
            says(bridge, Prefix(prefix, autonomous=False), managed=True)
            for bridge, prefix in NICS.values()
        )
    )
    world.router.leases("2001:db8:43::100", "fd00:96::100")
    world.server.run("ifup", "-a", timeout=90)
    wait_until(lambda: world.usable("ens3") and world.usable("ens4"))
    assert world.usable("ens3") == ["2001:db8:43::100"]
    world.server.run("source-routing", "apply")
    world.server.listen()
    world.is_well()
    assert world.ruled() == {"2001:db8:43::100", "fd00:96::100"}

    world.server.run(
        "dhclient",
        *("-6", "-r", "-pf", "/run/dhclient6.ens4.pid"),
        *("-lf", "/var/lib/dhcp/dhclient6.ens4.leases", "ens4"),
    )
    wait_until(lambda: not world.usable("ens4"))
    world.heals("a released lease", lambda: "fd00:96::100" not in world.ruled())


def test_routers_that_nobody_has_asked_for_are_asked_to_speak_up(lab, boot, tree, record_property):
    """Main has no default; that a neighbour routes only its own word tells, and that is rare."""
    world = World(lab, boot, tree, DEAF, record_property)
    seldom = "MinRtrAdvInterval 200; MaxRtrAdvInterval 600;\n"
    world.router.says(
        *(
            says(bridge, Prefix(prefix, autonomous=False), managed=True, more=seldom)
            for bridge, prefix in NICS.values()
        )
    )
    world.router.leases("2001:db8:43::100", "fd00:96::100")
    world.server.run("ifup", "-a", timeout=90)
    wait_until(lambda: world.usable("ens3") and world.usable("ens4"))
    lab.ip("S", "-6", "neighbour", "flush", "all")
    assert world.defaults() == ""
    assert "has no known gateway" in world.server.run("source-routing", "plan").stderr
    assert world.ruled() == set()

    world.server.run("source-routing", "apply")
    assert world.gateway("ens3") == world.link_local("RT", "br1")
    assert world.gateway("ens4") == world.link_local("RT", "br2")
    world.is_well()
