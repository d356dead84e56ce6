"""Images that name files of the builder's machine: refused by name before anybody opens those.

`qemu-img convert` reads an external data file, and what a VMDK has for its extents, as
whoever runs it, and copies it into the output (CVE-2024-32498, CVE-2022-47951).
"""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest
from imagebuild import diskfile, payload
from imagebuild.command import attempt
from imagebuild.errors import BuildError

pytestmark = pytest.mark.daemon

BAKE = payload.CHECKOUT / "image-build/bake"
VERIFY = payload.CHECKOUT / "image-build/verify"
SIZE = 4 << 20
SECRET = b"root:$y$of the builder\n" * 1000


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the builder's that the image's maker wants to have."""
    place = tmp_path / "shadow"
    place.write_bytes(SECRET.ljust(SIZE, b"\0"))
    return place


def create(image: Path, *options: str) -> Path:
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", *options, str(image), str(SIZE)]
    subprocess.run(argv, check=True)
    return image


def with_data_file(secret: Path) -> Path:
    image = secret.with_name("data-file.qcow2")
    content = secret.read_bytes()
    create(image, "-o", f"data_file={secret},data_file_raw=on")
    secret.write_bytes(content)  # creating it has emptied the other one
    return image


def with_backing_file(secret: Path) -> Path:
    image = secret.with_name("backing.qcow2")
    return create(image, "-b", str(secret), "-F", "raw")


def flat_vmdk(secret: Path) -> Path:
    image = secret.with_name("flat.vmdk")
    image.write_text(
        "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n"
        f'createType="monolithicFlat"\nRW {SIZE // 512} FLAT "{secret}" 0\n'
        'ddb.adapterType = "ide"\nddb.geometry.cylinders = "8"\nddb.geometry.heads = "16"\n'
        'ddb.geometry.sectors = "63"\n'
    )
    return image


ATTACKS = pytest.mark.parametrize(
    ("make", "reason"),
    [
        (with_data_file, "has its data in another file"),
        (with_backing_file, "needs another file, "),
        (flat_vmdk, "is a VMDK, which may name other files"),
    ],
)


@ATTACKS
def test_it_would_hand_over_the_builders_file(make, reason: str, secret: Path) -> None:
    """The attack itself works: so it is what is refused, and not something else."""
    image, stolen = make(secret), secret.with_name("stolen")
    subprocess.run(["qemu-img", "convert", "-O", "raw", image, stolen], check=True)
    assert SECRET in stolen.read_bytes()


@ATTACKS
@pytest.mark.parametrize("name", ["evil", "evil.raw", "evil.qcow2", "json:evil"])
def test_it_is_refused_whatever_it_is_called(make, reason: str, secret: Path, name: str) -> None:
    image = make(secret).rename(secret.with_name(name))
    output = secret.with_name("output.qcow2")
    for argv in ([BAKE, image, "--output", output], [VERIFY, image]):
        done = attempt(argv, timeout=120)
        assert done.returncode == 1, done.stdout + done.stderr
        assert f"{image} {reason}" in done.stderr
    assert not output.exists()
    assert not [path for path in secret.parent.iterdir() if path.name.startswith(".bake-")]


@ATTACKS
def test_nobody_opens_what_it_names(make, reason: str, secret: Path) -> None:
    """Opening alone may tell somebody (a network address), or hang, as it would here."""
    image = make(secret)
    secret.unlink()
    os.mkfifo(secret)
    with pytest.raises(BuildError, match=reason):
        diskfile.inspect(image)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda head: head[:60], "is cut off"),
        (lambda head: head[:4] + struct.pack(">I", 1) + head[8:], "is qcow1, not qcow2"),
        (lambda head: head[:32] + struct.pack(">I", 2) + head[36:], "is encrypted"),
        (lambda head: b"KDMV" + head[4:], "is a VMDK"),
        (lambda head: b"vhdxfile" + head[8:], "is a VHDX"),
        (lambda head: bytes(64) + b"\x7f\x10\xda\xbe" + head[68:], "is a VDI"),
    ],
)
def test_other_formats_are_refused_by_name(tmp_path: Path, change, reason: str) -> None:
    image = create(tmp_path / "image")
    image.write_bytes(change(image.read_bytes()))
    with pytest.raises(BuildError, match=reason):
        diskfile.inspect(image)


def test_raw_and_whole_qcow2_are_taken_for_what_they_are(tmp_path: Path, secret: Path) -> None:
    assert diskfile.inspect(create(tmp_path / "a:b")) == ("qcow2", SIZE)
    assert diskfile.inspect(secret) == ("raw", SIZE)
