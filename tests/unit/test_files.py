"""The writer of files: whole or not at all, only where needed, never outside the root."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from cc_source_routing.errors import FileError
from cc_source_routing.files import write as files
from cc_source_routing.files.write import (
    file_deviations,
    foreign_tables,
    read_text,
    saved_tables,
    table_names,
    write_files,
)
from cc_source_routing.model import ConfigFile

HOOK = ConfigFile("/etc/network/if-up.d/source-routing", "#!/bin/sh\n", 0o755)
DATA = ConfigFile("/etc/source-routing/nics/ens4", "addresses=''\n")
DROP_IN = ConfigFile("/etc/systemd/network/10-ens4.network.d/source-routing.conf", "[Link]\n")


def tree(root: Path) -> dict[str, tuple[int, str]]:
    """Every file and link below a root: path to (mode, content)."""
    return {
        f"/{path.relative_to(root)}": (stat.S_IMODE(path.lstat().st_mode), path.read_text())
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def odd_umask():
    old = os.umask(0o077)
    yield
    os.umask(old)


def test_files_and_their_directories_come_with_the_right_modes_whatever_the_umask(
    tmp_path, odd_umask
):
    changes = write_files(tmp_path, [HOOK, DATA], ())
    assert changes.written == (HOOK.path, DATA.path) and changes.changed
    assert tree(tmp_path) == {HOOK.path: (0o755, HOOK.content), DATA.path: (0o644, DATA.content)}
    for directory in ("etc", "etc/network", "etc/network/if-up.d", "etc/source-routing/nics"):
        assert stat.S_IMODE((tmp_path / directory).stat().st_mode) == 0o755


def test_what_is_right_already_is_not_touched(tmp_path):
    write_files(tmp_path, [HOOK, DATA], ())
    before = {path: os.lstat(f"{tmp_path}{path}") for path in (HOOK.path, DATA.path)}
    changes = write_files(tmp_path, [HOOK, DATA], (HOOK.path, DATA.path))
    assert changes == files.FileChanges((), (HOOK.path, DATA.path), ())
    assert not changes.changed
    for path, status in before.items():
        now = os.lstat(f"{tmp_path}{path}")
        assert (now.st_ino, now.st_mtime_ns) == (status.st_ino, status.st_mtime_ns)


@pytest.mark.parametrize("spoil", ["content", "length", "mode", "link"])
def test_each_kind_of_difference_is_told_and_then_mended(tmp_path, spoil):
    write_files(tmp_path, [HOOK, DATA], ())
    place = Path(f"{tmp_path}{HOOK.path}")
    if spoil == "content":
        place.write_text(HOOK.content.replace("sh", "zz"))
    elif spoil == "length":
        place.write_text("")
    elif spoil == "mode":
        place.chmod(0o644)
    else:
        place.unlink()
        place.symlink_to("elsewhere")
    (deviation,) = file_deviations(tmp_path, [HOOK, DATA], ())
    assert deviation.startswith(HOOK.path)
    assert write_files(tmp_path, [HOOK, DATA], ()).written == (HOOK.path,)
    assert file_deviations(tmp_path, [HOOK, DATA], ()) == []
    assert not place.is_symlink() and not place.with_name("elsewhere").exists()


def test_a_check_of_an_empty_root_names_every_missing_file_and_changes_nothing(tmp_path):
    assert file_deviations(tmp_path, [HOOK, DATA], ()) == [
        f"{HOOK.path} is missing",
        f"{DATA.path} is missing",
    ]
    assert list(tmp_path.iterdir()) == []


def test_owned_files_that_are_no_longer_rendered_go_with_our_empty_directories(tmp_path):
    write_files(tmp_path, [HOOK, DATA, DROP_IN], ())
    owned = (HOOK.path, DATA.path, DROP_IN.path, "/etc/never/was")
    assert file_deviations(tmp_path, [HOOK], owned) == [
        f"{DATA.path} is left over",
        f"{DROP_IN.path} is left over",
    ]
    changes = write_files(tmp_path, [HOOK], owned)
    assert changes.removed == (DATA.path, DROP_IN.path)
    assert not (tmp_path / "etc/source-routing").exists()
    assert not (tmp_path / "etc/systemd/network/10-ens4.network.d").exists()
    assert (tmp_path / "etc/systemd/network").is_dir(), "that one is not ours"
    write_files(tmp_path, [], owned)
    assert tree(tmp_path) == {} and (tmp_path / "etc/network/if-up.d").is_dir()


def test_a_directory_with_somebody_elses_file_stays(tmp_path):
    write_files(tmp_path, [DROP_IN], ())
    other = Path(f"{tmp_path}{DROP_IN.path}").with_name("admin.conf")
    other.write_text("[Network]\n")
    assert write_files(tmp_path, [], [DROP_IN.path]).removed == (DROP_IN.path,)
    assert other.read_text() == "[Network]\n"


def test_an_absolute_link_in_an_image_leads_to_the_image_and_not_to_the_builder(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.mkdir()
    (root / "etc").mkdir(parents=True)
    (root / "etc/network").symlink_to(outside)  # absolute: of the image's own tree
    (root / "data").mkdir()
    (root / "etc/source-routing").symlink_to("../data")
    (root / str(outside).lstrip("/")).mkdir(parents=True)
    write_files(root, [HOOK, DATA], ())
    assert list(outside.iterdir()) == []
    assert (root / str(outside).lstrip("/") / "if-up.d/source-routing").read_text() == HOOK.content
    assert (root / "data/nics/ens4").read_text() == DATA.content


@pytest.mark.parametrize("target", ["../../outside", "../etc/../../outside", "loop"])
def test_a_link_that_climbs_out_of_the_root_or_goes_round_is_refused(tmp_path, target):
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "etc").mkdir(parents=True)
    outside.mkdir()
    (root / "etc/loop").symlink_to("loop")
    (root / "etc/network").symlink_to(target)
    with pytest.raises(FileError, match=HOOK.path):
        write_files(root, [DATA, HOOK], ())
    assert list(outside.iterdir()) == []
    assert tree(root) == {}, "nothing half done"


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    root = tmp_path / "root"
    place = Path(f"{root}{HOOK.path}")
    place.parent.mkdir(parents=True)
    place.symlink_to(victim)
    write_files(root, [HOOK], ())
    assert victim.read_text() == "precious" and place.read_text() == HOOK.content
    assert not place.is_symlink()


@pytest.mark.parametrize("path", ["etc/x", "/etc/../../x", "/etc/", "/", "/etc/a\0b"])
def test_a_path_that_is_no_file_within_the_root_is_refused(tmp_path, path):
    with pytest.raises(FileError):
        write_files(tmp_path, [ConfigFile(path, "x")], ())
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_does_not_exist_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileError, match="nowhere"):
        write_files(tmp_path / "nowhere", [HOOK], ())


def test_a_directory_or_a_file_in_the_way_is_named_and_nothing_is_half_done(tmp_path):
    (tmp_path / "etc/source-routing/nics/ens4").mkdir(parents=True)
    with pytest.raises(FileError, match=f"{DATA.path} cannot be written: Is a directory"):
        write_files(tmp_path, [HOOK, DATA], ())
    (tmp_path / "etc/network").write_text("a file")
    with pytest.raises(FileError, match=f"{HOOK.path} cannot be written: Not a directory"):
        write_files(tmp_path, [HOOK], ())
    assert tree(tmp_path) == {"/etc/network": (0o644, "a file")}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_full_disk_leaves_the_old_files_and_no_new_ones(tmp_path, monkeypatch, number, call):
    write_files(tmp_path, [HOOK], ())
    before = tree(tmp_path)
    changed = HOOK._replace(content="#!/bin/sh\nnew\n")
    real = getattr(os, call)

    def fails(*args, **kwargs):
        calls.append(args)
        # The second file meets the full disk; the very first rename the other.
        if len(calls) == (2 if call == "fsync" else 1):
            raise OSError(number, os.strerror(number))
        return real(*args, **kwargs)

    calls: list[object] = []
    monkeypatch.setattr(os, call, fails)
    with pytest.raises(FileError, match=os.strerror(number)) as caught:
        write_files(tmp_path, [changed, DATA], ())
    assert str(caught.value).startswith((HOOK.path, DATA.path))
    assert tree(tmp_path) == before
    assert not (tmp_path / "etc/source-routing").exists(), "directories made for it go too"


@pytest.mark.kernel
def test_a_really_full_and_a_really_read_only_file_system(tmp_path):
    import subprocess
    import sys

    if os.geteuid() != 0:
        from lab import demand

        demand(["root"])
    script = f"""
