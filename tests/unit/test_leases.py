"""Leases are read from what the real clients leave, and the one in force is taken.

The files in data/leases were written by isc-dhcp-client 4.4.3, dhcpcd 9.4.1,
10.1.0 and 10.5.2, systemd-networkd 252 and 257, NetworkManager 1.52.1 and
1.58.1, each served by dnsmasq with two routers and, unless the name says
routers-only, option 121.
"""

from __future__ import annotations

import os
import shutil
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from cc_source_routing.host.leases.read import Leases, read_leases
from cc_source_routing.model import Lease, Link, MetadataRoute
from cc_source_routing.plan.gateway import lease_gateway

DATA = Path(__file__).parent / "data" / "leases"
# All files were written within the hour before, and the leases are for two hours.
NOW = 1795387000.0
WRITTEN = NOW - 1800
LINKS = (
    Link(1, "lo", loopback=True),
    Link(2, "ens4", "fa:16:3e:2b:e7:89"),
    Link(3, "ens5", "fa:16:3e:2b:e7:90"),
)
ROUTERS = (ip_address("10.13.96.1"), ip_address("10.13.96.2"))
CLASSLESS = tuple(
    MetadataRoute(ip_network(to), ip_address(via))
    for to, via in (
        ("169.254.169.254/32", "10.13.96.2"),
        ("10.0.0.0/8", "10.13.96.1"),
        ("0.0.0.0/0", "10.13.96.1"),
    )
)

DHCLIENT = "/var/lib/dhcp/dhclient.ens4.leases"
DHCPCD = "/var/lib/dhcpcd/ens4.lease"
NETWORKD = "/run/systemd/netif/leases/2"
NM = "/run/NetworkManager/devices/2"


def put(root: Path, path: str, source, written: float = WRITTEN) -> Path:
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, bytes):
        target.write_bytes(source)
    else:
        shutil.copy(DATA / source, target)
    os.utime(target, (written, written))
    return target


def read(root: Path, now: float = NOW, links=LINKS) -> Leases:
    return read_leases(root, links, now)


def only(root: Path, now: float = NOW) -> Lease:
    told = read(root, now)
    assert told.warnings == ()
    (lease,) = told.leases
    return lease


def test_an_empty_root_has_no_leases_and_no_warnings(tmp_path):
    assert read(tmp_path) == Leases(())


@pytest.mark.parametrize(
    ("path", "source", "client"),
    [
        (DHCLIENT, "dhclient/bound.leases", "dhclient"),
        ("/var/lib/dhcp/dhclient.leases", "dhclient/bound.leases", "dhclient"),
        ("/var/lib/dhclient/dhclient--ens4.lease", "dhclient/bound.leases", "dhclient"),
        (
            "/var/lib/NetworkManager/dhclient-6f1f8d42-6f6c-4b62-9d6c-3c1d7a9a8a11-ens4.lease",
            "dhclient/bound.leases",
            "dhclient",
        ),
        (DHCPCD, "dhcpcd/9.4.1.lease", "dhcpcd"),
        (DHCPCD, "dhcpcd/10.1.0.lease", "dhcpcd"),
        (DHCPCD, "dhcpcd/10.5.2.lease", "dhcpcd"),
        ("/var/lib/dhcpcd/ens4-some ssid.lease", "dhcpcd/9.4.1.lease", "dhcpcd"),
        ("/var/lib/dhcpcd5/dhcpcd-ens4.lease", "dhcpcd/9.4.1.lease", "dhcpcd"),
        (NETWORKD, "networkd/252.lease", "networkd"),
        (NETWORKD, "networkd/257.lease", "networkd"),
    ],
)
def test_option_121_is_read_as_every_client_writes_it(tmp_path, path, source, client):
    put(tmp_path, path, source)
    lease = only(tmp_path)
    assert (lease.dev, lease.family, lease.client, lease.path) == ("ens4", 4, client, path)
    assert lease.address in ip_network("10.13.96.0/19") and lease.address.network.prefixlen == 19
    assert lease.routers == ROUTERS
    assert lease.classless_routes == CLASSLESS
    assert lease_gateway(lease)[0] == ip_address("10.13.96.1")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (DHCLIENT, "dhclient/bound-routers-only.leases"),
        (DHCPCD, "dhcpcd/10.1.0-routers-only.lease"),
        (NETWORKD, "networkd/257-routers-only.lease"),
    ],
)
def test_without_option_121_the_first_router_is_the_gateway(tmp_path, path, source):
    put(tmp_path, path, source)
    lease = only(tmp_path)
    assert (lease.routers, lease.classless_routes) == (ROUTERS, ())
    assert lease_gateway(lease)[0] == ip_address("10.13.96.1")


