"""What systemd does with source-routing's socket and path units, for guests without systemd.

Run as ``python3 activation.py UNITS ROOT RUNS COMMAND...`` in the guest's network namespace.
UNITS is the directory of the units, ROOT the guest's tree.  COMMAND gets the socket as
descriptor 3 and the pipe as descriptor 4 whenever there is something to read, one run at a
time.  Prints ``listening`` when it does; a line of the file RUNS is a run that has begun or
ended.  A path unit is stood in for by looking at its directories again and again.
"""

from __future__ import annotations

import os
import re
import select
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

FIRST = 3  # sd_listen_fds(3)
LOOKS_SECONDS = 0.05
# The number of the process is known to a shell that becomes it.
HAND_OVER = 'LISTEN_FDS=2 LISTEN_PID=$$ exec "$@"'


def settings(unit: Path, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit.read_text(), re.MULTILINE)


def listen(unit: Path, root: Path) -> Path:
    """Open the socket and the pipe as the two descriptors; returns the pipe's path."""
    (groups,) = settings(unit, "ListenNetlink")
    (pipe,) = (root / path.lstrip("/") for path in settings(unit, "ListenFIFO"))
    listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    listener.bind((0, int(groups.split()[1])))
    pipe.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(pipe, 0o600)
    opened = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    for wanted, found in enumerate((listener.detach(), opened), FIRST):
        if wanted != found:
            os.dup2(found, wanted)
            os.close(found)
        os.set_inheritable(wanted, True)
    return pipe


def watch(directories: list[Path], pipe: Path) -> None:
    """Say "look" when a file of these directories has changed, for ever."""
    before = written(directories)
    while True:
        time.sleep(LOOKS_SECONDS)
        now = written(directories)
        if now != before:
            before = now
            with pipe.open("w") as stream:
                stream.write("look\n")


def written(directories: list[Path]) -> set[tuple[str, int, int]]:
    found = set()
    for directory in directories:
        for path in directory.glob("*"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            found.add((str(path), status.st_mtime_ns, status.st_size))
    return found


def main(units: str, guest: str, runs: str, *command: str) -> None:
    root = Path(guest)
    pipe = listen(Path(units, "source-routing.socket"), root)
    paths = settings(Path(units, "source-routing.path"), "PathModified")
    directories = [root / path.lstrip("/") for path in paths]
    threading.Thread(target=watch, args=(directories, pipe), daemon=True).start()
    descriptors = (FIRST, FIRST + 1)
    with Path(runs).open("w", buffering=1) as told:
        print("listening", flush=True)
        while True:
            select.select(descriptors, [], [])
            print("begun", file=told)
            subprocess.run(command, pass_fds=descriptors, stdin=subprocess.DEVNULL, check=False)
            print("ended", file=told)


if __name__ == "__main__":
    main(*sys.argv[1:])
