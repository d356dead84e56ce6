"""A throw-away guest: a root tree with real daemons in one network namespace of a lab.

No init runs in it; tests start what they need.  All of it, daemons included,
dies with the guest's first process.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from lab import Lab, LabError, wait_until
from lab.command import REPOSITORY

from .activation import HAND_OVER

GUEST = Path(__file__).with_name("guest.py")
ACTIVATION = Path(__file__).with_name("activation.py")
UNITS = REPOSITORY / "cc_source_routing/systemd"
# It ends soon, so that tests know when it has looked.
FOLLOW = "source-routing follow --idle 0.5"
FOLLOWED = "/var/log/source-routing.followed"
PACKAGES = "usr/lib/python3/dist-packages"
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
}

# Counts what the hooks ask of it, and then is the command itself.
_COMMAND = """#!/bin/sh
echo "$*" >>/var/log/source-routing.calls
exec /usr/bin/python3 -m cc_source_routing "$@"
"""


class Machine:
    """`tree` booted, as it were, in the namespace `netns` of `lab`."""

    def __init__(self, lab: Lab, netns: str, tree: Path, space: Path):
        space.mkdir(parents=True)
        self.lab, self.netns = lab, netns
        self._process = lab.popen(
            netns,
            "unshare",
            *("--mount", "--pid", "--uts", "--fork", "--kill-child=SIGKILL"),
            sys.executable,
            str(GUEST),
            str(tree),
            str(space),
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._process.stdout.readline() != "ready\n":
            raise LabError(f"the guest in {netns} did not come up")
        outer = self._process.pid
        self.pid = int(Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0])
        self._inside = f"{space}/root"
        self.root = Path(f"/proc/{self.pid}/root{space}/root")
        """The guest's tree as seen from here: for reading and writing files."""
        self._looks = space / "looks"

    def install(self) -> None:
        """Put the checkout into the guest, where its own python finds it."""
        target = self.root / PACKAGES / "cc_source_routing"
        shutil.copytree(
            REPOSITORY / "cc_source_routing",
            target,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        self.write("/usr/bin/source-routing", _COMMAND, 0o755)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)

    def read(self, path: str) -> str:
        place = self.root / path.lstrip("/")
        return place.read_text() if place.exists() else ""

    def run(
        self, *argv: str, check: bool = True, timeout: float = 120, env: Mapping[str, str] = {}
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside; with `check` a failure is a `LabError` that tells all."""
        words = [f"{key}={value}" for key, value in {**ENVIRONMENT, **env}.items()]
        done = subprocess.run(
            [
                *("nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "--uts", "--"),
                *("chroot", self._inside, "env", "-i", *words, *argv),
            ],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode:
            raise LabError(
                f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
                f"--- log ---\n{self.log()}"
            )
        return done

    def listen(self) -> None:
        """Do what systemd does with the units of the event path."""
        words = [f"{key}={value}" for key, value in ENVIRONMENT.items()]
        process = self.lab.popen(
            self.netns,
            *(sys.executable, str(ACTIVATION), str(UNITS), str(self.root), str(self._looks)),
            *("nsenter", f"--target={self.pid}", "--mount", "--pid", "--uts", "--"),
            *("chroot", self._inside, "env", "-i", *words),
            *("sh", "-c", HAND_OVER, "sh"),
            *("sh", "-c", f"exec {FOLLOW} >>{FOLLOWED} 2>&1"),
            stdout=subprocess.PIPE,
            text=True,
        )
        if process.stdout.readline() != "listening\n":
            raise LabError(f"nobody listens to the kernel in {self.netns}")

    def looks_again(self) -> None:
        """Wait until who listens has begun to look from now on, and has ended.

        What it has had done is done then, too.  It is given an event that changes nothing.
        """

        def runs() -> list[str]:
            return self._looks.read_text().splitlines()

        before = runs().count("begun")

        def has_ended() -> bool:
            told = runs()
            if told.count("begun") == before:
                self.lab.ip(self.netns, "link", "set", "dev", "lo", "alias", "look")
                self.lab.ip(self.netns, "link", "set", "dev", "lo", "alias", "")
            return told.count("ended") > before

        wait_until(has_ended, story=lambda: f"{runs()}\n{self.log()}")

    def log(self) -> str:
        """What was sent to /dev/log, and what who listens has said."""
        return self.read("/var/log/messages") + self.read(FOLLOWED)

    def applies(self) -> list[str]:
        """How the hooks and tests called `source-routing apply`."""
        lines = self.read("/var/log/source-routing.calls").splitlines()
        return [line for line in lines if "apply" in line.split()]

    def stop(self) -> None:
        """End the guest and all that runs in it."""
        self._process.kill()
        self._process.wait()
