"""`check` and `explain` say what is, also where rules and routes are as planned."""

from __future__ import annotations

import pytest
from lab import Lab, Ping, pings

pytestmark = pytest.mark.kernel

PRIVATE = "10.13.96.161"
REMOTE = "64.31.0.51"


def test_a_gateway_that_is_silent_while_mains_answers_is_a_deviation(server, lab: Lab):
    cloud, command = server()
    stanza = cloud.stanza(families=["ipv4"])
    stanza["source_routing"].setdefault("interfaces", {})["ens4"] = {"gateway4": "10.13.96.99"}
    command.configure(stanza)
    command.ok("apply")
    result = command.run("check")
    assert result.code == 1
    assert result.out.strip() == (
        "ens4's gateway 10.13.96.99 (the stanza's interfaces.ens4.gateway4) does not answer ARP, "
        "and table main's 162.253.43.1 by ens3 does"
    )
    told = command.ok("explain", "--from", PRIVATE)
    assert "10.13.96.99 does not answer on ens4: it gets no further." in told
    assert "Nothing on the way out drops it" not in told
    assert command.run("explain", "--from", PRIVATE, "--json").json["gateway_answers"] is False


def test_where_no_gateway_answers_that_is_said_and_is_nobodys_fault(server, lab: Lab):
    _cloud, command = server()
    command.ok("apply")
    lab.batch("RT", [f"link set {name} down" for name in ("br1", "br2")])
    lab.batch("S", ["neigh flush all"])
    result = command.run("check")
    assert result.code == 0
    assert "ens4's gateway 10.13.96.1 (" in result.err and "does not answer ARP" in result.err
    assert "ens3's gateway 2001:db8:43::1 (" in result.err


def test_an_error_as_mains_default_is_named(server, lab: Lab):
    cloud, command = server()
    command.ok("apply")
    lab.batch("S", ["route del default", "route add unreachable default"])
    command.ok("apply")
    assert "IPv4 is not served: table main's best default is an error" in command.run("check").err
    told = command.ok("explain", "--from", PRIVATE)
    assert "Table main's best default is an error (unreachable default" in told
    assert pings(lab, [p for p in cloud.matrix() if ":" in p.destination]) == []


def test_rp_filter_is_named_where_it_drops(server, lab: Lab):
    """The hand-made script's rule for another NIC's subnet, put before ours."""
    _cloud, command = server(rp_filter=1)
    command.ok("apply")
    lab.batch(
        "S",
        [
            "route add default via 162.253.43.1 dev ens3 table 77",
            f"rule add from {PRIVATE} table 77",
        ],
    )
    assert pings(lab, [Ping("R", PRIVATE)], tries=1) != []
    told = command.run("check").out
    assert f"a packet from {PRIVATE} to 192.0.2.1 leaves by ens3, not by ens4" in told
    assert "lookup 77 priority 4999; rp_filter on ens4 drops what comes in from there" in told


def test_one_nic_is_nothing_managed_and_not_all_is_well(server, lab: Lab):
    _cloud, command = server()
    lab.batch("S", ["link set ens4 down"])
    command.configure({"source_routing": {"renderer": "none"}})
    command.ok("apply")
    told = command.ok("check")
    assert told.strip() == (
        "Nothing is managed here: fewer than two NICs with an address and a gateway."
    )


@pytest.mark.parametrize("rp_filter", [0, 1])
def test_what_goes_behind_a_siblings_host_as_main_says_is_told_once(
    server, lab: Lab, rp_filter: int
):
    """Pods behind a neighbour: the own gateway does not know them, a guarded port drops them."""
    _cloud, command = server(rp_filter=rp_filter)
    lab.batch(
        "S",
        [
            f"route add 10.{number}.0.0/16 via 162.253.43.77 dev ens3 proto bird"
            for number in (244, 245)
        ],
    )
    command.ok("apply")
    result = command.run("check")
    assert result.code == 0
    (said,) = [line for line in result.err.splitlines() if "leave by ens3 as table main" in line]
    assert f"packets from {PRIVATE} to 10.244.0.0/16" in said
    assert "a port with anti-spoofing drops them" in said and "(1 more such)" in said
    assert ("rp_filter on ens4" in said) == (rp_filter == 1)
    told = command.ok("explain", "--from", PRIVATE, "--to", "10.244.0.9")
    assert "A port with anti-spoofing behind ens3 drops it" in told
    assert ("rp_filter=1 on ens4 drops" in told) == (rp_filter == 1)


def test_status_says_when_the_stanza_is_gone_from_user_data(server, lab: Lab):
    _cloud, command = server()
    command.ok("apply")
    command.configure(None)
    gone = "Nothing asks for it any more"
    assert gone not in command.ok("status")
    assert command.run("status", "--json").json["asked"] is None
    merged = command.root / "run/cloud-init/combined-cloud-config.json"
    merged.parent.mkdir(parents=True, exist_ok=True)
    for document, asked in (("{}", False), ('{"source_routing": true}', True)):
        merged.write_text(document)
        assert (gone in command.ok("status")) is not asked
        assert command.run("status", "--json").json["asked"] is asked
    # It is said, and nothing more: what is on stays on.
    merged.write_text("{}")
    assert command.run("check").code == 0
