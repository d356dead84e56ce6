"""What operators expect of an image that many servers are copies of."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.boot

NOT_THERE = (
    "etc/ssh/ssh_host_*",
    "var/lib/apt/lists/*",
    "var/cache/apt/archives/*.deb",
    "var/lib/cloud/*",
    "var/log/cloud-init*",
    "var/log/*.log",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "var/lib/systemd/random-seed",
    "root/.bash_history",
    "etc/source-routing",
)


@pytest.mark.parametrize("pattern", NOT_THERE)
def test_nothing_of_one_machine_is_left_in_it(bookworm: Path, pattern: str) -> None:
    assert list(bookworm.glob(pattern)) == []


def test_the_machine_id_is_empty_but_there(bookworm: Path) -> None:
    assert (bookworm / "etc/machine-id").read_text() == ""


def test_it_knows_nothing_of_the_machine_that_built_it(bookworm: Path) -> None:
    assert (bookworm / "etc/hostname").read_text() == "debian\n"
    assert (bookworm / "etc/resolv.conf").read_text() == ""
    assert socket.gethostname() not in (bookworm / "etc/hosts").read_text().split()


def test_the_disk_has_its_root_last_so_that_it_can_grow(
    bookworm_disk: Path, tmp_path: Path
) -> None:
    raw = tmp_path / "disk.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", bookworm_disk, raw], check=True)
    told = subprocess.run(["sfdisk", "--json", raw], check=True, capture_output=True)
    table = json.loads(told.stdout)["partitiontable"]
    assert table["label"] == "gpt"
    assert [partition["name"] for partition in table["partitions"]] == ["bios", "root"]
    assert table["partitions"][1]["start"] > table["partitions"][0]["start"]
