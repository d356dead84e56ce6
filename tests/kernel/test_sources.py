"""Prefixes that the cloud routes to a port: what comes from them leaves by its NIC."""

from __future__ import annotations

from typing import Any

import pytest
from lab import Cloud, Lab, Ping, pings, route_get
from lab.probes import ping

pytestmark = pytest.mark.kernel

PUBLIC4, PUBLIC6 = "198.51.100.64/29", "2001:db8:5::/64"
INSIDE4, INSIDE6 = "198.51.100.66", "2001:db8:5::66"
REMOTE4, REMOTE6 = "64.31.0.51", "2001:db8:ffff::51"
# What dhclient -6 -P writes (dhclient.leases(5)).
DELEGATED = """\
lease6 {
  interface "ens4";
  ia-pd 2b:e7:89:00 {
    starts 1795000000;
    iaprefix 2001:db8:5::/64 {
      starts 1795000000;
      preferred-life 4294967295;
      max-life 4294967295;
    }
  }
}
"""


@pytest.fixture()
def routed(server, lab: Lab):
    """A network of containers with public addresses, which the cloud routes to ens4."""
    cloud, command = server(anti_spoofing=False, rp_filter=1)
    lab.batch(
        "C", [f"address add {INSIDE4}/29 dev eth0", f"address add {INSIDE6}/64 dev eth0 nodad"]
    )
    lab.batch("S", ["address add 198.51.100.65/29 dev docker0"])
    lab.batch("S", ["address add 2001:db8:5::1/64 dev docker0 nodad"])
    lab.batch(
        "RT", [f"route add {PUBLIC4} via 10.13.96.161", f"route add {PUBLIC6} via fd00:96::161"]
    )
    lab.run("S", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    return cloud, command


def with_sources(cloud: Cloud, *sources: str) -> dict[str, Any]:
    stanza = cloud.stanza()
    stanza["source_routing"]["interfaces"]["ens4"]["sources"] = list(sources)
    return stanza


def way(lab: Lab, to: str, source: str) -> str:
    """By which device a packet of a container is forwarded."""
    return str(route_get(lab, "S", to, "from", source, "iif", "docker0").dev)


def test_what_comes_from_them_is_forwarded_by_their_nic(routed, lab: Lab):
    cloud, command = routed
    assert not ping(lab, "R", INSIDE4)  # rp_filter: the reply would leave by ens3
    command.configure(with_sources(cloud, PUBLIC4, PUBLIC6))
    command.ok("apply")
    assert pings(lab, [Ping("R", INSIDE4), Ping("R", INSIDE6)]) == []
    assert way(lab, REMOTE4, INSIDE4) == way(lab, REMOTE6, INSIDE6) == "ens4"
    assert pings(lab, cloud.matrix()) == []
    command.ok("check")


def test_main_keeps_what_it_says_of_containers_and_an_address_of_the_host_is_explained(
    routed, lab: Lab
):
    cloud, command = routed
    command.configure(with_sources(cloud, PUBLIC4, PUBLIC6))
    command.ok("apply")
    assert pings(lab, [Ping("S", INSIDE4), Ping("C", "10.13.96.161", INSIDE4)]) == []
    told = command.ok("explain", "--from", "198.51.100.65")
    assert "leaves by ens4" in told and "it leaves by the NIC that owns it" in told
    told = command.run("explain", "--from", INSIDE4).err
    assert f"{INSIDE4} is on no interface here; what is forwarded from it leaves by ens4" in told


def test_status_has_a_line_for_each(routed):
    cloud, command = routed
    command.configure(with_sources(cloud, PUBLIC4, PUBLIC6))
    command.ok("apply")
    told = command.ok("status")
    assert f"ens4  from {PUBLIC4}" in told and f"ens4  from {PUBLIC6}" in told
    assert command.run("status", "--json").json["interfaces"]["ens4"]["sources"] == [
        PUBLIC4,
        PUBLIC6,
    ]


def test_a_prefix_that_dhcpv6_has_delegated_is_found_by_itself(routed, lab: Lab):
    _cloud, command = routed
    leases = command.root / "var/lib/dhcp/dhclient6.ens4.leases"
    leases.parent.mkdir(parents=True)
    leases.write_text(DELEGATED)
    command.ok("apply")
    assert way(lab, REMOTE6, INSIDE6) == "ens4"
    assert pings(lab, [Ping("R", INSIDE6)]) == []
    leases.write_text(DELEGATED + DELEGATED.replace("4294967295", "100"))
    command.ok("apply")
    assert way(lab, REMOTE6, INSIDE6) == "ens3"


def test_a_prefix_around_a_siblings_address_is_left_out_with_a_warning(routed, lab: Lab):
    cloud, command = routed
    command.configure(with_sources(cloud, "162.253.43.0/24", PUBLIC4))
    result = command.run("apply")
    assert result.code == 0
    assert (
        "what comes from 162.253.43.0/24 is not routed by ens4: 162.253.43.134/32 is ens3's"
        in result.err
    )
    assert "from 162.253.43.0/24" not in lab.ip("S", "rule")
    assert pings(lab, [*cloud.matrix(), Ping("R", INSIDE4)]) == []


def test_nothing_of_them_is_left_by_a_remove(routed, lab: Lab):
    cloud, command = routed
    command.configure(with_sources(cloud, PUBLIC4, PUBLIC6))
    command.ok("apply")
    command.configure(None)
    command.ok("remove")
    assert "198.51.100.64" not in lab.ip("S", "rule")
    assert "2001:db8:5::" not in lab.ip("S", "-6", "rule")
