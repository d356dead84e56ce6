"""Write a root tree to a bootable disk: GPT, GRUB (BIOS), ext4, qcow2.

This needs no loop device, no device mapper and no kernel support for the guest's
file system: mke2fs fills the file system from the tree, and the two parts of the
boot loader go where the GRUB manual ("BIOS installation") puts them: boot.img into
the first sector, core.img into a separate partition.  Root is the last partition,
so that growpart can grow it.
"""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path

from . import cache
from .chroot import run_in
from .command import run
from .errors import BuildError
from .progress import Progress
from .recipe import ROOT_LABEL, SERIAL_CONSOLE

PROGRAMS: Mapping[str, str] = {
    "mke2fs": "e2fsprogs",
    "sfdisk": "fdisk",
    "qemu-img": "qemu-utils",
    "unshare": "util-linux",
}

_SECTOR = 512
_MIB = 1024 * 1024
_CORE_LBA = 2048  # 1 MiB: partition 1, for core.img
_ROOT_LBA = 4096  # 2 MiB: partition 2
_FREE_MIB = 512  # for the first boot, before growpart has run
_LAST_MIB = 1  # the backup GPT

_CORE = "boot/grub/i386-pc/core.img"

# grub-core/boot/i386/pc/boot.S: the location of core.img, and the jump needed with a
# BIOS that passes a wrong drive number; diskboot.S: the first block list, which locates
# the rest of core.img.
_BOOT_KERNEL_SECTOR = 0x5C
_BOOT_DRIVE_CHECK = 0x66
_CORE_BLOCKLIST = _SECTOR - 12

# The modules needed to reach grub.cfg and a kernel; GRUB loads the others from /boot/grub.
_MODULES = (
    "biosdisk part_gpt ext2 normal configfile linux echo test serial terminal search "
    "search_label search_fs_uuid gzio zstd minicmd reboot halt"
).split()

_GRUB_CFG = f"""\
# Written by the image build; `update-grub` in a running server replaces it.
serial --unit=0 --speed=115200
terminal_input console serial
terminal_output console serial
set timeout=0
menuentry 'Debian GNU/Linux' {{
    linux /vmlinuz root=LABEL={ROOT_LABEL} ro console=tty0 console={SERIAL_CONSOLE}
    initrd /initrd.img
}}
"""


def build(root: Path, target: Path, progress: Progress, *, compress: bool = True) -> None:
    """Write `root`, which must have its boot files, to `target` as a bootable qcow2."""
    core = root / _CORE
    if not core.is_file():
        raise BuildError(f"{root} has no boot files: it was built without a kernel")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".disk-") as scratch:
        raw = Path(scratch) / "disk.raw"
        with progress.step("writing the disk with its boot loader"):
            _partition(root, raw)
            _embed(root, raw, core.read_bytes())
        with progress.step("compressing it to qcow2" if compress else "converting it to qcow2"):
            squeeze = ["-c"] if compress else []
            run(
                ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *squeeze, raw, target],
                timeout=900,
            )


def add_boot_files(root: Path) -> None:
    """Make core.img with the image's own GRUB and put its modules beside grub.cfg."""
    modules = root / "usr/lib/grub/i386-pc"
    if not (root / "vmlinuz").is_symlink() or not (modules / "boot.img").exists():
        raise BuildError(f"{root} has no kernel, or no GRUB for BIOS machines (grub-pc)")
    grub = root / "boot/grub"
    cache.discard(grub / "i386-pc")
    grub.mkdir(parents=True, exist_ok=True)
    shutil.copytree(modules, grub / "i386-pc", ignore=shutil.ignore_patterns("*.image", "*.img"))
    (grub / "grub.cfg").write_text(_GRUB_CFG)
    # The drive that booted, its second partition.
    prefix = "(,gpt2)/boot/grub"
    options = ["-O", "i386-pc", "-o", f"/{_CORE}", "-p", prefix]
    run_in(root, ["grub-mkimage", *options, *_MODULES])


def _partition(root: Path, raw: Path) -> None:
    used = int(run(["du", "-s", "-B1", "-x", root], timeout=300).split()[0])
    # Add space for file system structures and for booting.
    root_mib = (used * 11 // 10) // _MIB + _FREE_MIB
    start = _ROOT_LBA * _SECTOR
    with open(raw, "wb") as disk:
        disk.truncate(start + (root_mib + _LAST_MIB) * _MIB)
    options = f"offset={start},root_owner=0:0,lazy_itable_init=1"
    # grub 2.06 cannot read file systems with the first of these features.
    features = "^metadata_csum_seed,^orphan_file"
    run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-L", ROOT_LABEL, "-U", str(uuid.uuid4())]
        + ["-m", "1", "-O", features, "-E", options, "-d", str(root), str(raw)]
        + [f"{root_mib}M"],
        timeout=900,
    )
    table = (
        "label: gpt\n"
        f"start={_CORE_LBA}, size={_ROOT_LBA - _CORE_LBA}, "
        "type=21686148-6449-6E6F-744E-656564454649, name=bios\n"
        f"start={_ROOT_LBA}, size={root_mib * _MIB // _SECTOR}, "
        "type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=root\n"
    )
    run(["sfdisk", "--quiet", "--wipe=never", "--no-reread", "--no-tell-kernel", raw], stdin=table)


def _embed(root: Path, raw: Path, core: bytes) -> None:
    """Install the boot loader as grub-install would on a real disk."""
    room = (_ROOT_LBA - _CORE_LBA) * _SECTOR
    if len(core) > room:
        raise BuildError(f"GRUB's core image has {len(core)} bytes, its partition {room}")
    boot = bytearray((root / "usr/lib/grub/i386-pc/boot.img").read_bytes())
    struct.pack_into("<Q", boot, _BOOT_KERNEL_SECTOR, _CORE_LBA)
    boot[_BOOT_DRIVE_CHECK : _BOOT_DRIVE_CHECK + 2] = b"\x90\x90"
    patched = bytearray(core)
    struct.pack_into("<Q", patched, _CORE_BLOCKLIST, _CORE_LBA + 1)
    descriptor = os.open(raw, os.O_WRONLY)
    try:
        # Only the code; sfdisk has written the sector's partition table.
        os.pwrite(descriptor, bytes(boot[:440]), 0)
        os.pwrite(descriptor, bytes(patched), _CORE_LBA * _SECTOR)
    finally:
        os.close(descriptor)
