"""28 NICs that come up at once, through the real hooks: few runs of Python, or none."""

from __future__ import annotations

import pytest
from lab import Lab, Snapshot, nics_in_own_subnets, snapshot
from lab.hooked import Hooked

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.parametrize(
        "at_once",
        [
            pytest.param(True, id="at once"),
            pytest.param(
                False,
                id="one after the other",
                marks=pytest.mark.thorough("28 NICs that come up one after the other"),
            ),
        ],
    ),
]

NICS = nics_in_own_subnets(28)
NAMES = [nic.name for nic in NICS]


def state(lab: Lab) -> Snapshot:
    """The order among rules of one priority means nothing, since no two have one source."""
    seen = snapshot(lab, "S")
    return seen._replace(rules=tuple(sorted(seen.rules)))


@pytest.fixture()
def command(server):
    cloud, made = server(NICS, hosts=False, container=False, anti_spoofing=False)
    made.configure(cloud.stanza(renderer="ifupdown", gateway_guess="never"))
    return made


def test_known_ones_come_up_without_python(command, lab: Lab, at_once: bool):
    hooked = Hooked(command, listening=True)
    command.ok("apply")
    applied = state(lab)
    hooked.forget()
    assert state(lab) != applied
    burst = hooked.burst(NAMES, at_once)
    assert burst.applies == [], burst.log
    assert applied.difference(state(lab)) == ""
    command.ok("check")


def test_without_systemd_all_share_two_runs_however_long_the_first_takes(
    command, lab: Lab, at_once: bool
):
    """All but two are plugged in later; what comes while the first run is at work shares one."""
    hooked = Hooked(command, listening=False)
    lab.batch("S", [f"link set {name} down" for name in NAMES[2:]])
    command.ok("apply")
    come_up(lab)
    burst = hooked.burst(NAMES, at_once, gate=True)
    assert 1 <= len(burst.applies) <= 2, burst.log
    command.ok("check")
    assert "ens30" in lab.ip("S", "rule")


def come_up(lab: Lab) -> None:
    """All links, with the addresses that the kernel has taken away from those that were down."""
    lab.batch("S", [f"link set {name} up" for name in NAMES])
    lab.batch(
        "S",
        [
            f"address replace {address} dev {nic.name}" + (" nodad" if ":" in address else "")
            for nic in NICS
            for address in nic.addresses
        ],
    )