@pytest.mark.parametrize("version", ["1.52.1", "1.58.1"])
def test_network_manager_shows_both_families(tmp_path, version):
    put(tmp_path, NM, f"networkmanager/{version}")
    four, six = read(tmp_path).leases
    assert four.address == ip_interface("10.13.96.159/19")
    assert (four.routers, four.classless_routes) == (ROUTERS, CLASSLESS)
    assert (six.family, six.address) == (6, ip_interface("2001:db8:96::1a6/128"))
    assert {four.client, six.client} == {"NetworkManager"}


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("/var/lib/dhcp/dhclient6.ens4.leases", "dhclient/bound6.leases"),
        ("/var/lib/dhcpcd/ens4.lease6", "dhcpcd/10.1.0.lease6"),
    ],
)
def test_a_dhcpv6_lease_tells_an_address_and_no_gateway(tmp_path, path, source):
    put(tmp_path, path, source)
    lease = only(tmp_path)
    assert lease.family == 6
    assert lease.address in ip_network("2001:db8:96::/64")
    assert lease_gateway(lease)[0] is None


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (DHCLIENT, "dhclient/bound.leases"),
        ("/var/lib/dhcp/dhclient6.ens4.leases", "dhclient/bound6.leases"),
        (DHCPCD, "dhcpcd/10.1.0.lease"),
        ("/var/lib/dhcpcd/ens4.lease6", "dhcpcd/10.1.0.lease6"),
    ],
)
def test_a_lease_that_has_expired_is_unknown_and_no_reason_to_warn(tmp_path, path, source):
    put(tmp_path, path, source)
    assert read(tmp_path).leases
    assert read(tmp_path, NOW + 3 * 3600) == Leases(())


def test_network_managers_ipv4_lease_has_its_expiry_and_the_ipv6_one_has_none(tmp_path):
    put(tmp_path, NM, "networkmanager/1.52.1")
    assert [lease.family for lease in read(tmp_path, NOW + 3 * 3600).leases] == [6]


def test_networkds_file_is_there_only_while_the_lease_is(tmp_path):
    put(tmp_path, NETWORKD, "networkd/257.lease")
    assert read(tmp_path, NOW + 30 * 86400).leases


@pytest.mark.parametrize("family", ["", "6"])
def test_a_lease_that_was_released_is_over_though_an_earlier_entry_is_not(tmp_path, family):
    put(
        tmp_path, f"/var/lib/dhcp/dhclient{family}.ens4.leases", f"dhclient/released{family}.leases"
    )
    assert read(tmp_path) == Leases(())


def test_network_managers_own_lease_file_has_no_gateway_and_is_not_read(tmp_path):
    put(
        tmp_path,
        "/var/lib/NetworkManager/internal-6f1f8d42-6f6c-4b62-9d6c-3c1d7a9a8a11-ens4.lease",
        "networkmanager/1.52.1-internal.lease",
    )
    assert read(tmp_path) == Leases(())


def test_what_is_in_force_beats_what_was_written_later(tmp_path):
    put(tmp_path, DHCLIENT, "dhclient/bound.leases", NOW - 1)
    put(tmp_path, NETWORKD, "networkd/257.lease", NOW - 600)
    assert only(tmp_path).client == "networkd"


def test_of_two_clients_files_the_one_written_last_counts(tmp_path):
    put(tmp_path, DHCLIENT, "dhclient/bound.leases", NOW - 600)
    put(tmp_path, DHCPCD, "dhcpcd/10.1.0.lease", NOW - 60)
    assert only(tmp_path).client == "dhcpcd"
    os.utime(tmp_path / DHCLIENT.lstrip("/"), (NOW, NOW))
    assert only(tmp_path).client == "dhclient"


def test_leases_of_interfaces_that_are_gone_are_nobodys(tmp_path):
    put(tmp_path, DHCLIENT, "dhclient/bound.leases")
    put(tmp_path, DHCPCD, "dhcpcd/10.1.0.lease")
    put(tmp_path, NETWORKD, "networkd/257.lease")
    assert read(tmp_path, links=LINKS[2:]) == Leases(())
    assert read(tmp_path, links=()) == Leases(())


@pytest.mark.parametrize("path", [DHCPCD, "/var/lib/dhcpcd/ens4.lease6", NETWORKD])
def test_a_file_that_is_no_lease_is_said(tmp_path, path):
    put(tmp_path, path, b"nonsense")
    told = read(tmp_path)
    assert told.leases == ()
    (warning,) = told.warnings
    assert path in warning


def test_a_file_without_end_is_refused(tmp_path):
    put(tmp_path, DHCLIENT, b"lease {\n" * 200_000)
    told = read(tmp_path)
    assert told.leases == ()
    assert told.warnings == (f"{DHCLIENT} has more than 1048576 bytes; ignored",)


def test_pipes_and_directories_are_said_and_do_not_hang_us(tmp_path):
    (tmp_path / "var/lib/dhcp").mkdir(parents=True)
    os.mkfifo(tmp_path / DHCLIENT.lstrip("/"))
    (tmp_path / DHCPCD.lstrip("/")).mkdir(parents=True)
    told = read(tmp_path)
    assert told.leases == ()
    assert len(told.warnings) == 2


def test_a_servers_own_leases_are_not_a_clients(tmp_path):
    put(tmp_path, "/var/lib/dhcp/dhcpd.leases", "dhclient/bound.leases")
    put(tmp_path, DHCLIENT, b'lease 10.13.96.158 { interface "ens4"; fixed-address 10.0.0.1; }')
    assert read(tmp_path) == Leases(())


def test_a_default_missing_from_option_121_is_no_gateway_whatever_the_routers():
    lease = Lease("ens4", 4, routers=ROUTERS, classless_routes=CLASSLESS[:2])
    assert lease_gateway(lease)[0] is None
    assert lease_gateway(Lease("ens4", 4))[0] is None
