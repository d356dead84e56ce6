"""Runs rendered hooks as root would, in namespaces where nothing of the host can be changed.

/etc is an overlay with the rendered files, /run is empty, and `ip`, `logger`
and `source-routing` may be recorders.  The namespaces die with the run.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lab import demand, missing_for_lab

from cc_source_routing.files.write import write_files
from cc_source_routing.model import ConfigFile

UP = "/etc/network/if-up.d/source-routing"
DOWN = "/etc/network/if-post-down.d/source-routing"
DHCLIENT = "/etc/dhcp/dhclient-exit-hooks.d/source-routing"
SHELLS = ("dash", "busybox sh", "bash --posix")

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

_MOCK_IP = """#!/bin/sh
family=
case " $* " in *" -4 "*) family=4 ;; *" -6 "*) family=6 ;; esac
case "$*" in *-batch*) cat >"{box}/batch$family" ;; esac
echo "ip $*" >>"{box}/calls"
if [ -f "{box}/meanwhile" ]; then . "{box}/meanwhile"; fi
if [ -f "{box}/answer$family" ]; then cat "{box}/answer$family"; fi
if [ -f "{box}/complaint$family" ]; then cat "{box}/complaint$family" >&2; exit 1; fi
"""

_RECORDER = """#!/bin/sh
echo "{name} $*" >>"{box}/calls"
{more}
"""

_PATH = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # recorders first

# Until what the hook left in the background is done: pending work is noted
# before the hook returns, and who does it holds the lock.
_SETTLE = """
tries=0
while ls /run/source-routing/pending.* >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ "$tries" -gt 2400 ]; then echo "still pending" >&2; break; fi
    sleep 0.05
done
if [ -e /run/source-routing/hook.lock ]; then flock -w 120 /run/source-routing/hook.lock true; fi
"""


class Run(NamedTuple):
    code: int
    out: str
    err: str
    ip: list[str]
    """How `ip` was called."""
    applies: list[str]
    """How `source-routing` was called, without the `--again` of all that hooks ask for."""
    log: list[str]
    """Lines to the journal."""


def until_up(link: str) -> str:
    """Lines for `Sandbox.run` that wait until the kernel says that a link is up: a moment later."""
    return f'until [ "$(cat /sys/class/net/{link}/operstate)" = up ]; do :; done\n'


def _without_again(call: str) -> str:
    # An event that was under way must not bring back what `remove` took away.
    assert call.startswith("apply --again"), call
    return call.replace(" --again", "", 1)


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
        for path in (self.root / "etc", box / "state", box / "bin"):
            path.mkdir(parents=True, exist_ok=True)
        write_files(self.root, files, ())
        self.mock("logger")
        self.mock("source-routing", "echo 'applied 3 operations'")
        self.answer(4, "")
        self.answer(6, "")

    def mock(self, name: str, more: str = "") -> None:
        """A program of that name that notes how it is called, and then does `more`."""
        self._script(self.box / "bin" / name, _RECORDER.format(name=name, box=self.box, more=more))

    def stand_in(self, program: str, script: str) -> str:
        """The line for `run` that puts `script` over one of the machine's own programs."""
        self._script(self.box / program, script)
        return f'mount --bind {self.box}/{program} "$(realpath "$(command -v {program})")"\n'

    def answer(self, family: int | str, printed: str, complaint: str = "") -> None:
        """What the `ip` of one family (or of none) prints, and what it complains of if it fails."""
        (self.box / f"answer{family}").write_text(printed)
        (self.box / f"complaint{family}").unlink(missing_ok=True)
        if complaint:
            (self.box / f"complaint{family}").write_text(complaint)

    def batch(self, family: int) -> list[str]:
        """The lines that the last `ip -batch` of that family was given."""
        path = self.box / f"batch{family}"
        return path.read_text().splitlines() if path.exists() else []

    def hook(
        self, path: str, shell: str = "dash", nics: Iterable[str] = ("ens3", "ens4"), **env: str
    ) -> Run:
        """Run the hook at `path` once, as `shell PATH`, with a recorder for ip."""
        links = "\n".join(f"ip link add {nic} type bridge" for nic in nics)
        mask = self.stand_in("ip", _MOCK_IP.format(box=self.box))
        mock = f"mount -t sysfs sysfs /sys\n{links}\n{mask}"
        return self.run(f"{shell} {path}", mock, env)

    def source(self, path: str, shell: str = "bash", before: str = "", **env: str) -> Run:
        """Source the hook as dhclient-script does; what follows is run after it."""
        script = self.box / "caller"
        self._script(script, f"{before}\n. {path}\n" + 'echo "status $? ${exit_status-}"\n')
        return self.hook(str(script), shell, **env)

    def run(self, command: str, prepare: str = "", env: Mapping[str, str] | None = None) -> Run:
        """Run `command` in the sandbox, wait for what it left running, and tell all."""
        (self.box / "calls").write_text("")
        (self.box / "ended").unlink(missing_ok=True)
        script = self.box / "script"
        words = " ".join(shlex.quote(f"{key}={value}") for key, value in (env or {}).items())
        script.write_text(
            _MOUNTS.format(box=self.box, root=self.root)
            + prepare
            + "set +e\n"
            + f"env -i PATH={_PATH} {words} {command} </dev/null\n"
            + f"code=$?\n: >{self.box}/ended\n"
            + _SETTLE
            + "exit $code\n"
        )
        done = subprocess.run(
            [*self.enter, "sh", str(script)],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if not (self.box / "ended").exists():
            raise AssertionError(f"the sandbox could not be made: {done.stderr}")
        calls = (self.box / "calls").read_text().splitlines()
        return Run(
            done.returncode,
            done.stdout,
            done.stderr,
            [call[3:] for call in calls if call.startswith("ip ")],
            [_without_again(call[15:]) for call in calls if call.startswith("source-routing ")],
            [call[7:] for call in calls if call.startswith("logger ")],
        )

    def pending(self) -> list[str]:
        return sorted(path.name for path in (self.box / "state").glob("pending.*"))

    @staticmethod
    def _script(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)
