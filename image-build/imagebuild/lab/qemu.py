"""Boot a disk image in QEMU: firmware, boot loader, kernel, udev and all.

Hardware acceleration is used if a trial shows that /dev/kvm really runs a guest; else
QEMU's own code generator, about twenty times slower.  Commands reach the guest through
qemu-guest-agent, which the images contain, and so need no network.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import cache
from ..command import Completed, attempt
from ..errors import BuildError
from . import process
from .config_drive import ConfigDrive
from .network import Lab, Port
from .qmp import GuestAgent, Refused, monitor

PROGRAMS: Mapping[str, str] = {"qemu-system-x86_64": "qemu-system-x86", **process.PROGRAMS}

_QEMU = "qemu-system-x86_64"

# 16-bit code: out 0x501, al; hlt.  isa-debug-exit turns the value v into exit code 2v+1.
_PROBE = bytes.fromhex("ba0105 b010 ee f4".replace(" ", "")).ljust(510, b"\0") + b"\x55\xaa"
_PROBE_EXIT = 0x10 * 2 + 1


# The time in which even an emulated machine begins to shut down after it gets the request.
REBOOT_SECONDS = 90.0

_KVM = ("-accel", "kvm", "-cpu", "host", "-smp", "2")
# QEMU 7.2's cx16 makes newer kernels double-fault.  Only one processor: a kernel patches
# its own code as it boots, and another emulated processor may still run the old code (with
# two, a panic in sched_clock_idle_wakeup_event was seen).
_TCG = ("-accel", "tcg", "-cpu", "max,-cx16", "-smp", "1")
_PANIC = "Kernel panic - not syncing"


@functools.cache
def kvm_boots(image: Path) -> bool:
    """Whether hardware acceleration really boots `image` on this machine.

    A device node proves nothing, and some nested hosts run firmware but hang in a kernel.
    So first run one sector of code (which fails at once if the CPU cannot be set up), then
    the image itself until its kernel prints something.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    with tempfile.TemporaryDirectory(prefix="kvm-probe-") as scratch:
        sector, console = Path(scratch) / "sector", Path(scratch) / "console"
        sector.write_bytes(_PROBE)
        common = [_QEMU, *_KVM, "-m", "512", "-display", "none", "-nodefaults", "-no-reboot"]
        leaving = ["-device", "isa-debug-exit,iobase=0x501,iosize=1"]
        drive = ["-drive", f"file={sector},format=raw,if=ide,snapshot=on"]
        try:
            if attempt([*common, *leaving, *drive], timeout=10).returncode != _PROBE_EXIT:
                return False
        except BuildError:
            return False
        drive = ["-drive", f"file={image},format=qcow2,if=virtio,snapshot=on"]
        machine = process.start([*common, *drive, "-serial", f"file:{console}"])
        try:
            until = time.monotonic() + 20
            while time.monotonic() < until and machine.poll() is None:
                if console.exists() and b"Linux version" in console.read_bytes():
                    return True
                time.sleep(0.2)
        finally:
            machine.kill()
            machine.wait()
    return False


