"""Runs rendered hooks as root would, in namespaces where nothing of the host can be changed.

/etc is an overlay with the rendered files, /run is empty, and `ip`, `logger`, `systemctl`
and `source-routing` may be recorders.  The namespaces die with the run.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lab import PATIENCE_SECONDS, demand, missing_for_lab

from cc_source_routing.files.write import write_files
from cc_source_routing.model import ConfigFile

UP = "/etc/network/if-up.d/source-routing"
DOWN = "/etc/network/if-post-down.d/source-routing"
DHCLIENT = "/etc/dhcp/dhclient-exit-hooks.d/source-routing"
SHELLS = ("dash", "busybox sh", "bash --posix")
WITH_SYSTEMD = "mkdir -p /run/systemd/system\n"

_MOUNTS = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/overlay/upper /run/overlay/work /run/source-routing
mount --bind {box}/state /run/source-routing
cp -a {root}/etc/. /run/overlay/upper/
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/overlay/upper,workdir=/run/overlay/work /etc
mount --bind {box}/bin /usr/local/bin
# busybox has a logger of its own; the host's journal is not for it.
if [ -S /dev/log ]; then mount --bind /dev/null "$(realpath /dev/log)"; fi
"""

# What the hook leaves in the background inherits the descriptor 7, and `cat` ends when
# nobody has it any more.
_RUN = """
set +e
exec 3>&1
{{
    env -i PATH={path} {words} {command} </dev/null >&3 3>&-
    echo $? >{box}/code
}} 7>&1 >/dev/null | cat
"""

_MOCK_IP = """#!/bin/sh
family=
case " $* " in *" -4 "*) family=4 ;; *" -6 "*) family=6 ;; esac
case "$*" in *-batch*) cat >"{box}/batch$family" ;; esac
echo "ip $*" >>"{box}/calls"
echo 'RTNETLINK answers: File exists' >&2
exit 1
"""

_RECORDER = """#!/bin/sh
echo "{name} $*" >>"{box}/calls"
{more}
"""

_PATH = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # recorders first


class Run(NamedTuple):
    code: int
    out: str
    err: str
    calls: list[str]
    """How the recorders were called, but for those that have a field of their own."""
    ip: list[str]
    """How `ip` was called, by family."""
    log: list[str]
    """Lines to the journal."""
    looks: int
    """How often `source-routing follow` was told to look."""

    @property
    def is_silent(self) -> bool:
        return (self.code, self.out, self.err, self.log) == (0, "", "", [])


def logged(run: Run, shell: str, text: str) -> bool:
    """Whether `text` went to the journal; busybox logs by itself, so there nobody can tell."""
    return shell.startswith("busybox") or any(text in line for line in run.log)


class Sandbox:
    """Rendered files in a root, and recorders in place of what hooks call."""

    def __init__(
        self,
        box: Path,
        files: Iterable[ConfigFile] = (),
        root: Path | None = None,
        enter: Sequence[str] = ("unshare", "--mount", "--net"),
    ):
        """With `files` below a root of its own, or with the tree `root`; `enter` is put before
        the shell that becomes the sandbox."""
        demand(missing_for_lab())
        self.box = box
        self.root = root or box / "root"
        self.enter = tuple(enter)
        self.look = box / "state/look"
        for path in (self.root / "etc", box / "state", box / "bin"):
            path.mkdir(parents=True, exist_ok=True)
        write_files(self.root, files, ())
        for program in ("logger", "source-routing", "systemctl"):
            self.mock(program)

    def listen(self) -> int:
        """Make the pipe of ``source-routing.socket``; returns the end that systemd holds."""
        os.mkfifo(self.look, 0o600)
        return os.open(self.look, os.O_RDWR | os.O_NONBLOCK)

    def mock(self, name: str, more: str = "") -> None:
        """A program of that name that notes how it is called, and then does `more`."""
        self.script(self.box / "bin" / name, _RECORDER.format(name=name, box=self.box, more=more))

    def caller(self, *lines: str) -> str:
        """A script of these lines, in place of a hook."""
        path = self.box / "caller"
        self.script(path, "\n".join(("#!/bin/sh", *lines, "")))
        return str(path)

    def batch(self, family: int) -> list[str]:
        """The lines that the last `ip -batch` of that family was given."""
        path = self.box / f"batch{family}"
        return path.read_text().splitlines() if path.exists() else []

    def hook(self, path: str, shell: str = "dash", prepare: str = "", **env: str) -> Run:
        """Run the hook at `path` once, as `shell PATH`, with a recorder for ip."""
        self.script(self.box / "ip", _MOCK_IP.format(box=self.box))
        mask = f'mount --bind {self.box}/ip "$(realpath "$(command -v ip)")"\n'
        nics = "mount -t sysfs sysfs /sys\nip link add ens3 type bridge\n"
        return self.run(f"{shell} {path}", nics + mask + prepare, env)

    def source(self, path: str, shell: str = "bash", **env: str) -> Run:
        """Source the hook as dhclient-script does; what follows is run after it."""
        return self.hook(self.caller(f". {path}", 'echo "status $?"'), shell, **env)

    def run(self, command: str, prepare: str = "", env: Mapping[str, str] | None = None) -> Run:
        """Run `command` in the sandbox, wait for what it left running, and tell all."""
        (self.box / "calls").write_text("")
        (self.box / "code").unlink(missing_ok=True)
        script = self.box / "script"
        words = " ".join(shlex.quote(f"{key}={value}") for key, value in (env or {}).items())
        script.write_text(
            _MOUNTS.format(box=self.box, root=self.root)
            + prepare
            + _RUN.format(box=self.box, path=_PATH, words=words, command=command)
        )
        done = subprocess.run(
            [*self.enter, "sh", str(script)],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        if not (self.box / "code").exists():
            raise AssertionError(f"the sandbox could not be made: {done.stderr}")
        calls = (self.box / "calls").read_text().splitlines()
        return Run(
            int((self.box / "code").read_text()),
            done.stdout,
            done.stderr,
            [call for call in calls if not call.startswith(("ip ", "logger "))],
            sorted(call[3:] for call in calls if call.startswith("ip ")),
            [call[7:] for call in calls if call.startswith("logger ")],
            self._looks(),
        )

    def _looks(self) -> int:
        try:
            held = os.open(self.look, os.O_RDWR | os.O_NONBLOCK)
        except FileNotFoundError:
            return 0
        try:
            return os.read(held, 1 << 16).count(b"look\n")
        except BlockingIOError:
            return 0
        finally:
            os.close(held)

    @staticmethod
    def script(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)
