"""Which partition of an image its fstab means, and what of it baking cannot do without."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "image-build"))

from imagebuild import partitions  # noqa: E402
from imagebuild.partitions import Entry, Partition  # noqa: E402

VAR = {
    "UUID": "0a1b-2c3d",
    "LABEL": "data",
    "PARTUUID": "5e6f0001-02",
    "PARTLABEL": "var",
}
THERE = [Partition(1 << 20, 1 << 20, 1, "ext4"), Partition(2 << 20, 1 << 20, 2, "ext4", VAR)]


@pytest.mark.parametrize(
    "device",
    [
        "UUID=0a1b-2c3d",
        "UUID=0A1B-2C3D",
        "LABEL=data",
        "PARTUUID=5e6f0001-02",
        "PARTLABEL=var",
        "/dev/disk/by-uuid/0a1b-2c3d",
        "/dev/disk/by-label/data",
        "/dev/vda2",
        "/dev/sda2",
        "/dev/xvda2",
        "/dev/nvme0n1p2",
    ],
)
def test_whatever_fstab_calls_it(device: str) -> None:
    assert partitions.meant(device, THERE) == THERE[1]


@pytest.mark.parametrize(
    "device",
    [
        "UUID=",
        "LABEL=DATA",
        "LABEL=var",
        "/dev/vdb2",
        "/dev/vda3",
        "/dev/mapper/vg-var",
        "/dev/vda",
    ],
)
def test_what_is_not_of_this_disk_is_none_of_it(device: str) -> None:
    assert partitions.meant(device, THERE) is None


def fstab(tmp_path: Path, text: str) -> list[Entry]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/fstab").write_text(text)
    return partitions.fstab(tmp_path)


def test_outer_places_come_first_and_only_what_is_mounted_at_boot(tmp_path: Path) -> None:
    text = """\
# /etc/fstab: static file system information.
UUID=1 / ext4 defaults 0 1
UUID=2 /var/lib ext4 defaults 0 2  # inner
UUID="3" /var btrfs rw,subvol=@var,compress=zstd 0 0
/dev/vdb1 /mnt auto defaults,noauto 0 0
UUID=4 none swap sw 0 0
tmpfs /tmp tmpfs size=1g 0 0
server:/export /srv nfs defaults 0 0
UUID=5 /srv/../../etc ext4 defaults 0 0
UUID=6
"""
    assert fstab(tmp_path, text) == [
        Entry("UUID=3", "/var", "@var"),
        Entry("UUID=2", "/var/lib", ""),
    ]


def test_a_link_leads_to_no_fstab_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "etc").symlink_to("/etc")
    assert partitions.fstab(tmp_path) == []


@pytest.mark.parametrize(
    "place", ["/usr", "/etc", "/var", "/var/lib", "/var/lib/cloud", "/usr/lib"]
)
def test_without_these_an_image_is_not_baked_whole(place: str) -> None:
    assert Entry("UUID=1", place, "").needed


@pytest.mark.parametrize(
    "place", ["/home", "/boot", "/boot/efi", "/usr/local", "/var/log", "/var/lib/x"]
)
def test_without_these_it_is(place: str) -> None:
    assert not Entry("UUID=1", place, "").needed
