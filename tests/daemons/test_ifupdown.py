"""Real ifupdown and dhclient, a real DHCP server, real packets through a whole small cloud."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import Cloud, Lab, Monitor, Ping, pings, seed_nics, wait_until

from .machine import Machine
from .roots import root_tree

pytestmark = pytest.mark.daemon

# The story that the project began with, and the same in IPv6.
STATIC = """
auto lo
iface lo inet loopback

auto ens3
iface ens3 inet static
    address 162.253.43.134/24
    gateway 162.253.43.1
iface ens3 inet6 static
    address 2001:db8:43::134/64
    gateway 2001:db8:43::1
    dad-attempts 0

auto ens4
iface ens4 inet static
    address 10.13.96.161/19
    post-up ip route add 10.0.0.0/8 via 10.13.96.1
iface ens4 inet6 static
    address fd00:96::161/64
    dad-attempts 0
    post-up ip -6 route add fd00::/8 via fd00:96::1
"""

DYNAMIC = """
auto lo
iface lo inet loopback
auto ens3
iface ens3 inet dhcp
auto ens4
iface ens4 inet dhcp
"""

ADDRESSES = ("162.253.43.134", "10.13.96.161", "2001:db8:43::134", "fd00:96::161")


@pytest.fixture(scope="session")
def tree() -> Path:
    return root_tree("ifupdown")


class Site:
    """A server with ifupdown behind the lab's router, with nothing configured yet."""

    def __init__(self, lab: Lab, boot, tree: Path, interfaces: str):  # type: ignore[no-untyped-def]
        self.lab, self.boot, self.tree = lab, boot, tree
        families = "inet6" in interfaces
        self.cloud = Cloud(lab, seed_nics(ipv6=families), container=False, rp_filter=1).build()
        self.unplug()
        self.server: Machine = boot("S", tree)
        self.server.install()
        self.server.write("/etc/network/interfaces", interfaces)
        self.server.write("/etc/fstab", "")

    def unplug(self) -> None:
        for nic in ("ens3", "ens4"):
            self.lab.ip("S", "address", "flush", "dev", nic)
            self.lab.ip("S", "link", "set", nic, "down")
        self.lab.ip("S", "link", "set", "lo", "down")

    def reboot(self) -> None:
        """A kernel that has forgotten all, and the same files."""
        kept = self.server.root / "etc"
        self.server.run("ifdown", "-a", check=False)
        for family in ("-4", "-6"):
            for line in self.lab.ip("S", "-N", family, "rule").splitlines():
                priority, _, words = line.partition(":")
                if "proto 83" in words:
                    self.lab.ip("S", family, "rule", "del", "priority", priority)
        for nic in ("ens3", "ens4"):
            self.lab.ip("S", "link", "set", "dev", nic, "group", "0")
        assert kept.is_dir()
        leftovers = ("/run/source-routing", "-mindepth", "1", "!", "-name", "look", "-delete")
        self.server.run("find", *leftovers)

    def ifup(self, *argv: str) -> None:
        done = self.server.run("ifup", *argv, timeout=90)
        assert "failed" not in done.stderr and "error" not in done.stderr.lower(), done.stderr

    def dead(self) -> list[str]:
        """Addresses of the server that the remote host does not reach."""
        wanted = [Ping("R", ip) for f in (4, 6) for _nic, ip in self.cloud.addresses(f)]
        return [ping.destination for ping in pings(self.lab, wanted)]

    def check(self) -> str:
        done = self.server.run("source-routing", "check", check=False)
        return "" if done.returncode == 0 else done.stdout + done.stderr

    def rules(self) -> str:
        return self.lab.ip("S", "-N", "-4", "rule") + self.lab.ip("S", "-N", "-6", "rule")

    def default_of(self, table: int) -> str:
        return self.lab.ip("S", "route", "show", "table", str(table), "default").strip()


