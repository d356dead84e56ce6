"""ifupdown2 and ifupdown-ng run the hooks of ifupdown: their real packages, once each."""

from __future__ import annotations

import pytest
from lab import wait_until

from .roots import root_tree
from .test_ifupdown import Site

pytestmark = pytest.mark.daemon

# Plain enough for all of them.
INTERFACES = """
auto lo
iface lo inet loopback

auto ens3
iface ens3 inet static
    address 162.253.43.134/24
    gateway 162.253.43.1

auto ens4
iface ens4 inet static
    address 10.13.96.161/19
    post-up ip route add 10.0.0.0/8 via 10.13.96.1
"""


@pytest.fixture(params=["ifupdown2", "ifupdown-ng"])
def site(request, lab, boot) -> Site:
    tree = root_tree(request.param)
    made = Site(lab, boot, tree, INTERFACES)
    made.server.run("mkdir", "-p", "/run/network")
    made.ifup("-a")
    made.server.listen()
    return made


def test_a_flap_heals_by_the_hook_alone(site):
    assert site.dead() == ["10.13.96.161"]
    site.server.run("source-routing", "apply")
    assert site.dead() == []
    site.server.run("ifdown", "ens4")
    assert "oif ens4" not in site.rules()
    site.ifup("ens4")
    assert site.dead() == []
    assert site.check() == ""
    assert len(site.server.applies()) == 1, site.server.log()


def test_a_changed_address_is_handed_to_the_command(site):
    site.server.run("source-routing", "apply")
    site.server.run("ifdown", "ens4")
    changed = INTERFACES.replace("10.13.96.161/19", "10.13.96.162/19")
    site.server.write("/etc/network/interfaces", changed)
    # The cloud lets the port have it; else its gateway would not answer.
    site.lab.nft("RT", "delete table netdev port_security")
    site.ifup("ens4")
    wait_until(lambda: "from 10.13.96.162 " in site.rules() and not site.check())
    assert "10.13.96.161" not in site.rules()
