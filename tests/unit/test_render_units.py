"""The units of the event path: where they come from, what they say, and what systemd is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cc_source_routing.files.write import write_files
from cc_source_routing.follow.networkd_state import LEASES, LINKS
from cc_source_routing.host.leases import read
from cc_source_routing.kernel.messages import GROUPS
from cc_source_routing.model import RoutingPlan
from cc_source_routing.render import hooks, units
from cc_source_routing.render.common import HEADER

from .roots import Root, checked

DATA = Path(units.__file__).parents[1] / "systemd"
FIFO = "/run/source-routing/look"
# What 0.1.0 wrote for the managers, each with events of its own, and what its scripts noted.
OLD = (
    *("/run/source-routing/link-event.ours", "/run/source-routing/revived.ens3"),
    *("/run/source-routing/networkd-restless", "/run/source-routing/pending.ens3"),
    *(f"/etc/source-routing/{name}-event" for name in ("link", "router", "networkd")),
    "/etc/systemd/system/source-routing-link.socket",
    "/etc/systemd/system/source-routing-link.service",
    "/etc/systemd/system/source-routing-link-again.service",
    "/etc/systemd/system/source-routing-router.socket",
    "/etc/systemd/system/source-routing-router.service",
    "/etc/systemd/system/source-routing-router-again.service",
    "/etc/systemd/system/source-routing-networkd.path",
    "/etc/systemd/system/source-routing-networkd.service",
    "/etc/systemd/system/networking.service.d/50-source-routing.conf",
    "/etc/systemd/system/NetworkManager.service.d/50-source-routing.conf",
    "/etc/systemd/system/systemd-networkd.service.d/50-source-routing.conf",
)


def settings(unit: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", (DATA / unit).read_text(), re.MULTILINE)


def shipped(path: Path) -> Path:
    """A root in which a package has put the units."""
    root = Root(path / "shipped")
    for name in units.NAMES:
        root.file(f"/usr/lib/systemd/system/{name}", (DATA / name).read_text())
    return root.path


# -- shipped or written ------------------------------------------------------------


def test_where_a_package_has_put_them_only_the_condition_is_written(tmp_path):
    assert [file.path for file in units.follow_files(shipped(tmp_path))] == [units.FOLLOW_PATH]


def test_where_nobody_has_they_are_written_all_and_wanted_at_each_boot(tmp_path):
    files = {file.path: file.content for file in units.follow_files(tmp_path)}
    assert files.pop(units.FOLLOW_PATH)
    expected = {f"/etc/systemd/system/{path.name}": path.read_text() for path in DATA.iterdir()}
    wants = expected.pop("/etc/systemd/system/wants.conf")
    expected["/etc/systemd/system/multi-user.target.d/50-source-routing.conf"] = wants
    assert files == {path: HEADER + text for path, text in expected.items()}


def test_what_was_written_is_owned_and_goes_without_a_trace(tmp_path):
    files = units.follow_files(tmp_path)
    assert units.owned(tmp_path) == ()
    write_files(tmp_path, files, ())
    assert set(units.owned(tmp_path)) == {file.path for file in files}
    write_files(tmp_path, (), units.owned(tmp_path))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert list((tmp_path / "etc/systemd/system").iterdir()) == []


def test_what_was_written_goes_once_a_package_brings_them(tmp_path):
    write_files(tmp_path, units.follow_files(tmp_path), ())
    Root(tmp_path).file("/usr/lib/systemd/system/source-routing.socket")
    changes = write_files(tmp_path, units.follow_files(tmp_path), units.owned(tmp_path))
    assert len(changes.removed) == len(units.NAMES) + 1
    assert list(units.owned(tmp_path)) == [units.FOLLOW_PATH]


@pytest.mark.parametrize("packaged", [True, False])
def test_a_unit_that_somebody_has_masked_stays_so(tmp_path, packaged):
    root = shipped(tmp_path) if packaged else tmp_path
    mask = root / "etc/systemd/system/source-routing.socket"
    Root(root).masked(mask.name)
    write_files(root, units.follow_files(root), units.owned(root))
    assert mask.is_symlink()
    write_files(root, (), units.owned(root))
    assert mask.is_symlink()


def test_so_does_a_changed_copy_of_a_packages_unit(tmp_path):
    """As `systemctl edit --full` makes it."""
    root = shipped(tmp_path)
    copy = "/etc/systemd/system/source-routing.socket"
    Root(root).file(copy, "[Socket]\n")
    changes = write_files(root, units.follow_files(root), units.owned(root))
    assert changes.removed == ()
    assert copy not in units.owned(root)


def test_what_0_1_0_wrote_goes_and_what_is_beside_it_stays(tmp_path):
    root = Root(tmp_path)
    for path in OLD:
        root.file(path)
    others = {
        "/etc/systemd/system/networking.service.d/10-mine.conf",
        "/etc/systemd/system/source-routing-mine.service",
        "/run/source-routing/dhclient.ens3.leases",
        "/run/source-routing/previous.json",
    }
    for path in others:
        root.file(path)
    changes = write_files(tmp_path, units.follow_files(tmp_path), units.owned(tmp_path))
    assert set(changes.removed) == set(OLD)
    assert all((tmp_path / path.lstrip("/")).exists() for path in others)


# -- what systemd is told ------------------------------------------------------------

WRITTEN = [f"/etc/systemd/system/{name}" for name in units.NAMES]


@pytest.mark.parametrize("written", [[units.FOLLOW_PATH], [*WRITTEN, units.FOLLOW_PATH], WRITTEN])
def test_what_is_written_is_started(written):
    (command,) = units.after(written, [])
    assert command == (
        *("systemctl", "--no-block", "start"),
        *("source-routing.socket", "source-routing.path"),
    )


def test_when_nothing_is_to_be_followed_any_more_all_stops(tmp_path):
    stop = (
        *("systemctl", "--no-block", "stop"),
        *("source-routing.socket", "source-routing.path", "source-routing.service"),
    )
    assert units.after([], [units.FOLLOW_PATH]) == (stop,)
    assert units.after([], [units.FOLLOW_PATH, *WRITTEN]) == (stop, units.RELOAD)


def test_of_0_1_0_what_listens_stops_and_what_may_be_running_us_goes_on():
    start, stop, reload = units.after([units.FOLLOW_PATH], OLD)
    assert start[2:4] == ("start", "source-routing.socket")
    assert stop[:3] == ("systemctl", "--no-block", "stop")
    assert set(stop[3:]) == {
        "source-routing-link.socket",
        "source-routing-router.socket",
        "source-routing-networkd.path",
    }
    assert reload == units.RELOAD


@pytest.mark.parametrize("path", [*WRITTEN, units.WANTS_PATH, OLD[-1]])
def test_systemd_forgets_what_is_gone(path):
    assert units.after([], [path]) == (units.RELOAD,)


def test_other_files_are_none_of_systemds(tmp_path):
    others = [file.path for file in hooks.hook_files(RoutingPlan())]
    others += ["/etc/systemd/network/10-x.network.d/50-source-routing.conf"]
    assert units.after(others, others) == ()


# -- what the units say --------------------------------------------------------------


def test_the_socket_listens_to_what_follow_listens_to():
    assert settings("source-routing.socket", "ListenNetlink") == [f"route {GROUPS}"]


def test_the_pipe_of_the_socket_is_the_one_that_others_write_to():
    assert settings("source-routing.socket", "ListenFIFO") == [FIFO]
    (command,) = settings("source-routing-look.service", "ExecStart")
    assert set(re.findall(r"/run/[\w/-]+", command)) == {FIFO}
    (hook,) = (file for file in hooks.hook_files(RoutingPlan()) if file.path == hooks.HOOK_PATH)
    assert f"state={FIFO.rpartition('/')[0]}\n" in hook.content
    assert '"$state/look"' in hook.content


def test_what_is_read_of_leases_is_watched():
    """But for what our own hook notes, which says so itself."""
    directories = {*read._DHCLIENT_DIRECTORIES, *read._DHCPCD_DIRECTORIES, LINKS, LEASES}
    directories = directories - {"/run/source-routing"} | {"/run/NetworkManager/devices"}
    assert set(settings("source-routing.path", "PathModified")) == directories


@pytest.mark.parametrize("name", units.NAMES)
def test_what_listens_waits_for_the_condition_and_nothing_else_does(name):
    """Where it is not met, a socket would start its service again and again."""
    wanted = [units.FOLLOW_PATH] if name in units.LISTENING else []
    assert settings(name, "ConditionPathExists") == wanted


def test_what_listens_is_wanted_at_each_boot():
    assert settings("wants.conf", "Wants") == [" ".join(units.LISTENING)]


@pytest.mark.parametrize("name", units.NAMES)
def test_no_burst_of_events_makes_systemd_give_a_unit_up(name):
    if not name.endswith(".path"):
        assert settings(name, "StartLimitIntervalSec") == ["0"]
    if name in units.LISTENING:
        assert settings(name, "TriggerLimitIntervalSec") == ["0"]


def test_systemd_finds_no_fault_with_them(tmp_path):
    root = Root(shipped(tmp_path))
    commands = {word.split()[0] for name in units.NAMES for word in settings(name, "Exec\\w+")}
    for command in commands:
        root.program(command if command.startswith("/") else f"/usr/bin/{command}")
    said = checked(
        *("systemd-analyze", "verify", "--man=no", "--recursive-errors=no"),
        *(f"--root={root.path}", *units.NAMES),
    )
    assert said == ""


def test_a_masked_unit_is_told_of(tmp_path):
    assert units.warnings(tmp_path) == ()
    Root(tmp_path).masked("source-routing.socket")
    (told,) = units.warnings(tmp_path)
    assert told.startswith("source-routing.socket is masked")
