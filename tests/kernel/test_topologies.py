"""More than the usual two NICs: in one subnet, four, and as many as a server can have."""

from __future__ import annotations

import pytest
from lab import Lab, Nic, Ping, nics_in_own_subnets, pings, route_get

pytestmark = pytest.mark.kernel

ONE_SUBNET = (
    Nic(
        "ens3",
        ("192.0.2.10/24", "2001:db8:2::10/64"),
        ("192.0.2.1", "2001:db8:2::1"),
        ("192.0.2.77/24", "2001:db8:2::77/64"),
        1,
    ),
    Nic(
        "ens4",
        ("192.0.2.11/24", "2001:db8:2::11/64"),
        ("192.0.2.1", "2001:db8:2::1"),
        ("192.0.2.77/24", "2001:db8:2::77/64"),
        1,
    ),
)


@pytest.mark.parametrize("rp_filter", [0, 1, 2])
def test_two_nics_in_one_subnet_both_answer(server, lab: Lab, rp_filter: int):
    """By address: a rule by subnet would send both by one of them."""
    cloud, command = server(ONE_SUBNET, rp_filter=rp_filter)
    lost = {
        one.destination for one in pings(lab, [Ping("R", "192.0.2.11"), Ping("R", "192.0.2.10")])
    }
    assert lost == {"192.0.2.11"}
    command.ok("apply")
    assert [str(one) for one in pings(lab, cloud.matrix() + cloud.unbound())] == []
    command.ok("check")


def test_two_nics_in_one_subnet_and_a_third_elsewhere(server, lab: Lab):
    third = Nic(
        "ens5",
        ("10.7.0.10/24", "fd00:7::10/64"),
        ("10.7.0.1", "fd00:7::1"),
        ("10.7.0.77/24", "fd00:7::77/64"),
        2,
    )
    cloud, command = server((*ONE_SUBNET, third), rp_filter=1)
    command.ok("apply")
    assert [str(one) for one in pings(lab, cloud.matrix() + cloud.by_device())] == []


def test_several_addresses_on_each_nic_all_answer(server, lab: Lab):
    nics = (
        Nic(
            "ens3",
            ("192.0.2.10/24", "192.0.2.12/24", "198.51.100.5/24", "2001:db8:2::10/64"),
            ("192.0.2.1", "2001:db8:2::1"),
            ("192.0.2.77/24", "2001:db8:2::77/64"),
            1,
        ),
        Nic(
            "ens4",
            ("10.7.0.10/24", "10.7.0.200/24", "fd00:7::10/64", "fd00:7::20/64", "fd00:7:1::5/64"),
            ("10.7.0.1", "fd00:7::1"),
            ("10.7.0.77/24", "fd00:7::77/64"),
            2,
        ),
    )
    cloud, command = server(nics)
    # The router knows the additional subnets as it knows the first ones.
    lab.batch(
        "RT", ["address add 198.51.100.1/24 dev br1", "address add fd00:7:1::1/64 dev br2 nodad"]
    )
    command.ok("apply")
    assert [str(one) for one in pings(lab, cloud.matrix())] == []
    command.ok("check")


def test_four_nics_every_ping(server, lab: Lab):
    cloud, command = server(nics_in_own_subnets(4), rp_filter=1)
    dead = pings(lab, [Ping("R", ip) for _nic, ip in cloud.addresses(4)])
    assert len(dead) == 3
    command.ok("apply")
    wanted = cloud.matrix() + cloud.unbound() + cloud.by_device()
    assert [str(one) for one in pings(lab, wanted)] == []
    command.ok("check")


def test_four_nics_of_which_one_has_no_gateway(server, lab: Lab):
    """It is nobody's sibling and gets no rule; its own subnet is reached as main says."""
    nics = nics_in_own_subnets(4)
    cloud, command = server(nics, stanza={"gateway_guess": "never"})
    document = cloud.stanza(gateway_guess="never")
    del document["source_routing"]["interfaces"]["ens6"]
    command.configure(document)
    command.ok("apply")
    told = command.run("status").out
    assert "ens6" in told
    served = [ip for nic in nics[:3] for ip in nic.ips(4) + nic.ips(6)]
    assert pings(lab, [Ping("R", ip) for ip in served]) == []
    assert "10.103.0.10" not in lab.ip("S", "rule")
    for host in ("10.103.0.77", "fd00:103::77"):
        assert route_get(lab, "S", host).dev == "ens6"
    assert pings(lab, [Ping("S", "10.103.0.77"), Ping("S", "fd00:103::77")]) == []


def test_two_quarters_of_the_world_behind_a_sibling_do_not_become_a_half(server, lab: Lab):
    """Collapsed into 0.0.0.0/1 they would count as a default, and main's way would be taken."""
    routes = [
        "0.0.0.0/2 via 10.100.0.1 dev ens3",
        "64.0.0.0/2 via 10.101.0.1 dev ens4",
        "::/2 via fd00:100::1 dev ens3",
        "4000::/2 via fd00:101::1 dev ens4",
    ]
    _cloud, command = server(nics_in_own_subnets(3), main_routes=routes, container=False)
    command.ok("apply")
    for to, source in (("8.8.8.8", "10.102.0.10"), ("64.31.0.51", "10.102.0.10")):
        assert route_get(lab, "S", to, "from", source).dev == "ens5"
    for to, source in (("2600::1", "fd00:102::10"), ("4001::1", "fd00:102::10")):
        assert route_get(lab, "S", to, "from", source).dev == "ens5"
    command.ok("check")


@pytest.mark.parametrize("rp_filter", [0, 1])
def test_twenty_eight_dual_stack_nics_all_answer(server, lab: Lab, rp_filter: int):
    cloud, command = server(
        nics_in_own_subnets(28), rp_filter=rp_filter, hosts=False, container=False
    )
    lost = pings(lab, [Ping("R", ip) for _nic, ip in cloud.addresses(4)])
    assert len(lost) == 27
    command.ok("apply")
    wanted = cloud.matrix() + cloud.by_device()
    assert [str(one) for one in pings(lab, wanted)] == []
    command.ok("check")
    assert "Nothing to change" in command.ok("apply")


def test_twenty_eight_nics_and_a_host_on_each_of_three_subnets(server, lab: Lab):
    """A host answers by the server's own way back, whichever subnet it is on."""
    cloud, command = server(nics_in_own_subnets(28), rp_filter=1, hosts=False, container=False)
    command.ok("apply")
    wanted = []
    for number in (1, 14, 28):
        nic = cloud.nics[number - 1]
        lab.add(nic.host)
        cloud.wire("RT", f"h{number}", nic.host, "eth0", master=f"br{number}")
        lab.batch(
            nic.host,
            [
                f"address add {nic.hosts[0]} dev eth0",
                f"address add {nic.hosts[1]} dev eth0 nodad",
                *(f"route add default via {gateway} dev eth0" for gateway in nic.gateways),
            ],
        )
        wanted += [Ping(nic.host, ip) for family in (4, 6) for _n, ip in cloud.addresses(family)]
    cloud.settle()
    assert [str(one) for one in pings(lab, wanted)] == []
