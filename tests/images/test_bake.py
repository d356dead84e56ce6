"""Baking into a downloaded image: done whole, or the image is as it was and one line says why."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from imagebuild import payload
from imagebuild.command import Completed, attempt

from .overlay import Overlay

pytestmark = pytest.mark.daemon

BAKE = payload.CHECKOUT / "image-build/bake"
VERIFY = payload.CHECKOUT / "image-build/verify"

_START, _SIZE_MIB = 2048, 2900


def make_image(tree: str, target: str) -> str:
    """A shell script that writes a tree to a qcow2 with one partition."""
    return f"""
        raw="{target}.raw"
        truncate -s {_SIZE_MIB + 2}M "$raw"
        mke2fs -q -F -t ext4 -E offset={_START * 512},lazy_itable_init=1 -d "{tree}" "$raw" \
            {_SIZE_MIB}M 2>/dev/null
        echo 'label: gpt\nstart={_START}, size={_SIZE_MIB * 2048}, name=root' |
            sfdisk --quiet --wipe=never --no-reread --no-tell-kernel "$raw" >/dev/null
        qemu-img convert -O qcow2 "$raw" "{target}"
        rm "$raw"
    """


@pytest.fixture(scope="module")
def downloaded(plain: Callable[[str], Path], scratch: Path) -> Path:
    """A cloud image as an operator downloads it; to be left as it is."""
    image = scratch / "downloaded.qcow2"
    subprocess.run(["sh", "-euc", make_image(str(plain("trixie")), str(image))], check=True)
    return image


@pytest.fixture
def image(downloaded: Path, scratch: Path) -> Iterator[Path]:
    place = scratch / "operator"
    place.mkdir()
    yield Path(shutil.copyfile(downloaded, place / "image.qcow2"))
    shutil.rmtree(place)


def _bake(image: Path, *options: str | Path, way: str = "loop") -> Completed:
    return attempt([BAKE, "--way", way, "--uncompressed", image, *options], timeout=900)


def _digest(path: Path) -> str:
    with open(path, "rb") as content:
        return hashlib.sha256(content.read()).hexdigest()


def _refused(done: Completed, reason: str) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    last = [line for line in done.stderr.splitlines() if not line.startswith("[")]
    assert len(last) == 1 and last[0].startswith("bake: "), done.stderr
    assert reason in last[0]


def test_a_baked_image_is_well_and_baking_it_again_changes_nothing(image: Path) -> None:
    assert attempt([VERIFY, image]).returncode == 1
    done = _bake(image)
    assert done.returncode == 0, done.stderr
    assert "openstack image create debian-13-source-routing" in done.stdout
    assert attempt([VERIFY, image]).stdout.endswith(": well\n")
    before = _digest(image), image.stat().st_mtime_ns
    done = _bake(image)
    assert done.returncode == 0 and "nothing was changed" in done.stdout
    assert (_digest(image), image.stat().st_mtime_ns) == before
    assert sorted(path.name for path in image.parent.iterdir()) == [
        f"{image.name}{suffix}" for suffix in ("", ".manifest.json", ".sha256", ".spdx.json")
    ]
    told = image.with_name(f"{image.name}.sha256").read_text()
    assert told == f"{_digest(image)}  {image.name}\n"


def test_an_output_of_its_own_leaves_the_image_alone(image: Path) -> None:
    before = _digest(image)
    other = image.with_name("baked.qcow2")
    done = _bake(image, "--output", other, "--default-stanza", "true")
    assert done.returncode == 0, done.stderr
    assert _digest(image) == before
    assert attempt([VERIFY, other]).returncode == 0


def test_where_libguestfs_does_not_start_a_loop_mount_is_used_and_told(
    image: Path, tmp_path: Path
) -> None:
    mock = tmp_path / "virt-customize"  # as on a machine without a kernel of its own in /boot
    mock.write_text("#!/bin/sh\necho 'supermin: failed to find a suitable kernel' >&2\nexit 1\n")
    mock.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = attempt([BAKE, "--uncompressed", image], timeout=900, env=environment)
    assert done.returncode == 0, done.stderr
    assert "By a loop mount, since virt-customize does not work here (supermin: " in done.stderr
    assert "only for images that you trust" in done.stderr
    done = attempt([BAKE, "--way", "virt-customize", image], timeout=900, env=environment)
    assert done.returncode == 0 and "nothing was changed" in done.stdout


def test_what_the_image_lacks_is_installed_by_its_own_package_manager(
    plain: Callable[[str], Path], overlay: Callable[[Path], Overlay], scratch: Path
) -> None:
    root = overlay(plain("trixie"))
    root.must("dpkg --purge python3-pyroute2")
    image = scratch / "without-pyroute2.qcow2"
    assert root.host(make_image("$ROOT", str(image))).returncode == 0
    done = _bake(image)
    assert done.returncode == 0, done.stderr
    assert "installing python3-pyroute2" in done.stderr
    assert attempt([VERIFY, image]).stdout.endswith(": well\n")
    image.unlink()


def test_a_file_that_is_not_there_is_told() -> None:
    _refused(_bake(Path("/nonexistent/image.qcow2")), "No such file")


@pytest.mark.parametrize("cut", [0, 10, 200_000])
def test_a_truncated_image_is_refused(image: Path, cut: int) -> None:
    os.truncate(image, cut)
    before = _digest(image)
    done = _bake(image)
    assert done.returncode == 1
    _refused(done, str(image))
    assert _digest(image) == before


def _tree(place: Path, *, machine: int | None = None) -> Path:
    tree = place / "tree"
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "etc/cloud").mkdir(parents=True)
    (tree / "etc/os-release").write_text("ID=other\n")
    program = bytearray(Path("/usr/bin/env").read_bytes())
    if machine is not None:
        (tree / "etc/cloud/cloud.cfg").write_text("cloud_init_modules: [ssh]\n")
        struct.pack_into("<H", program, 18, machine)
    (tree / "usr/bin/env").write_bytes(program)
    (tree / "usr/bin/env").chmod(0o755)
    return tree


@pytest.mark.parametrize("way", ["loop", "virt-customize"])
@pytest.mark.parametrize(
    ("machine", "reason"),
    [(None, "no image with cloud-init"), (183, "is for aarch64"), (243, "is for riscv64")],
)
def test_an_image_of_another_kind_is_refused(
    tmp_path: Path, machine: int | None, reason: str, way: str
) -> None:
    image = tmp_path / "image.qcow2"
    tree = _tree(tmp_path, machine=machine)
    subprocess.run(["sh", "-euc", make_image(str(tree), str(image))], check=True)
    before = _digest(image)
    _refused(_bake(image, way=way), reason)
    assert _digest(image) == before


@pytest.mark.thorough("an image that is refused before anything is installed in it")
def test_an_image_whose_cloud_init_would_not_run_is_refused(image: Path, tmp_path: Path) -> None:
    script = f"""
        qemu-img convert -O raw "{image}" "{image}.raw"
        mkdir "{tmp_path}/mnt"
        mount -o loop,offset={_START * 512} "{image}.raw" "{tmp_path}/mnt"
        touch "{tmp_path}/mnt/etc/cloud/cloud-init.disabled"
        umount "{tmp_path}/mnt"
        qemu-img convert -O qcow2 "{image}.raw" "{image}"
        rm "{image}.raw"
    """
    unshare = ["unshare", "--mount", "--propagation", "private"]
    subprocess.run([*unshare, "sh", "-euc", script], check=True)
    before = _digest(image)
    done = _bake(image)
    _refused(done, f"{image} would not serve: cloud-init is disabled: /etc/cloud/cloud-init.dis")
    assert "baking" not in done.stderr and _digest(image) == before


def test_links_in_an_image_do_not_lead_the_cleaning_to_this_machine(
    plain: Callable[[str], Path], overlay: Callable[[Path], Overlay], scratch: Path
) -> None:
    """What they lead to in the image is cleaned, as the image sees it."""
    here = scratch / "this-machine"
    here.mkdir()
    names = ("ssh/ssh_host_rsa_key", "logs/some.log", "lists/some", "machine-id")
    for name in names:
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_text("this machine's own\n")
    root = overlay(plain("trixie"))
    links = {"etc/ssh": "ssh", "var/log": "logs", "etc/machine-id": "machine-id"}
    spoil = "".join(
        f'rm -rf "$ROOT/{link}"; ln -s "{here}/{target}" "$ROOT/{link}"; '
        for link, target in {**links, "var/lib/apt": ""}.items()
    )
    code = f"""{spoil}
        mkdir -p "$ROOT{here}/ssh"
        echo secret >"$ROOT{here}/ssh/ssh_host_rsa_key"
        cd "{payload.CHECKOUT}/image-build"
        python3 -B -c 'import sys
