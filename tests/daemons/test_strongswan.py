"""strongSwan's charon, the real one: it chooses its address by the routes of all tables.

It does not ask the rules (strongswan#3138), so a route of ours that was as good as main's
could give it the address of another NIC.  Its own routes are in table 220, which the rule
220 looks up before ours.  ESP is charon's own (kernel-libipsec), since not every kernel has it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from lab import Cloud, Lab, Ping, SourceRouting, pings, seed_nics, wait_until

from .machine import Machine
from .roots import root_tree

pytestmark = pytest.mark.daemon

# Of each family: the first NIC's address, the second's, the peer R, a host behind R.
ADDRESSES = {
    "ipv4": ("162.253.43.134", "10.13.96.161", "64.31.0.51", "10.20.0.7"),
    "ipv6": ("2001:db8:43::134", "fd00:96::161", "2001:db8:ffff::51", "fd00:20::7"),
}
BEHIND = {"ipv4": ("10.20.0.0/16", "0.0.0.0/0"), "ipv6": ("fd00:20::/64", "::/0")}

CHARON = """
charon {
  load = random nonce openssl aes sha1 sha2 hmac kdf gmp kernel-libipsec kernel-netlink \
socket-default vici
  filelog { log { path = /var/log/charon } }
}
"""
CONNECTION = """
connections {{
  net {{
    remote_addrs = {remote}
    {more}
    encap = yes
    local {{
      auth = psk
      id = {me}
    }}
    remote {{
      auth = psk
      id = {other}
    }}
    children {{
      net {{
        local_ts = {near}
        remote_ts = {far}
        esp_proposals = aes128-sha256
      }}
    }}
  }}
}}
secrets {{
  ike {{
    secret = "of this test alone"
  }}
}}
"""


class Charon:
    """The daemon in a guest of a namespace."""

    def __init__(self, machine: Machine, connection: str):
        self._machine = machine
        machine.write("/etc/strongswan.conf", CHARON)
        machine.write("/etc/swanctl/conf.d/net.conf", connection)
        (machine.root / "dev/net").mkdir()
        os.mknod(machine.root / "dev/net/tun", 0o20666, os.makedev(10, 200))
        machine.run("sh", "-c", "/usr/lib/ipsec/charon >/dev/null 2>&1 &")
        wait_until(lambda: self._swanctl("--load-all").returncode == 0, story=self.log)

    def _swanctl(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return self._machine.run("swanctl", *argv, check=False)

    def log(self) -> str:
        return self._machine.read("/var/log/charon")

    def initiate(self) -> None:
        done = self._swanctl("--initiate", "--child", "net", "--timeout", "30")
        assert done.returncode == 0, done.stdout + self.log()

    def terminate(self) -> None:
        assert self._swanctl("--terminate", "--ike", "net").returncode == 0, self.log()

    def address(self) -> str:
        """The one that it speaks to its peer with."""
        told = self._swanctl("--list-sas").stdout
        return re.findall(r"local +'server' @ ([0-9a-f.:]+)\[", told)[0]


@pytest.fixture(scope="session")
def tree() -> Path:
    return root_tree("strongswan")


def configured(lab: Lab, cloud: Cloud, root: Path) -> SourceRouting:
    shutil.copytree("/etc/iproute2", root / "etc/iproute2")
    command = SourceRouting(lab, "S", root)
    stanza = cloud.stanza()
    # The kernel dumps the second NIC's table first: among equals charon takes the first.
    stanza["source_routing"]["interfaces"]["ens3"]["table"] = 505
    stanza["source_routing"]["interfaces"]["ens4"]["table"] = 501
    command.configure(stanza)
    return command


def between(boot, tree: Path, family: str, more: str = "") -> Charon:
    """The server's, and that of its peer R."""
    nets, everything = BEHIND[family]
    peer = CONNECTION.format(
        remote="%any", me="peer", other="server", near=nets, far=everything, more=""
    )
    own = CONNECTION.format(
        remote=ADDRESSES[family][2],
        me="server",
        other="peer",
        near=everything,
        far=nets,
        more=more,
    )
    Charon(boot("R", tree), peer)
    return Charon(boot("S", tree), own)


@pytest.mark.parametrize("way", ["without us", "set up before us", "set up after us"])
@pytest.mark.parametrize("family", ADDRESSES)
def test_it_reaches_its_peer_and_what_is_behind_it(
    lab: Lab, boot, tree: Path, tmp_path: Path, family: str, way: str
):
    first, second, _peer, behind = ADDRESSES[family]
    cloud = Cloud(
        lab, seed_nics(), container=False, main_routes=("10.0.0.0/8 via 10.13.96.1",)
    ).build()
    lab.batch("R", [f"address add {behind} dev lo"])
    command = configured(lab, cloud, tmp_path / "root")
    if way == "set up after us":
        command.ok("apply")
    charon = between(boot, tree, family)
    charon.initiate()
    assert charon.address() == first
    through = [Ping("S", behind, source) for source in (None, first, second)]
    assert pings(lab, [*through, Ping("H1", first), Ping("H2", second)]) == []
    # R sends everything through the tunnel; these do not.
    across = [Ping("H1", second), Ping("H2", first)]
    if way == "without us":
        assert pings(lab, across, tries=1) == across
        return
    command.ok("apply")
    assert pings(lab, [*through, *across]) == []
    # It has seen our routes come, and looks for its way anew.
    charon.terminate()
    charon.initiate()
    assert charon.address() == first
    assert pings(lab, [*through, *across]) == []
    command.ok("check")


@pytest.mark.parametrize("told", [False, True], ids=["chosen", "told"])
def test_where_mains_default_is_worse_than_ours_its_address_has_to_be_told(
    lab: Lab, boot, tree: Path, tmp_path: Path, told: bool
):
    """A metric above 4000, of main's only default: without us charon has nothing else."""
    first, second, _peer, behind = ADDRESSES["ipv4"]
    cloud = Cloud(lab, seed_nics(), container=False, primary_default=False).build()
    lab.batch(
        "S",
        [
            "route add default via 162.253.43.1 dev ens3 metric 5000",
            "-6 route add default via 2001:db8:43::1 dev ens3 metric 5000",
        ],
    )
    lab.batch("R", [f"address add {behind} dev lo"])
    charon = between(boot, tree, "ipv4", f"local_addrs = {first}" if told else "")
    charon.initiate()
    assert charon.address() == first
    configured(lab, cloud, tmp_path / "root").ok("apply")
    charon.terminate()
    charon.initiate()
    assert charon.address() == (first if told else second)
    assert pings(lab, [Ping("S", behind)]) == []
