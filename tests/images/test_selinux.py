"""Images with SELinux: what is baked into them has labels, although this kernel knows no policy."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from imagebuild import labels, payload
from imagebuild.command import attempt

from .overlay import Overlay

pytestmark = pytest.mark.daemon

IMAGE_BUILD = payload.CHECKOUT / "image-build"
CONFIG = "# of the image\nSELINUX=enforcing\nSELINUXTYPE=targeted\n"
CONTEXTS = "etc/selinux/targeted/contexts/files/file_contexts"


def context(kind: str) -> bytes:
    return f"system_u:object_r:{kind}:s0".encode() + b"\0"


def mark(path: Path, kind: str) -> None:
    os.setxattr(path, labels.ATTRIBUTE, context(kind), follow_symlinks=False)


def kind_of(path: Path) -> str:
    return os.getxattr(path, labels.ATTRIBUTE, follow_symlinks=False).decode().split(":")[2]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A labelled image, small, and then what somebody wrote into it."""
    files = {
        "etc/selinux/config": ("etc_t", CONFIG),
        "etc/cloud/cloud.cfg.d/05_logging.cfg": ("etc_t", ""),
        "usr/bin/at": ("crontab_exec_t", ""),
        "usr/bin/env": ("bin_t", ""),
        "usr/bin/head": ("bin_t", ""),
        "usr/lib/systemd/system/a.service": ("systemd_unit_file_t", ""),
        "usr/lib/systemd/system/b.service": ("systemd_unit_file_t", ""),
        "usr/lib/systemd/system/a.timer": ("systemd_timer_t", ""),
    }
    root = tmp_path / "root"
    root.mkdir()
    mark(root, "root_t")
    for name, (kind, text) in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        mark(path, kind)
    for name in ("etc", "usr", "etc/selinux", "etc/cloud", "etc/cloud/cloud.cfg.d", "usr/bin"):
        mark(root / name, {"etc": "etc_t", "usr": "usr_t"}.get(name[:3], "etc_t"))
    for name in ("usr/lib", "usr/lib/systemd", "usr/lib/systemd/system"):
        mark(root / name, "lib_t")
    return root


WRITTEN = {
    "etc/cloud/cloud.cfg.d/95_source_routing.cfg": "etc_t",
    "usr/bin/source-routing": "bin_t",
    "usr/lib/source-routing/register": "lib_t",
    "usr/lib/source-routing": "lib_t",
    "usr/lib/systemd/system/source-routing.service": "systemd_unit_file_t",
    "usr/lib/systemd/system/source-routing.timer": "systemd_timer_t",
}


def write(tree: Path) -> None:
    for name in WRITTEN:
        path = tree / name
        path.parent.mkdir(exist_ok=True)
        if not path.is_dir():
            path.write_text("")
    (tree / "usr/lib/systemd/system/source-routing.path").symlink_to("source-routing.timer")


def test_what_has_no_label_is_told_and_gets_its_neighbours(tree: Path) -> None:
    assert labels.fault(tree) == [] and labels.restore(tree) is None
    write(tree)
    (told,) = labels.fault(tree)
    assert told.startswith("/etc/cloud/cloud.cfg.d/95_source_routing.cfg and 6 more: no SELinux")
    said = labels.restore(tree)
    assert said == "7 files got the SELinux labels that its neighbours have."
    assert {name: kind_of(tree / name) for name in WRITTEN} == WRITTEN
    assert labels.fault(tree) == [] and labels.restore(tree) is None
    assert kind_of(tree / "usr/bin/at") == "crontab_exec_t"


def test_where_nothing_here_can_label_it_the_image_does_at_its_first_boot(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a kernel with another policy says of a type that it does not know."""

    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    write(tree)
    monkeypatch.setattr(os, "setxattr", refuse)
    said = labels.restore(tree)
    assert said is not None and "at its first boot (/.autorelabel)" in said
    assert (tree / ".autorelabel").exists() and labels.fault(tree) == []


def test_verify_tells_it(baked: Callable[[str], Path], overlay: Callable[[Path], Overlay]) -> None:
    root = overlay(baked("bookworm"))
    root.write("etc/selinux/config", CONFIG)
    mark(root.upper / "etc", "etc_t")
    done = root.host(f'exec "{IMAGE_BUILD}/verify" "$ROOT"')
    assert done.returncode == 1
    assert "more: no SELinux label, which the image's policy asks for" in done.stdout


LABELLED = """
import os, sys
for directory, directories, files in os.walk(sys.argv[1]):
    for name in ["", *directories, *files]:
        path, label = os.path.join(directory, name), b"system_u:object_r:own_t:s0"
        os.setxattr(path, "security.selinux", label, follow_symlinks=False)
"""
SPECIFICATION = """
/.*	system_u:object_r:default_t:s0
/usr/bin/source-routing	--	system_u:object_r:bin_t:s0
/etc/cloud(/.*)?	system_u:object_r:etc_t:s0
"""


@pytest.mark.thorough("SELinux labels by the image's own setfiles")
def test_a_baked_image_has_the_labels_that_its_own_setfiles_says(
    plain: Callable[[str], Path], overlay: Callable[[Path], Overlay], scratch: Path
) -> None:
    root, image = overlay(plain("trixie")), scratch / "selinux.raw"
    root.write("etc/selinux/config", CONFIG)
    root.write(CONTEXTS, SPECIFICATION)
    done = root.host(f"""
        cd "{IMAGE_BUILD}"
        python3 -B -c 'import sys
from pathlib import Path
from imagebuild import existing
existing._install_packages(Path(sys.argv[1]), ["policycoreutils"])' "$ROOT"
        python3 -c '{LABELLED}' "$ROOT"
        truncate -s 1500M "{image}"
        mke2fs -q -F -t ext4 -d "$ROOT" "{image}"
    """)
    assert done.returncode == 0, done.stderr
    done = attempt([IMAGE_BUILD / "bake", "--way", "loop", image], timeout=900)
    assert done.returncode == 0, done.stderr
    assert "files got the SELinux labels that the image's own setfiles says" in done.stderr
    assert attempt([IMAGE_BUILD / "verify", image]).stdout.endswith(": well\n")
    names = ["usr/bin/source-routing", "usr/bin/env", "etc/cloud/cloud.cfg.d/95_source_routing.cfg"]
    told = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", 'mount -o loop,ro "$0" /mnt; cd /mnt; exec "$@"']
        + [image, "python3", "-c", ASKED, *names],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == ["bin_t", "own_t", "etc_t"]
    image.unlink()


ASKED = """
import os, sys
for name in sys.argv[1:]:
    print(os.getxattr(name, "security.selinux").decode().split(":")[2])
"""


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: (tree / "etc/selinux/config").write_text("SELINUX=disabled\n"),
        lambda tree: (tree / "etc/selinux/config").unlink(),
        lambda tree: (tree / ".autorelabel").write_text(""),
    ],
    ids=["switched off", "no SELinux", "labelled at the next boot anyway"],
)
def test_an_image_that_needs_none_gets_none(tree: Path, change: Callable[[Path], object]) -> None:
    write(tree)
    change(tree)
    assert labels.fault(tree) == [] and labels.restore(tree) is None
    assert os.listxattr(tree / "usr/bin/source-routing") == []
