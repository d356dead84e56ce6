"""Images with more than one partition: mounted as their fstab says, or refused with the cause."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from imagebuild import payload
from imagebuild.command import Completed, attempt

from .overlay import Overlay

pytestmark = pytest.mark.daemon

IMAGE_BUILD = payload.CHECKOUT / "image-build"
MIB = 1 << 20
UUIDS = {name: f"00000000-0000-4000-8000-{number:012d}" for number, name in enumerate("ruvb")}

# What the command `verify` does before it judges, with what shall be looked at in argv[2].
LOOK = """
import subprocess, sys
from pathlib import Path
from imagebuild import diskfile, verify
from imagebuild.errors import BuildError
diskfile.private_mounts()
try:
    with verify.look_into(Path(sys.argv[1])) as root:
        subprocess.run(["sh", "-euc", sys.argv[2]], cwd=root, check=True)
except BuildError as error:
    sys.exit(str(error))
"""


def look(image: Path, script: str) -> Completed:
    code = f"import sys; sys.path.insert(0, {str(IMAGE_BUILD)!r}){LOOK}"
    return attempt([sys.executable, "-B", "-c", code, image, script])


def write(place: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        target = place / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return place


def disk(image: Path, *trees: tuple[str, Path, int]) -> Path:
    """A raw disk with a partition for each (letter, tree, MiB), in this order."""
    table, start = "label: gpt\n", 1
    with open(image, "wb") as content:
        content.truncate((sum(size for _letter, _tree, size in trees) + 2) * MIB)
    for letter, tree, size in trees:
        argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-U", UUIDS[letter], "-L", f"label-{letter}"]
        argv += ["-d", str(tree), "-E", f"offset={start * MIB}", str(image), f"{size}M"]
        subprocess.run(argv, check=True, capture_output=True)
        table += f"start={start * 2048}, size={size * 2048}, uuid={UUIDS[letter]}, name={letter}\n"
        start += size
    argv = ["sfdisk", "--quiet", "--wipe=never", "--no-reread", "--no-tell-kernel", str(image)]
    subprocess.run(argv, input=table, text=True, check=True)
    return image


def test_each_part_is_where_the_image_has_it_when_it_runs(tmp_path: Path) -> None:
    fstab = (
        "# <file system>\nLABEL=label-r / ext4 defaults 0 1\n"
        f"PARTUUID={UUIDS['b']} /boot ext4 defaults 0 2 # small\n"
        f"/dev/vda3 /var ext4 defaults 0 2\nUUID={UUIDS['u']} /usr ext4 ro 0 2\n"
        "/dev/mapper/vg-home /home ext4 defaults 0 2\nUUID=1-2 none swap sw 0 0\n"
    )
    root = write(tmp_path / "r", {"etc/fstab": fstab})
    for name in ("usr", "var", "boot", "home"):
        (root / name).mkdir()
    image = disk(
        tmp_path / "image.raw",
        ("r", root, 8),
        ("u", write(tmp_path / "u", {"lib/os-release": "ID=x\n", "bin/true": ""}), 8),
        ("v", write(tmp_path / "v", {"lib/dpkg/status": ""}), 40),
        ("b", write(tmp_path / "b", {"grub/grub.cfg": "linux /vmlinuz\n"}), 8),
    )
    before = image.read_bytes()
    told = "cat usr/lib/os-release boot/grub/grub.cfg; ls var/lib"
    done = look(image, f"{told}; echo changed >usr/lib/os-release; rm -r var/lib/dpkg boot/grub")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["ID=x", "linux /vmlinuz", "dpkg"]
    assert image.read_bytes() == before


def test_programs_that_run_in_it_see_all_of_it(
    plain: Callable[[str], Path], overlay: Callable[[Path], Overlay]
) -> None:
    """They run in a mount of its own."""
    done = overlay(plain("trixie")).host(f"""
        mount -t tmpfs tmpfs "$ROOT/srv"
        touch "$ROOT/srv/of-another-file-system"
        cd "{IMAGE_BUILD}"
        exec python3 -B -c 'import sys
