"""The hooks with a real kernel and a real `ip`: they leave exactly what an apply leaves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from lab import (
    Cloud,
    Lab,
    Monitor,
    Nic,
    Ping,
    Snapshot,
    SourceRouting,
    nics_in_own_subnets,
    pings,
    seed_nics,
    snapshot,
)

from .sandbox import DOWN, SHELLS, UP, Sandbox

pytestmark = pytest.mark.kernel

TWO_ADDRESSES = (
    Nic(
        "ens3",
        ("198.51.100.10/24", "198.51.100.11/24", "2001:db8:1::10/64", "2001:db8:1::11/64"),
        ("198.51.100.1", "2001:db8:1::1"),
        ("198.51.100.77/24", "2001:db8:1::77/64"),
        1,
    ),
    Nic(
        "ens4",
        ("198.51.100.20/24", "2001:db8:1::20/64"),
        ("198.51.100.1", "2001:db8:1::1"),
        ("198.51.100.77/24", "2001:db8:1::77/64"),
        1,
    ),
)


class Server:
    """A server whose plan was applied, and the hooks that it left behind."""

    def __init__(self, lab: Lab, directory: Path, nics: tuple[Nic, ...], **options: object):
        root = directory / "root"
        root.mkdir()
        shutil.copytree("/etc/iproute2", root / "etc/iproute2")
        self.lab = lab
        self.cloud = Cloud(lab, nics, **options).build()  # type: ignore[arg-type]
        self.command = SourceRouting(lab, "S", root)
        self.command.configure(self.cloud.stanza(renderer="ifupdown"))
        self.command.ok("apply")
        self.box = Sandbox(directory / "box", root=root, enter=lab.argv("S", "unshare", "--mount"))
        self.box.listen()

    def forget(self) -> None:
        """Take everything from the kernel and keep the files, as a reboot does."""
        kept = self.command.root.with_name("kept")
        shutil.copytree(self.command.root, kept, symlinks=True)
        self.command.ok("remove")
        shutil.rmtree(self.command.root)
        kept.rename(self.command.root)

    def hook(self, path: str, nic: str, shell: str = "dash") -> None:
        run = self.box.run(f"{shell} {path}", env={"IFACE": nic, "ADDRFAM": "inet"})
        assert run.is_silent
        assert run.looks == 1

    def flap(self, nic: str, shell: str = "dash") -> None:
        """What ifdown and ifup do to the link, without them."""
        lab = self.lab
        routes = [
            f"-{family} route replace {line}"
            for family in (4, 6)
            for line in lab.ip("S", f"-{family}", "route", "show", "dev", nic).splitlines()
            if " via " in line
        ]
        lab.ip("S", "link", "set", nic, "down")
        self.hook(DOWN, nic, shell)
        self.own_rules_are_gone(nic)
        lab.ip("S", "link", "set", nic, "up")
        for planned in self.cloud.nics:
            if planned.name == nic:
                for address in planned.addresses:
                    nodad = ["nodad"] if ":" in address else []
                    lab.ip("S", "address", "replace", address, "dev", nic, *nodad)
        self.cloud.settle()
        for route in routes:
            family, *words = route.split()
            lab.ip("S", family, *words, "dev", nic, check=False)
        self.hook(UP, nic, shell)

    def own_rules_are_gone(self, nic: str) -> None:
        told = self.lab.ip("S", "-4", "rule") + self.lab.ip("S", "-6", "rule")
        planned = next(n for n in self.cloud.nics if n.name == nic)
        assert f"oif {nic}" not in told
        for address in planned.addresses:
            assert f"from {address.split('/')[0]} " not in told


def state(lab: Lab) -> Snapshot:
    """The order among rules of one priority means nothing, since no two have one source."""
    seen = snapshot(lab, "S")
    return seen._replace(rules=tuple(sorted(seen.rules)))


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("nics", [seed_nics(), TWO_ADDRESSES, nics_in_own_subnets(4)])
def test_hooks_after_a_reboot_leave_what_an_apply_leaves(lab, tmp_path, nics, shell):
    server = Server(lab, tmp_path, nics, hosts=False, container=False)
    applied = state(lab)
    server.forget()
    assert state(lab) != applied
    for nic in nics:
        server.hook(UP, nic.name, shell)
    assert applied.difference(state(lab)) == ""
    server.command.ok("check")


def test_after_the_hooks_an_apply_finds_nothing_to_do(lab, tmp_path):
    server = Server(lab, tmp_path, seed_nics(), hosts=False, container=False)
    server.forget()
    for nic in ("ens3", "ens4"):
        server.hook(UP, nic)
    with Monitor(lab, "S") as monitor:
        server.command.ok("apply")
    assert monitor.events == []


def test_a_second_run_of_a_hook_changes_no_rule_and_no_route(lab, tmp_path):
    server = Server(lab, tmp_path, seed_nics(), hosts=False, container=False)
    before = snapshot(lab, "S")
    for _again in range(2):
        for nic in ("ens3", "ens4"):
            server.hook(UP, nic)
    assert before.difference(snapshot(lab, "S")) == ""


@pytest.mark.parametrize("shell", SHELLS)
def test_a_flap_heals_for_every_ping_of_the_matrix(lab, tmp_path, shell):
    server = Server(lab, tmp_path, seed_nics(), rp_filter=1)
    for nic in ("ens4", "ens3"):
        server.flap(nic, shell)
        assert pings(lab, server.cloud.matrix()) == []
        server.command.ok("check")


def test_while_one_nic_is_down_the_others_serve_on(lab, tmp_path):
    server = Server(lab, tmp_path, nics_in_own_subnets(3), rp_filter=1, container=False)
    lab.ip("S", "link", "set", "ens4", "down")
    server.hook(DOWN, "ens4")
    served = [
        Ping("R", ip)
        for family in (4, 6)
        for name, ip in server.cloud.addresses(family)
        if name != "ens4"
    ]
    assert pings(lab, served) == []


def test_a_nic_that_was_deleted_leaves_no_rule_behind(lab, tmp_path):
    server = Server(lab, tmp_path, nics_in_own_subnets(3), hosts=False, container=False)
    lab.ip("S", "link", "del", "ens4")
    server.hook(DOWN, "ens4")
    server.own_rules_are_gone("ens4")


def test_a_tentative_address_gets_its_rule_at_once(lab, tmp_path):
    """Duplicate address detection may still run when ifup calls the hook."""
    server = Server(lab, tmp_path, seed_nics(), hosts=False, container=False)
    lab.ip("S", "link", "set", "ens4", "down")
    server.hook(DOWN, "ens4")
    lab.sysctl("S", {"net/ipv6/conf/ens4/accept_dad": 1, "net/ipv6/conf/ens4/dad_transmits": 20})
    lab.ip("S", "link", "set", "ens4", "up")
    lab.ip("S", "address", "add", "fd00:96::161/64", "dev", "ens4")
    assert "tentative" in lab.ip("S", "-6", "address", "show", "dev", "ens4", "scope", "global")
    server.hook(UP, "ens4")
    assert "from fd00:96::161 " in lab.ip("S", "-6", "rule")