class Dnsmasq:
    """The subnets' DHCP server, in the router's namespace, with leases renewed every 3 s."""

    def __init__(self, site: Site):
        self.machine = site.boot("RT", site.tree)
        self.start()

    def start(
        self,
        ens4: str = "10.13.96.161",
        router: str = "10.13.96.1",
        *more: str,
    ) -> None:
        """(Re)start it; what it is told takes effect at the next renewal."""
        self.machine.run("sh", "-c", "kill -9 $(cat /run/dnsmasq.pid) 2>/dev/null", check=False)
        self.machine.run(
            "dnsmasq",
            "--conf-file=/dev/null",
            "--port=0",
            "--pid-file=/run/dnsmasq.pid",
            "--dhcp-leasefile=/run/dnsmasq.leases",
            "--user=root",
            "--bind-dynamic",
            "--interface=br1",
            "--interface=br2",
            "--dhcp-authoritative",
            "--no-ping",
            "--dhcp-range=set:one,162.253.43.0,static,2m",
            "--dhcp-range=set:two,10.13.96.0,static,255.255.224.0,2m",
            "--dhcp-host=fa:16:3e:fc:45:9d,162.253.43.134",
            f"--dhcp-host=fa:16:3e:2b:e7:89,{ens4}",
            f"--dhcp-option=tag:two,option:router,{router}",
            "--dhcp-option-force=option:T1,3",
            "--dhcp-option-force=option:T2,100",
            *more,
        )


@pytest.fixture()
def static(lab, boot, tree) -> Site:
    site = Site(lab, boot, tree, STATIC)
    site.ifup("-a")
    site.server.listen()
    return site


@pytest.fixture()
def dynamic(lab, boot, tree) -> tuple[Site, Dnsmasq]:
    site = Site(lab, boot, tree, DYNAMIC)
    dnsmasq = Dnsmasq(site)
    site.ifup("-a")
    site.server.listen()
    return site, dnsmasq


# -- static addresses --------------------------------------------------------------------


def test_the_seeds_second_address_is_dead_before_and_alive_after(static):
    assert sorted(static.dead()) == ["10.13.96.161", "fd00:96::161"]
    static.server.run("source-routing", "apply")
    assert static.dead() == []
    assert static.check() == ""


def test_ifdown_and_ifup_heal_by_the_hook_alone(static):
    static.server.run("source-routing", "apply")
    for nic in ("ens4", "ens3", "ens4"):
        static.server.run("ifdown", nic)
        assert f"oif {nic}" not in static.rules()
        static.ifup(nic)
        assert static.dead() == []
        assert static.check() == ""
    assert len(static.server.applies()) == 1, static.server.log()


def test_a_reboot_comes_up_by_the_hooks_alone(static):
    static.server.run("source-routing", "apply")
    static.reboot()
    assert "proto 83" not in static.rules()
    static.ifup("-a")
    assert static.dead() == []
    assert static.check() == ""
    assert len(static.server.applies()) == 1, static.server.log()


def test_a_changed_static_address_is_served_and_the_old_one_forgotten(static):
    static.server.run("source-routing", "apply")
    static.server.run("ifdown", "ens4")
    changed = STATIC.replace("10.13.96.161/19", "10.13.96.162/19")
    static.server.write("/etc/network/interfaces", changed)
    # The cloud lets the port have it; else its gateway would not answer.
    static.lab.nft("RT", "delete table netdev port_security")
    static.ifup("ens4")
    wait_until(lambda: "10.13.96.162" in static.rules() and not static.check())
    assert "10.13.96.161" not in static.rules()


def test_a_second_address_by_an_alias_comes_and_goes(static):
    static.server.run("source-routing", "apply")
    alias = "\niface ens4:1 inet static\n    address 10.13.96.170/19\n"
    static.server.write("/etc/network/interfaces", STATIC + alias)
    static.ifup("ens4:1")
    wait_until(lambda: "from 10.13.96.170 " in static.rules() and not static.check())
    static.server.run("ifdown", "ens4:1")
    wait_until(lambda: "10.13.96.170" not in static.rules() and not static.check())


def test_a_nic_that_comes_later_is_served_by_itself(lab, boot, tree):
    """At the first boot there may be no network yet; the hooks wait for it."""
    site = Site(lab, boot, tree, STATIC)
    site.server.run("source-routing", "apply")
    site.ifup("lo")
    site.ifup("ens3")
    site.ifup("ens4")
    wait_until(lambda: "from fd00:96::161 " in site.rules() and not site.dead())
    wait_until(lambda: site.check() == "")


def test_ifup_is_not_failed_by_a_command_that_fails(lab, boot, tree):
    """Without systemd the hooks start it themselves."""
    server = Site(lab, boot, tree, STATIC).server
    server.run("source-routing", "apply")
    server.write("/usr/bin/source-routing", "#!/bin/sh\necho no luck >&2\nexit 1\n", 0o755)
    server.run("ifup", "ens4")
    assert "ens4" in server.read("/run/network/ifstate.ens4")
    wait_until(lambda: "source-routing apply failed (exit 1): no luck" in server.log())


