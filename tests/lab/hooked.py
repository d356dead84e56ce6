"""Run a server's hooks as its network manager does, with the real command behind them.

/etc and /run are the root's, in mounts that end with each run; a wrapper counts the
calls of the command.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import NamedTuple

from .command import REPOSITORY, SourceRouting

_MOUNTS = """
set -e
mount --bind {root}/etc /etc
mkdir -p {root}/run/source-routing
mount --bind {root}/run /run
mount --bind {box}/bin /usr/local/sbin
"""

_PIPE = "[ -p /run/source-routing/look ] || mkfifo -m 600 /run/source-routing/look\n"

# The call of ifupdown's hook when the NIC "$nic" comes up.
UP = (
    "IFACE=$nic ADDRFAM=inet METHOD=static MODE=start PHASE=post-up"
    " /etc/network/if-up.d/source-routing"
)


class Burst(NamedTuple):
    """The effects of a burst of events."""

    seconds: float
    """Until the last hook has returned to its manager."""
    settled: float
    """Until what they have left in the background was done, too."""
    applies: list[str]
    """How `source-routing` was called; never where somebody listens."""
    log: list[str]


class Hooked:
    """The hooks that an apply has written below the root of `command`.

    With `listening` there is the pipe of the socket unit: what hooks write to it stays there.
    """

    def __init__(self, command: SourceRouting, listening: bool):
        self.command, self.listening = command, listening
        self.box = command.root.with_name("hooked")
        (self.box / "bin").mkdir(parents=True, exist_ok=True)
        self._script("logger", f'echo "$*" >>{self.box}/log')
        self._script(
            "source-routing",
            f'echo "$*" >>{self.box}/applies\n'
            f"while [ -e {self.box}/gate ]; do sleep 0.02; done\n"
            f"export PYTHONPATH={REPOSITORY}\n"
            f'exec {sys.executable} -m cc_source_routing --root {command.root} "$@"',
        )

    def burst(
        self, nics: Sequence[str], at_once: bool, hook: str = "", gate: bool = False
    ) -> Burst:
        """Run the hooks as if these NICs came up, all at once or one after the other.

        `hook` replaces the manager's own call; with `gate` each run of the command waits
        until the last hook has returned.
        """
        for name in ("applies", "log", *(["gate"] if gate else [])):
            (self.box / name).write_text("")
        each = f"{hook or UP} {'&' if at_once else ''}"
        done = self.command.lab.run(
            self.command.netns,
            "sh",
            "-c",
            _MOUNTS.format(root=self.command.root, box=self.box)
            + (_PIPE if self.listening else "")
            + "before=$(date +%s%N)\n"
            # What the hooks leave in the background inherits the descriptor 7, and `cat` ends
            # when nobody has it any more.
            + "{\n"
            + f"for nic in {' '.join(nics)}; do {each}\ndone\nwait\n"
            + f"echo $(($(date +%s%N) - before))\nrm -f {self.box}/gate\n"
            + "} 7>&1 | cat\n"
            + "echo $(($(date +%s%N) - before))\n",
            timeout=600,
        )
        seconds, settled = (int(line) / 1e9 for line in done.stdout.splitlines()[-2:])
        return Burst(
            seconds,
            settled,
            (self.box / "applies").read_text().splitlines(),
            (self.box / "log").read_text().splitlines(),
        )

    def forget(self) -> None:
        """Clear the kernel and /run but keep the files, as a reboot does."""
        root = self.command.root
        kept = root.with_name("kept")
        shutil.copytree(root, kept, symlinks=True, ignore=shutil.ignore_patterns("run"))
        self.command.ok("remove")
        shutil.rmtree(root)
        kept.rename(root)

    def _script(self, name: str, text: str) -> None:
        path = self.box / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
