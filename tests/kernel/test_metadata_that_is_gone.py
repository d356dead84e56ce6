"""What the cloud told at the first boot is lost later: unknown is not gone."""

from __future__ import annotations

import json
import shutil

import pytest
from lab import Cloud, Lab, Ping, SourceRouting, pings, snapshot

pytestmark = pytest.mark.kernel

CONFIG_DRIVE = "config-drive/openstack/latest/network_data.json"
SAVED = "etc/source-routing/metadata.json"


def network_data(cloud: Cloud) -> dict:
    """OpenStack's network_data.json of the server's ports, with a default route each."""
    links, networks = [], []
    for number, nic in enumerate(cloud.nics):
        links.append(
            {"id": f"tap{number}", "type": "ovs", "ethernet_mac_address": cloud.macs[nic.name]}
        )
        for address, gateway in zip(nic.addresses, nic.gateways):
            six = ":" in address
            networks.append(
                {
                    "id": f"network{len(networks)}",
                    "link": f"tap{number}",
                    "type": "ipv6" if six else "ipv4",
                    "ip_address": address,
                    "routes": [
                        {
                            "network": "::" if six else "0.0.0.0",
                            "netmask": "::" if six else "0.0.0.0",
                            "gateway": gateway,
                        }
                    ],
                }
            )
    return {"links": links, "networks": networks, "services": []}


@pytest.fixture()
def booted(server, lab: Lab):
    """A server that knows its gateways from the config drive alone, and has applied once."""
    cloud, command = server(rp_filter=1)
    command.configure({"source_routing": {"renderer": "ifupdown", "gateway_guess": "never"}})
    drive = command.root / CONFIG_DRIVE
    drive.parent.mkdir(parents=True)
    drive.write_text(json.dumps(network_data(cloud)))
    command.ok("apply")
    assert command.ok("status").count("network_data.json") >= 2
    assert (command.root / SAVED).exists()
    command.configure(None)  # from here on as the hooks and a person do it
    return cloud, command


LOSSES = {
    "deleted": None,
    "empty": b"",
    "torn": b'{"format": 1, "ports": [{"mac": "fa:16',
    "of zeros, as after a power cut": b"\0" * 4096,
    "another document": b'{"ports": {"a": 1}, "format": [7]}',
    "a list": b"[[[]]]",
    "too large": b" " * (8 << 20),
    "not text": bytes(range(256)),
}


def lose(command: SourceRouting, loss: str) -> None:
    shutil.rmtree(command.root / "config-drive")
    (command.root / SAVED).unlink()
    content = LOSSES[loss]
    if content is not None:
        (command.root / SAVED).write_bytes(content)


@pytest.mark.parametrize("loss", LOSSES)
def test_without_it_the_routes_stay_as_they_were(booted, lab: Lab, loss: str):
    cloud, command = booted
    before = snapshot(lab, "S")
    lose(command, loss)
    checked = command.run("check")
    # At most the file itself: what the hooks replay is the same.
    assert checked.code == (0 if loss == "deleted" else 1), checked
    if loss != "deleted":
        for line in checked.out.splitlines():
            assert line.startswith(f"/{SAVED} "), checked
    if content := LOSSES[loss]:
        assert f"source-routing: warning: /{SAVED}" in checked.err, content[:80]
    assert "Traceback" not in checked.err
    command.ok("apply", "--again")
    command.ok("check")
    assert before.difference(snapshot(lab, "S")) == ""
    assert pings(lab, cloud.matrix()) == []


def test_what_an_earlier_run_had_noted_may_be_gone_too(booted, lab: Lab):
    """Of the gateways the tables alone are left then: they serve their own addresses."""
    cloud, command = booted
    lose(command, "deleted")
    shutil.rmtree(command.root / "run")
    command.ok("apply", "--again")
    command.ok("check")
    remote = [Ping("R", ip) for family in (4, 6) for _nic, ip in cloud.addresses(family)]
    assert pings(lab, remote) == []
