"""Rules of somebody else on a booted server: they stay, and replies follow their tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from imagebuild import bake, package, roottree
from imagebuild.progress import Progress
from lab import wait_until

from ...images.overlay import Overlay
from ...sizes import one_each
from ..story import ON
from .test_managers import Place, boot
from .worlds import MOVE_ADDRESS, WORLDS

pytestmark = pytest.mark.boot

# A user's, wg-quick's (whose interface is not needed for it), and a proxy's.
RULES = (
    "pref 5100 to 203.0.113.0/24 lookup 77",
    "pref 5200 not fwmark 0xca6c lookup 51820",
    "pref 5300 fwmark 0x1/0x1 lookup 100",
)
MIRRORED = "to 203.0.113.0/24 lookup 77 suppress_prefixlength 1"
STATIC = [world.name for world in WORLDS.values() if not world.dhcp and world.suite != "sid"]


@pytest.fixture(
    scope="module",
    params=one_each(STATIC, ("trixie-netplan",), "rules of others, under the other managers"),
)
def served(request: pytest.FixtureRequest, scratch: Path, progress: Progress) -> Iterator[Place]:
    world = WORLDS[request.param]
    with boot(world, bake.baked_root(world.recipe, progress), ON, scratch) as place:
        place.is_well()
        yield place


def theirs(served: Place) -> list[str]:
    told = served.shell("ip -N rule").splitlines()
    return [line for line in told if line.startswith(("5100:", "5200:", "5300:"))]


def test_a_full_tunnel_that_comes_later_takes_no_replies(served: Place) -> None:
    """As wg-quick sets one up: rules without a priority, which the kernel puts before ours."""

    def begins_at() -> int:
        rules = [line for line in served.shell("ip rule").splitlines() if "from 10." in line]
        return min(int(line.split(":")[0]) for line in rules)

    served.shell("ip link add wg0 type bridge && ip link set wg0 up")
    served.shell("ip route add default dev wg0 table 51820")
    served.shell("ip rule add not fwmark 0xca6c lookup 51820")
    served.shell("ip rule add lookup main suppress_prefixlength 0")
    wait_until(lambda: begins_at() == 4900, story=served.story)
    served.becomes_well()
    served.shell("ip rule del not fwmark 0xca6c lookup 51820")
    served.shell("ip rule del lookup main suppress_prefixlength 0 && ip link del wg0")
    wait_until(lambda: begins_at() == 5000, story=served.story)
    served.becomes_well()


def test_they_stay_whatever_we_do_and_replies_follow_their_tables(served: Place) -> None:
    for rule in RULES:
        served.shell(f"ip rule add {rule}")
    before = theirs(served)
    assert len(before) == len(RULES)

    def mirrored() -> int:
        return served.shell("ip -N -4 rule").count(MIRRORED)

    # For each address two: before main's that leave by other NICs, and before those through ours.
    two_each = 2 * len(served.server.place.ports)
    wait_until(lambda: mirrored() == two_each, story=served.story)
    served.is_well()
    # Our files change, and the manager is told.
    served.shell(
        "echo 'source_routing: {{rule_priority: 4500}}' >/tmp/other.yaml; "
        "source-routing --config /tmp/other.yaml apply"
    )
    wait_until(lambda: _is_over(served) and theirs(served) == before, story=served.story)
    served.shell(MOVE_ADDRESS)
    served.has_its_addresses()
    served.becomes_well()
    # The drop-ins have changed twice, and networkd may be reading them just now.
    wait_until(lambda: _is_over(served) and theirs(served) == before, story=served.story)
    served.shell("source-routing remove")
    wait_until(lambda: _is_over(served) and theirs(served) == before, story=served.story)
    assert mirrored() == 0


@pytest.mark.parametrize(
    "name",
    one_each(
        ("trixie-netplan", "trixie-networkd"),
        ("trixie-netplan",),
        "rules of others, under the other managers",
    ),
)
def test_they_stay_when_the_package_is_removed(
    name: str, scratch: Path, tmp_path: Path, progress: Progress
) -> None:
    world = WORLDS[name]
    layer = Overlay(roottree.base(world.recipe, progress), tmp_path / "layer")
    layer.write("tmp/package.deb", package.build(tmp_path).read_bytes())
    layer.must("dpkg --install /tmp/package.deb")
    with boot(world, layer.lower, ON, scratch, layer.upper) as place:
        place.is_well()
        for rule in RULES:
            place.shell(f"ip rule add {rule}")
        before = theirs(place)
        place.shell("dpkg --remove source-routing")
        wait_until(lambda: _is_over(place) and theirs(place) == before, story=place.story)
        ours = [line for line in place.shell("ip -N rule").splitlines() if "21330" in line]
        assert (len(before), ours) == (len(RULES), [])


def _is_over(served: Place) -> bool:
    """Whether networkd has read its files, and what watches over that has ended."""
    told = served.shell("systemctl list-units --no-legend --plain 'run-*' || :")
    return "changed source routing" not in told
