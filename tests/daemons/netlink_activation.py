"""What a socket unit with ``ListenNetlink=route GROUPS`` does (systemd.socket(5)), for guests
in which no systemd runs.

Run as ``python3 netlink_activation.py GROUPS RUNS COMMAND...`` in the guest's network
namespace.  COMMAND gets the socket as descriptor 3 whenever there is something
to read, one run at a time.  Prints ``listening`` when it does; a line of the file
RUNS is a run that has begun or ended.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from pathlib import Path

FIRST = 3  # sd_listen_fds(3)


def main(groups: str, runs: str, *command: str) -> None:
    listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    listener.bind((0, int(groups)))
    if listener.fileno() != FIRST:
        os.dup2(listener.fileno(), FIRST)
    os.set_inheritable(FIRST, True)
    print("listening", flush=True)
    with Path(runs).open("w", buffering=1) as told:
        while True:
            select.select([FIRST], [], [])
            print("begun", file=told)
            subprocess.run(command, pass_fds=(FIRST,), stdin=subprocess.DEVNULL, check=False)
            print("ended", file=told)


if __name__ == "__main__":
    main(*sys.argv[1:])