def test_remove_leaves_ifupdown_without_a_trace(static):
    before = sorted(str(p) for p in (static.server.root / "etc").rglob("*source-routing*"))
    static.server.run("source-routing", "apply")
    static.server.run("source-routing", "remove")
    after = sorted(str(p) for p in (static.server.root / "etc").rglob("*source-routing*"))
    assert before == after == []
    assert "proto 83" not in static.rules()
    static.server.run("ifdown", "ens4")
    static.ifup("ens4")
    assert "proto 83" not in static.rules()


# -- DHCP ----------------------------------------------------------------------------------


def test_leases_give_addresses_and_gateways(dynamic):
    site, _dnsmasq = dynamic
    assert site.dead() == ["10.13.96.161"]
    site.server.run("source-routing", "apply")
    assert site.dead() == []
    assert "via 10.13.96.1 dev ens4" in site.default_of(501)
    assert site.check() == ""


def test_a_flap_with_dhcp_heals_by_the_hooks_alone(dynamic):
    site, _dnsmasq = dynamic
    site.server.run("source-routing", "apply")
    site.server.run("ifdown", "ens4")
    assert "10.13.96.161" not in site.rules()
    site.ifup("ens4")
    assert site.dead() == []
    assert site.check() == ""
    assert len(site.server.applies()) == 1, site.server.log()


def test_a_renewal_of_the_same_lease_changes_nothing(dynamic):
    site, _dnsmasq = dynamic
    site.server.run("source-routing", "apply")
    with Monitor(site.lab, "S") as monitor:
        renewals = site.server.log().count("bound to 10.13.96.161")
        # With the second one, the hooks of the first have come to an end.
        wait_until(
            lambda: site.server.log().count("bound to 10.13.96.161") > renewals + 1,
            story=site.server.log,
        )
    assert [event for event in monitor.events if "83" in str(event)] == []
    assert len(site.server.applies()) == 1, site.server.log()
    assert site.dead() == []


def test_another_address_is_served_and_the_old_one_forgotten(dynamic):
    site, dnsmasq = dynamic
    site.server.run("source-routing", "apply")
    site.cloud.anti_spoofing = False
    site.lab.nft("RT", "delete table netdev port_security")
    dnsmasq.start(ens4="10.13.96.200")
    wait_until(lambda: "from 10.13.96.200 " in site.rules())
    wait_until(lambda: pings(site.lab, [Ping("R", "10.13.96.200")]) == [])
    wait_until(lambda: site.check() == "")
    assert "10.13.96.161" not in site.rules()


def test_another_gateway_is_taken_at_the_renewal(dynamic):
    """Also before dhclient writes its lease, which it does at most every 15 s."""
    site, dnsmasq = dynamic
    site.server.run("source-routing", "apply")
    site.lab.ip("RT", "address", "add", "10.13.96.2/19", "dev", "br2")
    dnsmasq.start(router="10.13.96.2")
    wait_until(lambda: "via 10.13.96.2 dev ens4" in site.default_of(501))
    assert site.dead() == []
    wait_until(lambda: site.check() == "")


def test_classless_routes_tell_the_gateway_too(dynamic):
    """Option 121, as Neutron sends it: the metadata route and the default."""
    site, dnsmasq = dynamic
    routes = "169.254.169.254/32,10.13.96.1,0.0.0.0/0,10.13.96.1"
    dnsmasq.start("10.13.96.161", "10.13.96.9", f"--dhcp-option=tag:two,121,{routes}")
    site.server.run("ifdown", "ens4")
    site.ifup("ens4")
    site.server.run("source-routing", "apply")
    assert site.dead() == []
    assert "via 10.13.96.1 dev ens4" in site.default_of(501)
    site.server.run("ifdown", "ens4")
    site.ifup("ens4")
    assert site.dead() == []
    assert site.check() == ""
    assert len(site.server.applies()) == 1, site.server.log()


def test_a_released_lease_takes_its_rules_along(dynamic):
    site, _dnsmasq = dynamic
    site.server.run("source-routing", "apply")
    site.server.run(
        "dhclient",
        *("-4", "-r", "-pf", "/run/dhclient.ens4.pid"),
        *("-lf", "/var/lib/dhcp/dhclient.ens4.leases", "ens4"),
    )
    wait_until(lambda: "10.13.96.161" not in site.rules(), story=site.server.log)
    assert pings(site.lab, [Ping("R", "162.253.43.134")]) == []
