"""Boot a root tree as a container: real systemd and cloud-init in seconds.

This needs no service of the host: systemd-nspawn runs unregistered in its own mount
namespace, with its own /run and cgroup.  So it works on machines with another init,
and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import cache
from ..chroot import ENVIRONMENT
from ..command import Completed, attempt
from ..errors import BuildError
from . import process
from .config_drive import ConfigDrive
from .network import Lab, Namespace

PROGRAMS: Mapping[str, str] = {
    "systemd-nspawn": "systemd-container",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    **process.PROGRAMS,
}

# The directory in which cloud-init finds the ConfigDrive of a guest without a CD-ROM.
SEED = "/var/lib/cloud/seed/config_drive"

# nspawn's exit code under --keep-unit when the container requests a reboot.
_REBOOT = 133

# $1 is the cgroup name, $2 lower, $3 scratch; the rest are nspawn's arguments.  The overlay
# is mounted here too, so that only the container's own namespace has it.
_LAUNCH = """
set -eu
cgroup=$1 lower=$2 scratch=$3
shift 3
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p "/sys/fs/cgroup/$cgroup"
echo $$ >"/sys/fs/cgroup/$cgroup/cgroup.procs"
mount -t overlay overlay \
    -o "lowerdir=$lower,upperdir=$scratch/upper,workdir=$scratch/work" "$scratch/root"
exec systemd-nspawn "$@"
"""

# veths have no permanent MAC, by which cloud-init's netplan files and networkd's .link
# files match.  Only used in a lab: see ContainerGuest.
_MAC_MATCH = """
[Service]
ExecStartPre=+/bin/sh -c 'sed -i s/^PermanentMACAddress=/MACAddress=/ \
    /run/systemd/network/*.network /run/systemd/network/*.link 2>/dev/null; true'
"""


class ContainerGuest:
    """A root tree, booted by systemd-nspawn in a lab; the tree itself is not changed."""

    patience = 1.0

    def __init__(self, lab: Lab, lowers: Sequence[Path], drive: ConfigDrive, scratch: Path):
        self._lab = lab
        self._scratch = scratch
        self._lower = ":".join(str(path) for path in lowers)
        self._cgroup = f"source-routing-lab-{uuid.uuid4().hex[:8]}"
        self._log = scratch / "console.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._leader: int | None = None
        self.network: Namespace | None = None
        for name in ("upper", "work", "root"):
            (scratch / name).mkdir(parents=True, exist_ok=True)
        (scratch / "upper").chmod(0o755)  # it becomes the container's /
        self._insert(drive)
        # The image's disk does not exist here, which systemd would report as a failure.
        (scratch / "upper/etc").mkdir()
        (scratch / "upper/etc/fstab").write_text("")
        unit = scratch / "upper/etc/systemd/system/systemd-networkd.service.d"
        unit.mkdir(parents=True)
        (unit / "50-lab-has-no-permanent-mac.conf").write_text(_MAC_MATCH)

    def _insert(self, drive: ConfigDrive) -> None:
        self.drive = drive
        drive.write_tree(self._scratch / "upper" / SEED.lstrip("/"))

    def start(self) -> None:
        """Power on, with new NICs and the current disk."""
        self.network = self._lab.plug_container()
        argv = ["unshare", "--mount", "--propagation", "private"]
        argv += ["sh", "-c", _LAUNCH, "launch", self._cgroup, self._lower, str(self._scratch)]
        argv += [
            "--boot",
            "--quiet",
            f"--directory={self._scratch}/root",
            "--machine=lab",
            "--register=no",
            "--keep-unit",
            "--console=pipe",
            "--link-journal=no",
            "--resolv-conf=off",
            "--timezone=off",
            "--capability=CAP_NET_ADMIN",
            # As Nova does for its containers, which have no DMI.
            "--setenv=product_name=OpenStack Nova",
            f"--network-namespace-path={self.network.path}",
        ]
        # Without this the container's /sys shows the host's NICs.
        environment = {**os.environ, "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"}
        self._process = process.start(argv, log=self._log, env=environment)

    def run(self, argv: Sequence[str], *, timeout: float = 60) -> Completed:
        leader = self._find_leader()
        if leader is None:
            raise BuildError("the container has no init process yet")
        inside = ["nsenter", f"--target={leader}", "--mount", "--uts", "--ipc", "--pid", "--net"]
        return attempt([*inside, "--", *argv], timeout=timeout, env=ENVIRONMENT)

    def responds(self) -> bool:
        if self._find_leader() is None:
            return False
        with contextlib.suppress(BuildError):
            return self.run(["test", "-d", "/run/systemd/system"]).returncode == 0
        return False

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def reboot(self, drive: ConfigDrive | None = None) -> None:
        """Reboot; with another `drive` as another server, made from a snapshot of this one."""
        if self._process is None:
            raise BuildError("the container is not running")
        asked = self.run(["systemctl", "reboot"])
        if asked.returncode != 0:
            raise BuildError(f"systemctl reboot in the container: {asked.stderr.strip()}")
        try:
            code = self._process.wait(timeout=300)
        except subprocess.TimeoutExpired as error:
            raise BuildError("the container did not go down within 300 s") from error
        if code != _REBOOT:
            raise BuildError(f"the container ended with {code} instead of rebooting")
        self._power_off()
        if drive is not None:
            self._lab.ports = tuple(drive.ports)
            self._insert(drive)
        self.start()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        self._power_off()
        cache.discard(self._scratch)

    def _power_off(self) -> None:
        self._end_cgroup()
        self._process = self._leader = None
        if self.network is not None:
            # The NICs' state does not survive a power cycle.
            self._lab.unplug()
            self.network.close()
            self.network = None

    def _end_cgroup(self) -> None:
        """Wait for the last process to end, kill it if necessary, and remove the cgroup."""
        script = """
            set -u
            mount -t cgroup2 cgroup2 /sys/fs/cgroup
            cd "/sys/fs/cgroup/$1" 2>/dev/null || exit 0
            echo 1 >cgroup.kill
            cd /
            i=0
            while [ "$i" -lt 50 ]; do
                find "/sys/fs/cgroup/$1" -depth -type d -exec rmdir {} + 2>/dev/null && exit 0
                i=$((i + 1))
                sleep 0.1
            done
            exit 1
        """
        unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "end"]
        attempt([*unshare, self._cgroup], timeout=30)

    def console(self) -> str:
        return process.end_of(self._log)

    def _find_leader(self) -> int | None:
        """The host's process ID of the container's PID 1."""
        if self._leader is not None and os.path.exists(f"/proc/{self._leader}"):
            return self._leader
        self._leader = None
        if self._process is not None:
            for pid in _descendants(self._process.pid):
                if _is_init(pid):
                    self._leader = pid
        return self._leader


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
        for child in map(int, text.split()):
            found += [child, *_descendants(child)]
    return found


def _is_init(pid: int) -> bool:
    """Whether `pid` is PID 1 of a PID namespace and has executed the real init."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
        numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
        return len(numbers) > 2 and numbers[-1] == "1" and "Name:\tsystemd\n" in status
    return False
