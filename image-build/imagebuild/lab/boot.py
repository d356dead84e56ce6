"""Boot an image in a lab: a root tree or a disk."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from .config_drive import ConfigDrive
from .guest import Guest, running
from .network import Lab
from .nspawn import ContainerGuest
from .qemu import VirtualGuest


@contextlib.contextmanager
def booted(lab: Lab, image: Path, drive: ConfigDrive, scratch: Path) -> Iterator[Guest]:
    """Boot a root tree as a container or a disk image as a virtual machine; stop it at the end."""
    guest: Guest
    if image.is_dir():
        guest = ContainerGuest(lab, [image], drive, scratch)
    else:
        guest = VirtualGuest(lab, image, drive, scratch)
    with running(guest):
        yield guest