from pathlib import Path
from imagebuild import clean
clean.clean(Path(sys.argv[1]))' "$ROOT"
        test ! -e "$ROOT{here}/ssh/ssh_host_rsa_key"
    """
    done = root.host(code)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in names:
        assert (here / name).read_text() == "this machine's own\n"


def test_an_image_whose_own_disk_is_full_is_left_as_it_was(image: Path, tmp_path: Path) -> None:
    fill = f"""
        qemu-img convert -O raw "{image}" "{image}.raw"
        mkdir "{tmp_path}/mnt"
        mount -o loop,offset={_START * 512} "{image}.raw" "{tmp_path}/mnt"
        fallocate -l "$(($(stat -f -c '%f*%S' "{tmp_path}/mnt")))" "{tmp_path}/mnt/filler" || :
        dd if=/dev/zero of="{tmp_path}/mnt/rest" bs=4k 2>/dev/null || :
        umount "{tmp_path}/mnt"
        qemu-img convert -O qcow2 "{image}.raw" "{image}"
        rm "{image}.raw"
    """
    unshare = ["unshare", "--mount", "--propagation", "private"]
    subprocess.run([*unshare, "sh", "-euc", fill], check=True)
    before = _digest(image)
    _refused(_bake(image), "No space left")
    assert _digest(image) == before


def test_a_full_disk_here_leaves_the_image_as_it_was(image: Path, tmp_path: Path) -> None:
    before = _digest(image)
    script = f"""
        mount -t tmpfs -o size=50m tmpfs "{tmp_path}"
        "{BAKE}" --way loop "{image}" --output "{tmp_path}/baked.qcow2" && exit 9
        test "$(ls -A "{tmp_path}")" = ""
        exit 1
    """
    unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-uc", script]
    _refused(attempt(unshare), "No space left")
    assert _digest(image) == before


def test_one_that_is_stopped_leaves_the_image_as_it_was(image: Path) -> None:
    before = _digest(image)
    with subprocess.Popen(
        [BAKE, "--way", "loop", image], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if "baking" in line:
                break
        time.sleep(0.5)
        running.send_signal(signal.SIGTERM)
        told = running.communicate(timeout=300)[1]
    assert running.returncode == 130 and "is as it was" in told
    assert _digest(image) == before
    assert [path.name for path in image.parent.iterdir()] == [image.name]
