"""Which renderer a root gets by itself, by what is installed, enabled and configured."""

from __future__ import annotations

from pathlib import Path

import pytest

from cc_source_routing import render
from cc_source_routing.errors import DiscoveryError
from cc_source_routing.render.evidence import program, systemd_version, unit

from .roots import Root


def netplan(root: Root) -> Root:
    return root.program("/usr/sbin/netplan", "/usr/lib/systemd/systemd-networkd")


def daemon(root: Root) -> Root:
    return root.program("/usr/lib/systemd/systemd-networkd").enabled("systemd-networkd.service")


def manager(root: Root) -> Root:
    return root.program("/usr/sbin/NetworkManager").enabled("NetworkManager.service")


def ifupdown(root: Root) -> Root:
    return root.program("/usr/sbin/ifup").file(
        "/etc/network/interfaces", "auto ens3\niface ens3 inet dhcp\n"
    )


ROOTS = {
    "netplan with its YAML": (
        lambda r: daemon(netplan(r)).file("/etc/netplan/50-cloud-init.yaml", "network:\n"),
        "netplan",
    ),
    "netplan's YAML in /run": (
        lambda r: netplan(r).file("/run/netplan/a.yaml", "network:\n"),
        "netplan",
    ),
    "an image with netplan and nothing else": (netplan, "netplan"),
    "netplan unconfigured beside ifupdown": (lambda r: ifupdown(netplan(r)), "ifupdown"),
    "networkd enabled": (daemon, "networkd"),
    "networkd enabled by its D-Bus name alone": (
        lambda r: r.program("/usr/lib/systemd/systemd-networkd").link(
            "/etc/systemd/system/sockets.target.wants/systemd-networkd.service", "x"
        ),
        "networkd",
    ),
    "networkd at work, whoever started it": (
        lambda r: r.program("/lib/systemd/systemd-networkd").file(
            "/run/systemd/netif/links/2", "NETWORK_FILE=/etc/systemd/network/a.network\n"
        ),
        "networkd",
    ),
    "networkd enabled but masked, NetworkManager": (
        lambda r: manager(daemon(r)).masked("systemd-networkd.service"),
        "network-manager",
    ),
    "both enabled, networkd without a file": (
        lambda r: manager(daemon(r)),
        "network-manager",
    ),
    "both enabled, networkd with a file": (
        lambda r: manager(daemon(r)).file("/etc/systemd/network/a.network", "[Match]\n"),
        "networkd",
    ),
    "networkd installed but not enabled, ifupdown": (
        lambda r: ifupdown(r.program("/usr/lib/systemd/systemd-networkd")),
        "ifupdown",
    ),
    "NetworkManager": (manager, "network-manager"),
    "NetworkManager installed but not enabled, ifupdown": (
        lambda r: ifupdown(r.program("/usr/sbin/NetworkManager")),
        "ifupdown",
    ),
    "ifupdown": (ifupdown, "ifupdown"),
}


@pytest.mark.parametrize("name", ROOTS)
def test_the_manager_that_runs_the_network_is_recognised(tmp_path, name):
    prepare, expected = ROOTS[name]
    prepare(Root(tmp_path))
    chosen, why = render.select("auto", tmp_path)
    assert chosen == expected
    assert why


@pytest.mark.parametrize("name", [name for name in render.RENDERERS if name != "auto"])
def test_the_stanza_has_the_last_word(tmp_path, name):
    manager(Root(tmp_path))
    assert render.select(name, tmp_path) == (name, "told by the stanza")


def test_when_none_fits_the_error_lists_what_was_looked_at(tmp_path):
    with pytest.raises(DiscoveryError) as caught:
        render.select("auto", tmp_path)
    for told in (
        "no netplan in usr/sbin",
        "no systemd-networkd in usr/lib/systemd",
        "no NetworkManager in usr/sbin",
        "no ifup in usr/sbin",
    ):
        assert told in str(caught.value)


def test_links_of_an_image_do_not_lead_to_the_builders_own_files(tmp_path):
    Root(tmp_path).link("/usr/sbin/netplan", "/bin/sh").link("/etc/netplan", "/etc")
    assert program(tmp_path, "netplan") is None


def test_a_masked_unit_is_not_enabled_whatever_else_there_is(tmp_path):
    root = Root(tmp_path).enabled("a.service").masked("a.service")
    found = unit(root.path, "a.service")
    assert (found.enabled, found.masked) == (False, True)


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("/usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-257.so", 257),
        ("/usr/lib/systemd/libsystemd-shared-252.so", 252),
        ("/usr/lib64/systemd/libsystemd-shared-252-55.el9_7.7.so", 252),
        ("/usr/lib/systemd/libsystemd-shared-257.9-2.fc42.so", 257),
        ("/usr/lib/aarch64-linux-gnu/systemd/libsystemd-shared-262~rc1.so", 262),
        ("/usr/lib/systemd/libsystemd-core-257.so", None),
    ],
)
def test_the_release_of_systemd_is_read_off_its_library(tmp_path: Path, name, version):
    Root(tmp_path).file(name)
    assert systemd_version(tmp_path) == version


def test_or_off_the_package_database(tmp_path):
    Root(tmp_path).file(
        "/var/lib/dpkg/status",
        "Package: systemd-sysv\nStatus: install ok installed\nVersion: 99-1\n\n"
        "Package: systemd\nStatus: install ok installed\nPriority: important\n"
        "Version: 252.39-1~deb12u2\n\nPackage: udev\nVersion: 1\n",
    )
    assert systemd_version(tmp_path) == 252