class VirtualGuest:
    """A disk image, booted in a lab; the image itself is not changed."""

    def __init__(self, lab: Lab, image: Path, drive: ConfigDrive, scratch: Path):
        self.drive = drive
        self._lab = lab
        self._image = image
        self._scratch = scratch
        self._log = scratch / "console.log"
        self._process: subprocess.Popen[bytes] | None = None
        # Unix socket paths are limited to 108 bytes; one in the cache may be longer.
        self._sockets = tempfile.TemporaryDirectory(prefix="guest-")
        self._agent = GuestAgent(Path(self._sockets.name) / "agent")
        self._monitor = Path(self._sockets.name) / "monitor"

    @property
    def patience(self) -> float:
        # An emulated kernel and its services take about twenty times longer, and more if
        # other tests use the same cores.
        return 1.0 if kvm_boots(self._image) else 12.0

    def start(self) -> None:
        """Power on, from the image as it was built."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        iso = self._scratch / "config-drive.iso"
        self.drive.write_iso(iso, self._scratch)
        home = self._lab.plug_taps()
        argv = [*home.prefix(), _QEMU, *self._options(iso)]
        # snapshot=on keeps the guest's writes in TMPDIR.
        environment = {**os.environ, "TMPDIR": str(self._scratch)}
        self._process = process.start(argv, log=self._log, env=environment)

    def _options(self, iso: Path) -> list[str]:
        options = list(_KVM if kvm_boots(self._image) else _TCG)
        options += ["-machine", "pc", "-m", "1024", "-nodefaults", "-no-user-config"]
        options += ["-display", "none", "-monitor", "none", "-vga", "none"]
        options += ["-qmp", f"unix:{self._monitor},server=on,wait=off"]
        options += ["-chardev", f"file,id=console,path={self._log},append=on"]
        options += ["-serial", "chardev:console"]
        disk = f"file={self._image},if=none,id=disk,format=qcow2,snapshot=on,cache=unsafe"
        options += ["-drive", disk, "-device", "virtio-blk-pci,drive=disk,addr=0x10,bootindex=1"]
        cdrom = f"file={iso},if=none,id=config,format=raw,readonly=on"
        options += ["-drive", cdrom, "-device", "virtio-blk-pci,drive=config,addr=0x11"]
        options += ["-object", "rng-random,id=rng,filename=/dev/urandom"]
        options += ["-device", "virtio-rng-pci,rng=rng,addr=0x12"]
        options += ["-chardev", f"socket,id=agent,path={self._agent.path},server=on,wait=off"]
        options += ["-device", "virtio-serial-pci,addr=0x13"]
        options += ["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]
        for number, port in enumerate(self._lab.ports):
            tap = f"tap,id=nic{number},ifname={port.tap},script=no,downscript=no"
            # The slots that Nova uses for NICs, so that udev names them ens3, ens4, ...
            # No boot ROM: nothing boots from the network, and the ROM may not be installed.
            card = f"netdev=nic{number},mac={port.mac},addr={3 + number:#x},romfile="
            options += ["-netdev", tap, "-device", f"virtio-net-pci,{card}"]
        return options

    def run(self, argv: Sequence[str], *, timeout: float = 60) -> Completed:
        return self._agent.execute(argv, timeout=timeout * self.patience)

    def responds(self) -> bool:
        return self._agent.ping()

    def alive(self) -> bool:
        running = self._process is not None and self._process.poll() is None
        # After a kernel panic the machine runs forever without any more output.
        return running and _PANIC not in self.console()

    def reboot(self) -> None:
        before = self._boot_id()
        if not before:
            raise BuildError("the machine does not tell which boot this is")
        refused, asked = "", float("-inf")
        until = time.monotonic() + 60 * self.patience
        boot_id = before
        while time.monotonic() < until:
            # Only a machine that still reports the old boot ID has not received the request.
            if boot_id == before and time.monotonic() > asked + REBOOT_SECONDS:
                # A clean restart; the agent may be gone before it can answer.
                with contextlib.suppress(BuildError):
                    done = self.run(["systemctl", "--no-block", "reboot"], timeout=10)
                    refused = f"{done.stdout}{done.stderr}" if done.returncode else ""
                asked = time.monotonic()
            if not self.alive():
                raise BuildError(f"the machine ended instead of rebooting:\n{self.console()}")
            boot_id = ""
            with contextlib.suppress(BuildError):
                boot_id = self._boot_id() if self._agent.ping() else ""
            if boot_id not in ("", before):
                return
            time.sleep(2)
        raise BuildError(
            f"the machine did not come back from its reboot: {refused}\n{self.console()}"
        )

    def _boot_id(self) -> str:
        # Empty if the command is killed together with the services of a boot that ends.
        # The timeout is short, since an answer lost in a restart never comes.
        done = self.run(["cat", "/proc/sys/kernel/random/boot_id"], timeout=2)
        return done.stdout.strip() if done.returncode == 0 else ""

    def plug(self, port: Port, slot: int) -> None:
        """Plug another NIC into the running machine, as Nova does for a new port."""
        self._lab.plug_tap(port)
        tap = {"type": "tap", "id": port.name, "ifname": port.tap}
        card = {"driver": "virtio-net-pci", "id": f"card-{port.name}", "netdev": port.name}
        with monitor(self._monitor) as ask:
            ask("netdev_add", {**tap, "script": "no", "downscript": "no"})
            ask("device_add", {**card, "mac": port.mac, "addr": hex(slot), "romfile": ""})

    def pull(self, port: Port) -> None:
        """Unplug it; the guest has to release it."""
        with monitor(self._monitor) as ask:
            ask("device_del", {"id": f"card-{port.name}"})
            until = time.monotonic() + 60 * self.patience
            while True:
                try:
                    # Succeeds as long as the card exists.
                    ask("qom-list", {"path": f"/machine/peripheral/card-{port.name}"})
                except Refused:
                    break
                if time.monotonic() > until:
                    raise BuildError(f"the guest does not let {port.name} go")
                time.sleep(0.2)
            ask("netdev_del", {"id": port.name})
        self._lab.pull(port)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._lab.unplug()
        self._sockets.cleanup()
        cache.discard(self._scratch)

    def console(self) -> str:
        return process.end_of(self._log)