from pathlib import Path
from imagebuild import chroot
print(chroot.run_in(Path(sys.argv[1]), ["ls", "/srv"]), end="")' "$ROOT"
    """)
    assert (done.stdout, done.stderr) == ("of-another-file-system\n", "")


ROOT = {"usr/lib/os-release": "ID=x\n", "etc/hostname": "x\n", "var/lib/x": ""}
REFUSED: dict[str, tuple[dict[str, str], list[str], str]] = {
    "LVM": (
        {**ROOT, "etc/fstab": "/dev/mapper/vg-var /var xfs defaults 0 2\n"},
        [],
        "its fstab has /var on /dev/mapper/vg-var, which cannot be mounted here",
    ),
    "another disk": (
        {**ROOT, "etc/fstab": "/dev/vdb1 /usr ext4 defaults 0 2\n"},
        [],
        "its fstab has /usr on /dev/vdb1, which cannot be mounted here",
    ),
    "a directory that is not there": (
        {**ROOT, "etc/fstab": f"UUID={UUIDS['v']} /var/lib/cloud ext4 defaults 0 2\n"},
        [],
        "its fstab has /var/lib/cloud, where its root has no directory",
    ),
    "no fstab": (
        {"etc/os-release": "ID=x\n", "usr/lib/x": ""},
        ["var"],
        "its /var is empty: it is on another file system, which its fstab does not name",
    ),
    "/etc by itself": (
        {"usr/lib/os-release": "ID=x\n", "var/lib/x": ""},
        ["etc"],
        "its /etc is empty",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_mounted_is_refused_with_the_cause(tmp_path: Path, case: str) -> None:
    files, empty, reason = REFUSED[case]
    root = write(tmp_path / "r", files)
    for name in empty:
        (root / name).mkdir()
    image = disk(tmp_path / "image.raw", ("r", root, 8), ("v", write(tmp_path / "v", {"x": ""}), 8))
    for argv in ([IMAGE_BUILD / "verify"], [IMAGE_BUILD / "bake", "--way", "loop"]):
        done = attempt([*argv, image])
        assert done.returncode == 1
        assert reason in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_a_link_in_the_image_leads_no_mount_to_this_machine(tmp_path: Path) -> None:
    here = write(tmp_path / "here", {"own": "this machine's\n"})
    files = {**ROOT, "etc/fstab": f"UUID={UUIDS['b']} /srv/data ext4 defaults 0 2\n"}
    root = write(tmp_path / "r", files)
    (root / "srv").symlink_to(here)
    (here / "data").mkdir()
    image = disk(tmp_path / "image.raw", ("r", root, 8), ("b", write(tmp_path / "b", {"x": ""}), 8))
    done = look(image, f"ls '{here}/data'")
    assert (done.returncode, done.stdout) == (0, "")


def test_a_disk_with_sectors_of_4096_bytes_is_told_as_such(tmp_path: Path) -> None:
    image = tmp_path / "image.raw"
    image.write_bytes((bytes(4096) + b"EFI PART").ljust(2 * MIB, b"\0"))
    done = attempt([IMAGE_BUILD / "verify", image])
    assert done.returncode == 1
    assert "is for disks with sectors of 4096 bytes" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.thorough("an image with /usr and /var on partitions of their own, baked whole")
def test_a_debian_with_usr_and_var_on_partitions_of_their_own_is_baked(
    plain: Callable[[str], Path], overlay: Callable[[Path], Overlay], scratch: Path
) -> None:
    root = overlay(plain("trixie"))
    root.write("etc/fstab", f"UUID={UUIDS['u']} /usr ext4 ro 0 2\nUUID={UUIDS['v']} /var ext4 rw\n")
    image, sizes = scratch / "parts.raw", {"r": 256, "u": 1200, "v": 512}
    script, start = f'truncate -s {sum(sizes.values()) + 2}M "{image}"\n', 1
    table = "label: gpt\n"
    for letter in ("u", "v", "r"):  # what has its image already is hidden from the next
        tree = {"u": "usr", "v": "var", "r": ""}[letter]
        script += (
            f'mke2fs -q -F -t ext4 -U {UUIDS[letter]} -d "$ROOT/{tree}" -E offset={start * MIB} '
            f'"{image}" {sizes[letter]}M 2>/dev/null\n'
        )
        script += f'mount -t tmpfs tmpfs "$ROOT/{tree}"\n' if tree else ""
        table += f"start={start * 2048}, size={sizes[letter] * 2048}\n"
        start += sizes[letter]
    done = root.host(script)
    assert done.returncode == 0, done.stderr
    argv = ["sfdisk", "--quiet", "--wipe=never", "--no-reread", "--no-tell-kernel", str(image)]
    subprocess.run(argv, input=table, text=True, check=True)
    done = attempt([IMAGE_BUILD / "bake", "--way", "loop", image], timeout=900)
    assert done.returncode == 0, done.stderr
    assert attempt([IMAGE_BUILD / "verify", image]).stdout.endswith(": well\n")
    done = look(image, "ls usr/bin/source-routing var/lib/dpkg etc/cloud/cloud.cfg.d")
    assert done.returncode == 0 and "95_source_routing.cfg" in done.stdout
    image.unlink()