import os, subprocess, sys
sys.path.insert(0, {os.getcwd()!r})
from pathlib import Path
from cc_source_routing.errors import FileError
from cc_source_routing.files.write import write_files
from cc_source_routing.model import ConfigFile
root = Path({str(tmp_path)!r})
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(root)], check=True)
small, big = ConfigFile("/etc/small", "s"), ConfigFile("/etc/big", "b" * 200000)
for option in ("remount,rw", "remount,ro"):
    subprocess.run(["mount", "-o", option, str(root)], check=True)
    try:
        write_files(root, [small, big], ())
    except FileError as error:
        print(error)
    print(sorted(str(p.relative_to(root)) for p in root.rglob("*")))
"""
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.splitlines() == [
        "/etc/big cannot be written: No space left on device",
        "[]",
        "/etc/small cannot be written: Read-only file system",
        "[]",
    ], done.stderr


def test_what_a_killed_writer_left_is_swept_away_by_the_next(tmp_path):
    write_files(tmp_path, [HOOK], ())
    place = Path(f"{tmp_path}{HOOK.path}")
    (place.parent / ".source-routing.source-routing-deadbeef").write_text("half")
    (place.parent / ".somebody-elses").write_text("theirs")
    write_files(tmp_path, [HOOK], ())
    assert sorted(p.name for p in place.parent.iterdir()) == [".somebody-elses", "source-routing"]


def test_text_is_read_within_the_root_with_a_limit(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/latin").write_bytes(b"caf\xe9")
    (tmp_path / "etc/abs").symlink_to("/etc/latin")
    os.mkfifo(tmp_path / "etc/pipe")
    assert read_text(tmp_path, "/etc/none") is None
    assert read_text(tmp_path, "/etc/abs") == "caf�"
    with pytest.raises(FileError, match="more than 2 bytes"):
        read_text(tmp_path, "/etc/latin", limit=2)
    with pytest.raises(FileError, match="not a regular file"):
        read_text(tmp_path, "/etc/pipe")


def test_table_names_of_others_and_our_own_are_told_apart(tmp_path):
    def put(path: str, text: str) -> None:
        place = tmp_path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    put("usr/share/iproute2/rt_tables", "255\tlocal\n254\tmain\n253\tdefault\n0\tunspec\n")
    put("etc/iproute2/rt_tables", "# reserved\n 0x64 ens9 # hand-made\n7 seven\njunk\n12\n-3 neg\n")
    put("etc/iproute2/rt_tables.d/vpn.conf", "200\tvpn\n99999999999 huge\n")
    put("etc/iproute2/rt_tables.d/ignored", "201\tignored\n")
    put(
        "etc/iproute2/rt_tables.d/source-routing.conf",
        "# ours\n500\tens3\n501\tsource-routing-ens4\n502\tsource-routing-main\n",
    )
    (tmp_path / "etc/iproute2/rt_tables.d/broken.conf").symlink_to("broken.conf")
    names = tuple(table_names(tmp_path))
    assert foreign_tables(names) == {
        255: "local",
        254: "main",
        253: "default",
        0: "unspec",
        100: "ens9",
        7: "seven",
        200: "vpn",
    }
    assert saved_tables(names) == {"ens3": 500, "ens4": 501, "main": 502}
    assert list(table_names(tmp_path / "empty")) == []
