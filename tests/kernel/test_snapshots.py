"""A server that was made from another one's snapshot, and one whose stanza fits no more."""

from __future__ import annotations

from typing import Any

import pytest
from lab import Cloud, Lab, SourceRouting, be_instance, files_below, pings, seed_nics, snapshot

pytestmark = pytest.mark.kernel

# Of the former server: nothing of it is here.
FORMER = {
    "interfaces": {name: {"gateway4": "192.0.2.1", "on_link": True} for name in ("ens3", "ens4")}
}


def former(command: SourceRouting, **stanza: Any) -> None:
    """Have what a server of other addresses has saved lie about, as after its snapshot."""
    be_instance(command.root, "i-former")
    command.configure({"source_routing": {"renderer": "ifupdown", **FORMER, **stanza}})
    command.ok("apply")
    be_instance(command.root, "i-new")
    command.configure(None)


def test_nothing_of_the_former_server_outlives_the_first_event(server, lab: Lab) -> None:
    cloud, command = server(rp_filter=1)
    before, lost = snapshot(lab, "S"), pings(lab, cloud.matrix())
    former(command)
    assert set(pings(lab, cloud.matrix())) - set(lost), "its gateways do harm here"
    assert command.ok("apply", "--again") == ""
    assert snapshot(lab, "S") == before
    assert pings(lab, cloud.matrix()) == lost
    assert not (command.root / "etc/source-routing").exists()
    assert list(files_below(command.root / "etc/network")) == []


def test_check_and_status_go_by_this_server_and_tell_of_the_former(server) -> None:
    _cloud, command = server()
    former(command, exclude=["ens3"])
    for word in ("check", "status", "plan"):
        told = command.run(word)
        assert "of another server" in told.err, told
        assert told.code == (1 if word == "check" else 0), told
        assert "excluded" not in told.out


@pytest.mark.parametrize("stanza", [{}, {"exclude": ["nothing*"]}])
def test_the_new_servers_own_stanza_counts_and_only_that(server, lab: Lab, stanza) -> None:
    cloud, command = server(rp_filter=1)
    own = cloud.stanza(renderer="ifupdown", **stanza)
    command.configure(own)
    command.ok("apply")
    be_instance(command.root, "i-new")
    command.ok("apply")
    alone, files = snapshot(lab, "S"), command.files()
    command.ok("remove")
    former(command)
    command.configure(own)
    command.ok("apply")
    assert snapshot(lab, "S") == alone
    assert command.files() == files
    assert pings(lab, cloud.matrix()) == []
    assert command.ok("apply").startswith("Nothing to change")


@pytest.mark.parametrize("now", ["i-former", "iid-datasource-none", ""])
def test_without_evidence_of_another_server_all_stays(server, now: str) -> None:
    """A reboot while the metadata service is away is no new server."""
    _cloud, command = server()
    be_instance(command.root, "i-former")
    command.ok("apply")
    command.configure(None)
    saved = command.files()
    be_instance(command.root, now)
    command.ok("check")
    assert command.ok("apply", "--again").startswith("Nothing to change")
    assert {n: f for n, f in command.files().items() if "var/lib" not in n} == {
        n: f for n, f in saved.items() if "var/lib" not in n
    }


def test_what_of_a_saved_stanza_fits_no_more_is_left_out_and_the_rest_served(
    server, lab: Lab
) -> None:
    """The port was moved to another subnet, whose gateway the metadata tell."""
    cloud, command = server()
    command.configure(cloud.stanza(renderer="ifupdown"))
    command.ok("apply")
    command.configure(None)
    lab.ip("S", "-4", "address", "flush", "dev", "ens4")
    lab.ip("S", "address", "add", "192.0.2.7/24", "dev", "ens4")
    lab.ip("S", "route", "add", "default", "via", "192.0.2.1", "dev", "ens4", "metric", "900")
    told = command.run("apply", "--again")
    assert told.code == 0 and "gateway4" in told.err and "is in no subnet of ens4" in told.err
    assert "from 192.0.2.7" in lab.ip("S", "rule")
    for word in ("check", "status"):
        told = command.run(word)
        assert told.code != 2 and "is in no subnet of ens4" in told.err, told
    command.configure(cloud.stanza(renderer="ifupdown"))
    assert command.run("apply").code == 2, "who asks for it just now is told so"


class TestOneNic:
    """With one NIC the stanza is kept, and a second one is served with it."""

    def one(self, server: Any) -> tuple[Cloud, SourceRouting]:
        cloud, command = server(seed_nics()[:1])
        command.configure({"source_routing": {"renderer": "ifupdown", "rp_filter": "loose"}})
        command.ok("apply")
        command.configure(None)
        return cloud, command

    def test_the_kernel_is_left_alone_and_no_hook_is_written(self, server, lab: Lab) -> None:
        _cloud, command = self.one(server)
        assert " 5000:" not in lab.ip("S", "rule")
        own = [name for name in command.files() if "iproute2" not in name]
        assert own == ["etc/source-routing/one-nic", "etc/source-routing/stanza.json"]
        assert command.ok("apply", "--again").startswith("Nothing to change")
        assert command.ok("check").startswith("Nothing is managed here")
        assert "A second NIC will be served when it comes." in command.ok("status")

    def test_the_second_one_is_served_by_the_same_stanza(self, server, lab: Lab) -> None:
        _cloud, command = self.one(server)
        lab.ip("S", "link", "add", "ens9", "type", "veth", "peer", "name", "far9")
        lab.ip("S", "link", "set", "far9", "up")
        lab.ip("S", "link", "set", "ens9", "up")
        command.ok("apply", "--again")
        assert "etc/source-routing/one-nic" not in command.files()
        assert "etc/network/if-up.d/source-routing" in command.files()
        lab.ip("S", "address", "add", "10.9.0.5/24", "dev", "ens9")
        lab.ip("S", "route", "add", "default", "via", "10.9.0.1", "dev", "ens9", "metric", "9")
        command.ok("apply", "--again")
        assert "from 10.9.0.5" in lab.ip("S", "rule")
        lab.ip("S", "link", "del", "ens9")
        command.ok("apply", "--again")
        assert "etc/network/if-up.d/source-routing" in command.files(), "it may come back"

    def test_nothing_is_left_when_it_is_removed(self, server) -> None:
        _cloud, command = self.one(server)
        command.ok("remove")
        assert [n for n in command.files() if "iproute2" not in n] == []
        assert not (command.root / "etc/source-routing").exists()
