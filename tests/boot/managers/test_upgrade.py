"""A server of 0.1.0, which wrote scripts and units for each network manager, is upgraded.

It goes on running, with things happening to it all the time, and no address stops answering.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from imagebuild import cache, package, payload, roottree
from imagebuild.progress import Progress
from lab import wait_until

from ... import former
from ...images.overlay import Overlay
from ...sizes import one_each
from ..story import ON
from .meter import Streams
from .test_managers import Place, boot
from .worlds import FLAP, FLUSH_RULES, KEEP_ADDRESSES, WORLDS

pytestmark = pytest.mark.boot

NEW = "opt/new"  # in the server, what it is upgraded with
DEB, INSTALL_INTO = "deb", "install-into"
UPGRADE = {
    DEB: f"dpkg --install /{NEW}/*.deb",
    INSTALL_INTO: f"/{NEW}/image-build/install-into /",
}
UNINSTALL = {
    DEB: "dpkg --purge source-routing",
    INSTALL_INTO: f"/{NEW}/image-build/install-into --uninstall /",
}
MANAGERS = (
    "bookworm-ifupdown",
    "trixie-networkd",
    "trixie-networkd-dhcp",
    "trixie-network-manager",
)
SERVERS = {f"{world}-{way}": (world, way) for world in MANAGERS for way in UPGRADE}
DEFAULT = (f"bookworm-ifupdown-{DEB}",)

# Each event starts somebody who may meet half of the new files; and so does the timer.
SOONER = "/run/systemd/system/source-routing.timer.d/sooner.conf"
UNREST = f"""
mkdir -p {SOONER.rpartition("/")[0]}
printf '[Timer]\\nOnUnitInactiveSec=1\\nAccuracySec=10ms\\n' >{SOONER}
systemctl daemon-reload
systemctl enable --now source-routing.timer
systemd-run --quiet --unit=unrest sh -c 'while sleep 0.1; do
    ip link add unrest type dummy; ip address add 203.0.113.7/24 dev unrest
    ip link set unrest up; ip rule add pref 9000 table 77; ip rule del pref 9000
    ip link del unrest
