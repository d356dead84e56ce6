"""A used server becomes an image: what `verify` tells of one machine, the cleaning takes away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from imagebuild import payload

from .overlay import Overlay

pytestmark = pytest.mark.daemon

IMAGE_BUILD = payload.CHECKOUT / "image-build"

# Of one server, and told as such.
TRACES = {
    "etc/ssh/ssh_host_ed25519_key": "secret\n",
    "root/.bash_history": "ls\n",
    "var/lib/systemd/random-seed": "random\n",
    "var/lib/dhcp/dhclient.ens3.leases": "lease {\n}\n",
    "var/lib/dhclient/dhclient-1-eth0.lease": "lease {\n}\n",
    "var/lib/dhcpcd/ens3.lease": "lease\n",
    "var/lib/NetworkManager/internal-1-ens3.lease": "ADDRESS=192.0.2.1\n",
    "var/lib/wicked/lease-eth0-dhcp-ipv4.xml": "<lease/>\n",
    "etc/dhcpcd.duid": "00:01\n",
    "etc/dhcpcd.secret": "01\n",
    "var/lib/dhcpcd/duid": "00:01\n",
    "var/lib/dhcpcd/secret": "01\n",
    "var/lib/wicked/duid.xml": "<client/>\n",
    "var/lib/wicked/iaid.xml": "<iaid/>\n",
    "var/lib/NetworkManager/secret_key": "nm-v2:\n",
    "var/lib/NetworkManager/timestamps": "[timestamps]\n",
    "var/lib/cloud/instances/i-1/obj.pkl": "",
    "var/lib/cloud/seed/nocloud/meta-data": "",
    "var/log/cloud-init.log": "",
    "var/lib/apt/lists/deb.example_dists_x": "",
    "var/cache/apt/archives/some.deb": "",
    "etc/source-routing/stanza.json": "{}\n",
    "etc/source-routing/nics/ens4": "",
    "etc/systemd/system/source-routing-link.socket": "[Socket]\n",
}
# What cloud-init has written for its network, and writes again.
NETWORK = {
    "etc/netplan/50-cloud-init.yaml": "network: {version: 2}\n",
    "etc/network/interfaces.d/50-cloud-init": "auto ens3\n",
    "etc/systemd/network/10-cloud-init-ens3.network": "[Match]\nName=ens3\n",
    "etc/NetworkManager/system-connections/cloud-init-ens3.nmconnection": "[ipv4]\n",
    "etc/NetworkManager/conf.d/99-cloud-init.conf": "[main]\n",
    "etc/NetworkManager/conf.d/30-cloud-init-ip6-addr-gen-mode.conf": "[connection]\n",
    "etc/sysconfig/network-scripts/ifcfg-eth0": "# Created by cloud-init automatically\n",
    "etc/sysconfig/network/ifcfg-eth0": "# Created by cloud-init automatically\n",
    "etc/udev/rules.d/70-persistent-net.rules": 'ATTR{address}=="fa:16:3e:00:00:01"\n',
    "etc/udev/rules.d/85-persistent-net-cloud-init.rules": "# by MAC\n",
}
# Told by what they are in.
IN_DIRECTORIES = {
    "var/lib/cloud/instances/i-1/obj.pkl": "var/lib/cloud/instances/i-1:",
    "var/lib/cloud/seed/nocloud/meta-data": "var/lib/cloud/seed/nocloud:",
    "etc/source-routing/stanza.json": "etc/source-routing/nics and 1 more:",
    "etc/source-routing/nics/ens4": "etc/source-routing/nics and 1 more:",
}
# The image's own, however much it looks like them.
OWN = {
    "etc/sysconfig/network-scripts/ifcfg-eth1": "DEVICE=eth1\n",
    "etc/netplan/01-site.yaml": "network: {version: 2}\n",
    "etc/NetworkManager/system-connections/site.nmconnection": "[ipv4]\n",
}

CLEAN = """
    cd "{place}"
    python3 -B -c 'import sys
from pathlib import Path
from imagebuild import clean
clean.clean(Path(sys.argv[1]))' "$ROOT"
"""


@pytest.fixture
def root(baked: Callable[[str], Path], overlay: Callable[[Path], Overlay]) -> Overlay:
    """A server that was baked from the image, ran, and is to be an image again."""
    root = overlay(baked("bookworm"))
    for path, text in {**TRACES, **NETWORK, **OWN}.items():
        root.write(path, text)
    return root


def told(root: Overlay) -> list[str]:
    return root.host(f'exec "{IMAGE_BUILD}/verify" "$ROOT"').stdout.splitlines()


def clean(root: Overlay) -> list[str]:
    """What of the files is there afterwards."""
    names = " ".join(f"'{name}'" for name in {**TRACES, **NETWORK, **OWN})
    script = CLEAN.format(place=IMAGE_BUILD)
    script += f'cd "$ROOT"; for name in {names}; do [ ! -e "$name" ] || echo "$name"; done'
    done = root.host(script)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_what_is_told_of_one_server_is_what_the_cleaning_takes_away(root: Overlay) -> None:
    before = told(root)
    assert len([line for line in before if line.endswith("is left in the image")]) == len(before)
    for name in {**TRACES, **NETWORK}:
        assert [line for line in before if f"/{IN_DIRECTORIES.get(name, name)}" in line], (
            name,
            before,
        )
    assert clean(root) == list(OWN)
    assert [line for line in told(root) if not line.endswith(": well")] == []


@pytest.mark.thorough("what a cleaning leaves where the network is the image's own")
def test_a_network_that_cloud_init_would_not_write_again_is_kept(root: Overlay) -> None:
    root.write("etc/cloud/cloud.cfg.d/99-network.cfg", "network: {config: disabled}\n")
    assert clean(root) == [*NETWORK, *OWN]
    first, *rest = told(root)
    assert first.startswith("warning: cloud-init leaves the network alone")
    assert [line for line in rest if not line.endswith(": well")] == []
