"""Links that systemd-networkd has given up, or whose lease it does not use."""

from __future__ import annotations

from ipaddress import IPv4Interface, ip_interface
from pathlib import Path

import pytest

from cc_source_routing.errors import CommandError
from cc_source_routing.follow import networkd_state
from cc_source_routing.follow.networkd import (
    ANSWER_SECONDS,
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    PATIENCE_AT_WORK_SECONDS,
    PATIENCE_SECONDS,
    LeasedAddress,
    Mender,
    NetworkdLink,
    Remedy,
)
from cc_source_routing.follow.networkd_state import apply_remedy, networkd_links
from cc_source_routing.model import Address, HostState, Link

LEASE = LeasedAddress(IPv4Interface("192.0.2.7/24"), 3600)
WELL = NetworkdLink("ens3", "configured", True, LEASE)
FAILED = NetworkdLink("ens4", "failed", True)
LOST = NetworkdLink("ens4", "configured", True, LEASE, has_leased_address=False)
STUCK = LOST._replace(admin_state="configuring")


@pytest.fixture
def mender() -> Mender:
    return Mender()


@pytest.mark.parametrize(
    "link",
    [
        WELL,
        NetworkdLink("ens4", "configured", True),
        NetworkdLink("ens4", "configuring", True),
        NetworkdLink("ens4", "", True),
        LOST._replace(admin_state="unmanaged"),
        LOST._replace(running=False),
    ],
)
def test_a_link_that_is_well_or_waits_is_left_alone(mender: Mender, link: NetworkdLink):
    assert mender.examine(0.0, [link]) == ([], None)


def test_a_link_that_was_given_up_is_configured_again(mender: Mender):
    remedies, again = mender.examine(0.0, [WELL, FAILED])
    assert [(remedy.name, remedy.address) for remedy in remedies] == [("ens4", None)]
    assert again == FIRST_PAUSE_SECONDS


def test_what_does_not_get_well_is_tried_more_and_more_seldom(mender: Mender):
    now, pauses = 0.0, []
    for _time in range(10):
        remedies, again = mender.examine(now, [FAILED])
        assert len(remedies) == 1
        assert mender.examine(now + 0.1, [FAILED]) == ([], again)
        pauses.append(again - now)
        now = again
    assert pauses == [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]
    assert pauses[-1] == LONGEST_PAUSE_SECONDS


def test_one_that_was_well_in_between_is_mended_at_once(mender: Mender):
    mender.examine(0.0, [FAILED])
    mender.examine(1.0, [FAILED._replace(admin_state="configured")])
    assert mender.examine(2.0, [FAILED])[0]


def test_a_lost_address_is_waited_for_first(mender: Mender):
    assert mender.examine(0.0, [LOST]) == ([], PATIENCE_SECONDS)
    (remedy,), _again = mender.examine(PATIENCE_SECONDS, [LOST])
    assert remedy.address is None
    assert "lease" in remedy.reason


def test_an_address_that_comes_in_time_needs_no_remedy(mender: Mender):
    mender.examine(0.0, [LOST])
    assert mender.examine(0.5, [WELL._replace(name="ens4")]) == ([], None)
    assert mender.examine(5.0, [LOST]) == ([], 5.0 + PATIENCE_SECONDS)


def test_one_that_is_never_set_is_set_and_taken_away_and_only_then_configured_again(
    mender: Mender,
):
    assert mender.examine(0.0, [STUCK]) == ([], PATIENCE_AT_WORK_SECONDS)
    (remedy,), again = mender.examine(PATIENCE_AT_WORK_SECONDS, [STUCK])
    assert remedy.address == LEASE
    assert again == PATIENCE_AT_WORK_SECONDS + ANSWER_SECONDS
    assert mender.examine(again - 1, [STUCK]) == ([], again)
    (remedy,), _again = mender.examine(again, [STUCK])
    assert remedy.address is None