done'
"""
REST = f"systemctl stop unrest; rm -r {SOONER.rpartition('/')[0]}; systemctl daemon-reload"

FILES = "find /etc /run /usr /var/lib -xdev -path '*source?routing*' -not -path '*/__pycache__*'"
# What 0.1.0 wrote and noted, by its own names.
FORMER = r"link-event|router-event|networkd-|routing-(link|router|networkd)|revived|dispatcher\.d"
RUNNING = "ps -eo args | grep '[/]source-routing' || :"
PROCESS = "systemctl show --property=MainPID --value source-routing.service"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return former.export(tmp_path_factory.mktemp("former"))


def _install_former(root: Overlay, way: str, tree: Path, scratch: Path) -> None:
    if way == DEB:
        root.write("tmp/former.deb", former.deb(tree, scratch).read_bytes())
        root.must("dpkg --install /tmp/former.deb && rm /tmp/former.deb")
    else:
        done = root.host(f'exec "{tree}/image-build/install-into" "$ROOT"')
        assert done.returncode == 0, done.stdout + done.stderr


def _bring_new(root: Overlay, way: str) -> None:
    target = root.upper / NEW
    target.mkdir(parents=True)
    if way == DEB:
        package.build(target)
        return
    for name in ("cc_source_routing", "image-build", "templates"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(payload.CHECKOUT / name, target / name, symlinks=True, ignore=ignored)
    shutil.copy(payload.CHECKOUT / "setup.cfg", target)


@pytest.fixture(
    scope="module", params=one_each(SERVERS, DEFAULT, "upgrades of 0.1.0, under each manager")
)
def server(
    request: pytest.FixtureRequest, tree: Path, scratch: Path, progress: Progress
) -> Iterator[tuple[Place, str]]:
    """A server of 0.1.0 and the way in which that was installed."""
    name, way = SERVERS[request.param]
    world = WORLDS[name]
    base = roottree.base(world.recipe, progress)
    home = scratch / request.param
    root = Overlay(base, home / "image")
    _install_former(root, way, tree, home)
    _bring_new(root, way)
    with boot(world, base, ON, home, root.upper) as place:
        place.is_well()
        yield place, way
    cache.discard(home)


def settles(place: Place) -> None:
    wait_until(lambda: place.shell("systemctl list-jobs --no-legend --plain") == "")


def files(place: Place) -> list[str]:
    return sorted(place.shell(FILES).split())


def of_former(place: Place) -> list[str]:
    # networkd's drop-ins bear our name as they did.
    found = [path for path in files(place) if not path.startswith("/etc/systemd/network/")]
    return [path for path in found if re.search(FORMER, path)]


def loaded(place: Place) -> set[str]:
    """The names of our units that systemd knows of."""
    units = place.shell("systemctl list-units --all --output=json 'source-routing*'")
    return {unit["unit"] for unit in json.loads(units)}


def shipped() -> set[str]:
    return {Path(path).name for path in payload.units() if path.startswith(payload.UNITS)}


def listens(place: Place) -> bool:
    told = place.guest.run(["systemctl", "is-active", "source-routing.socket"])
    return told.stdout.strip() == "active"


def test_no_address_stops_answering_and_nothing_of_the_old_is_left(
    server: tuple[Place, str],
) -> None:
    place, way = server
    # So that the scripts have noted what they have seen.
    place.shell(KEEP_ADDRESSES + FLAP)
    place.is_well()
    settles(place)
    assert of_former(place) and not loaded(place) <= shipped()
    place.shell(UNREST)
    with Streams(place.server.place, place.addresses()) as streams:
        wait_until(lambda: streams.answering_since(0.0), story=place.story)
        place.shell(UPGRADE[way])
        place.is_well()
        place.shell(REST)
        settles(place)
        place.is_well()
    assert {ip: told for ip, told in streams.outages().items() if told.lost} == {}
    assert of_former(place) == []
    wait_until(lambda: loaded(place) <= shipped(), story=lambda: loaded(place))
    assert "source-routing follow" in place.shell(RUNNING)
    assert place.shell("systemctl --failed --no-legend --plain") == ""
    assert place.shell("systemctl is-enabled source-routing.timer").strip() == "enabled"
    assert place.shell("systemctl is-active source-routing.timer").strip() == "active"


def test_it_follows_what_happens_from_now_on(server: tuple[Place, str]) -> None:
    place, _way = server
    wait_until(lambda: listens(place))
    place.shell("systemctl stop source-routing.timer")
    place.shell(FLUSH_RULES)
    place.is_well()


def test_the_next_upgrade_replaces_the_process_and_costs_nothing(
    server: tuple[Place, str],
) -> None:
    place, way = server
    # Something of it must differ for install-into.
    place.shell("echo >>/usr/lib/source-routing/second-nic")
    wait_until(lambda: place.shell(PROCESS).strip() != "0")
    before = place.shell(PROCESS)
    with Streams(place.server.place, place.addresses()) as streams:
        wait_until(lambda: streams.answering_since(0.0), story=place.story)
        place.shell(UPGRADE[way])
        place.is_well()
    assert {ip: told for ip, told in streams.outages().items() if told.lost} == {}
    wait_until(lambda: place.shell(PROCESS) not in (before, "0\n"))
    assert listens(place)


def test_an_apply_that_fails_is_told_and_does_not_end_the_listening(
    server: tuple[Place, str],
) -> None:
    place, way = server
    lock = "/run/source-routing/lock"
    place.shell(f"rm {lock}; mkdir {lock}; echo >>/usr/lib/source-routing/second-nic")
    done = place.guest.run(["sh", "-c", UPGRADE[way]], timeout=300)
    assert "/run/source-routing/lock cannot be" in done.stderr
    # To a package manager it is no fault of the package.
    assert done.returncode == (0 if way == DEB else 1)
    wait_until(lambda: listens(place))
    place.shell(f"rmdir {lock}")
    place.is_well()


def test_uninstalled_it_is_gone_with_its_process(server: tuple[Place, str]) -> None:
    place, way = server
    place.shell("systemctl enable --now source-routing.timer")
    place.shell(UNINSTALL[way])
    assert place.shell(RUNNING) == ""
    # networkd is still told, by a unit that names one of ours.
    wait_until(lambda: loaded(place) == set(), story=lambda: loaded(place))
    assert files(place) == []
    assert place.rules() == set()
    assert place.shell("systemctl --failed --no-legend --plain") == ""
