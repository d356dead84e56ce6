"""A container's port, published on the second NIC: its replies find the way back.

The reply leaves with the container's source until NAT is undone, so no source
rule can match it; ``published_ports`` marks the connection instead.
"""

from __future__ import annotations

import re

import pytest
from lab import Cloud, Lab, Ping, pings, snapshot

pytestmark = pytest.mark.kernel

PORT = "8080"
DNAT = """
table ip published {
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr { 162.253.43.134, 10.13.96.161 } tcp dport 8080 dnat to 172.17.0.2:80
  }
}
"""
SERVE = (
    "import socket\n"
    "s = socket.create_server(('172.17.0.2', 80))\n"
    "print('ready', flush=True)\n"
    "while True:\n"
    "    c, _ = s.accept(); c.sendall(b'hello'); c.close()\n"
)
FETCH = (
    "import socket, sys\n"
    "with socket.create_connection((sys.argv[1], 8080), timeout=int(sys.argv[2])) as s:\n"
    "    sys.exit(s.recv(9) != b'hello')\n"
)


def publish(lab: Lab, cloud: Cloud) -> None:
    lab.nft("S", DNAT)
    server = lab.popen("C", "python3", "-c", SERVE, stdout=-1, text=True)
    assert server.stdout.readline().strip() == "ready"


def fetches(lab: Lab, client: str, address: str, seconds: int = 30) -> bool:
    """Whether the port answers; `seconds` are few where it must not."""
    argv = ("python3", "-c", FETCH, address, str(seconds))
    return lab.run(client, *argv, check=False).returncode == 0


CLIENTS = [
    (client, address)
    for client in ("R", "H1", "H2")
    for address in ("162.253.43.134", "10.13.96.161")
]


@pytest.mark.parametrize("rp_filter", [0, 1, 2])
def test_a_published_port_answers_on_every_nic(lab, server, rp_filter):
    cloud, command = server(rp_filter=rp_filter, stanza={"published_ports": True})
    publish(lab, cloud)
    assert not fetches(lab, "R", "10.13.96.161", 2), "without us it must be dead"
    command.ok("apply")
    dead = [(c, a) for c, a in CLIENTS if not fetches(lab, c, a)]
    assert dead == []
    command.ok("check")


def test_its_marks_may_be_in_another_byte(lab, server):
    cloud, command = server(stanza={"published_ports": True, "published_ports_mark": 0xFF00})
    publish(lab, cloud)
    command.ok("apply")
    assert fetches(lab, "R", "10.13.96.161")
    assert re.search(r"fwmark 0x\w\w?00/0xff00 lookup", lab.ip("S", "rule"))
    command.ok("check")


def test_a_second_apply_changes_nothing(server):
    _cloud, command = server(stanza={"published_ports": True})
    command.ok("apply")
    assert "Nothing to change" in command.ok("apply")


def test_without_the_key_the_container_stays_as_it_was(lab, server):
    cloud, command = server()
    publish(lab, cloud)
    command.ok("apply")
    assert fetches(lab, "R", "162.253.43.134")
    assert not fetches(lab, "R", "10.13.96.161", 2)


def test_turning_it_off_and_remove_take_the_marks_away(lab, server):
    cloud, command = server(rp_filter=1)
    before, files = snapshot(lab, "S"), command.files()
    command.configure(cloud.stanza(published_ports=True))
    command.ok("apply")
    assert "source_routing" in lab.run("S", "nft", "list", "tables").stdout
    command.configure(cloud.stanza())
    command.ok("apply")
    assert "source_routing" not in lab.run("S", "nft", "list", "tables").stdout
    command.ok("remove")
    assert before.difference(snapshot(lab, "S")) == ""
    assert command.files() == files


MASQUERADE = """
table ip nat {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "ens3" counter masquerade
  }
}
"""


def masqueraded(lab: Lab) -> int:
    """Connections that have left by ens3."""
    told = lab.run("S", "nft", "list", "table", "ip", "nat").stdout
    return int(re.findall(r"counter packets (\d+)", told)[0])


@pytest.mark.parametrize("rp_filter", [0, 1, 2])
def test_what_the_server_masquerades_for_others_goes_as_without_us(lab, server, rp_filter):
    """It is the NAT gateway of the hosts behind its second NIC: they reach the world by ens3."""
    # Its ports may forward.
    options = {"rp_filter": rp_filter, "anti_spoofing": False}
    cloud, command = server(stanza={"published_ports": True}, **options)
    remote = cloud.remote_ip(4)
    lab.nft("S", MASQUERADE)
    lab.ip("H2", "route", "replace", f"{remote}/32", "via", "10.13.96.161")
    assert pings(lab, [Ping("H2", remote)]) == [], "without us"
    before = masqueraded(lab)
    command.ok("apply")
    assert pings(lab, [Ping("H2", remote)]) == []
    assert masqueraded(lab) > before