def test_a_link_that_is_gone_is_forgotten(mender: Mender):
    mender.examine(0.0, [FAILED])
    mender.examine(1.0, [])
    assert mender.examine(2.0, [FAILED])[0]


class TestState:
    """What networkd's own files say, as 252 writes them."""

    state = HostState(
        links=(Link(3, "ens4"), Link(4, "ens5")),
        addresses=(Address("ens4", ip_interface("192.0.2.7/24")),),
    )

    def read(self, root: Path, **files: str) -> "list[NetworkdLink]":
        for name, text in files.items():
            path = root / "run/systemd/netif" / name.replace("_", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return networkd_links(root, self.state, {"ens4", "ens5"})

    def test_where_networkd_does_not_run_there_is_nothing_to_mend(self, tmp_path: Path):
        assert self.read(tmp_path) == []

    def test_a_lease_whose_address_is_there(self, tmp_path: Path):
        lease = "ADDRESS=192.0.2.7\nNETMASK=255.255.255.0\nLIFETIME=3600\n"
        (link,) = self.read(tmp_path, links_3="# private\nADMIN_STATE=configured\n", leases_3=lease)
        assert link == NetworkdLink("ens4", "configured", True, LEASE)
        assert not link.lacks_lease

    def test_a_lease_whose_address_is_not(self, tmp_path: Path):
        lease = "ADDRESS=192.0.2.9\nNETMASK=255.255.255.0\n"
        (link,) = self.read(tmp_path, links_4="ADMIN_STATE=configuring\n", leases_4=lease)
        assert link.lacks_lease
        assert link.lease == LeasedAddress(IPv4Interface("192.0.2.9/24"))

    @pytest.mark.parametrize("lease", ["", "ADDRESS=", "ADDRESS=x\nNETMASK=y", "NETMASK=255.0.0.0"])
    def test_a_lease_that_says_nothing_is_none(self, tmp_path: Path, lease: str):
        (link,) = self.read(tmp_path, links_3="ADMIN_STATE=configured\n", leases_3=lease)
        assert link.lease is None

    def test_a_link_that_is_not_ours_is_left_as_networkd_left_it(self, tmp_path: Path):
        failed = dict.fromkeys(("links_3", "links_4"), "ADMIN_STATE=failed\n")
        assert [link.name for link in self.read(tmp_path, **failed)] == ["ens4", "ens5"]
        assert [link.name for link in networkd_links(tmp_path, self.state, {"ens4"})] == ["ens4"]


class TestRemedy:
    """What is done about a link."""

    @pytest.fixture
    def commands(self, monkeypatch: pytest.MonkeyPatch) -> "list[str]":
        ran: list[str] = []
        monkeypatch.setattr(networkd_state, "run", lambda argv, timeout: ran.append(" ".join(argv)))
        return ran

    def test_a_link_is_configured_again(self, commands: "list[str]"):
        apply_remedy(Remedy("ens4", "given up"))
        assert commands == ["networkctl reconfigure ens4"]

    @pytest.mark.parametrize(("lifetime", "words"), [(120, "120"), (None, "forever")])
    def test_an_address_is_set_as_the_lease_says_and_taken_away(self, commands, lifetime, words):
        lease = LeasedAddress(IPv4Interface("192.0.2.7/22"), lifetime)
        apply_remedy(Remedy("ens4", "not set", lease))
        assert commands == [
            "ip address add 192.0.2.7/22 broadcast + dev ens4 "
            f"valid_lft {words} preferred_lft {words}",
            "ip address del 192.0.2.7/22 dev ens4",
        ]

    def test_one_that_networkd_has_set_meanwhile_stays(self, monkeypatch: pytest.MonkeyPatch):
        def refuse(argv: "tuple[str, ...]", timeout: float) -> None:
            assert argv[:3] == ("ip", "address", "add")
            raise CommandError("RTNETLINK answers: File exists")

        monkeypatch.setattr(networkd_state, "run", refuse)
        with pytest.raises(CommandError):
            apply_remedy(Remedy("ens4", "not set", LEASE))
