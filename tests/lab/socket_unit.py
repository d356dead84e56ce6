"""What systemd does with a socket unit of `ListenNetlink=` and `ListenFIFO=` (systemd.socket(5)).

Run as ``python3 socket_unit.py FIFO BYTES COMMAND...`` in the server's network namespace, until
standard input is closed.  COMMAND gets both descriptors, as sd_listen_fds(3) says, whenever there
is something to read, one run at a time; a run that fails is followed by another.  BYTES is the
netlink socket's receive buffer, 0 for the usual one.

Prints ``listening``, ``started PID`` and ``ended CODE``; and ``failed`` where systemd would give
up: when a socket has an error while nobody reads it.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence

from cc_source_routing.kernel.messages import GROUPS

FIRST = 3  # sd_listen_fds(3)
AS_SYSTEMD = 'export LISTEN_PID=$$ LISTEN_FDS=2; exec "$@"'


def main(fifo: str, receive_bytes: str, *command: str) -> None:
    listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    listener.bind((0, GROUPS))
    if int(receive_bytes):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, int(receive_bytes))
    os.makedirs(os.path.dirname(fifo), exist_ok=True)
    os.mkfifo(fifo, 0o600)
    # Opened for writing too: without a writer it would be at its end.
    pipe = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    handed = (FIRST, FIRST + 1)
    kept = [os.dup(descriptor) for descriptor in (listener.fileno(), pipe)]
    listener.detach()
    for descriptor, number in zip(kept, handed):
        os.dup2(descriptor, number)

    code = 0
    while True:
        if not code:
            print("listening", flush=True)
            ready = _ready(sys.stdin.fileno(), *handed)
            if any(event != select.POLLIN for event in map(ready.get, handed) if event):
                print(f"failed {ready}", flush=True)
                return
        if _ready(sys.stdin.fileno(), wait=False):
            return
        code = _run(command, handed)


def _run(command: Sequence[str], handed: Sequence[int]) -> int:
    """The exit code of a run; it is told to end when standard input is closed."""
    argv = ["sh", "-c", AS_SYSTEMD, "sh", *command]
    with subprocess.Popen(argv, pass_fds=handed, stdin=subprocess.DEVNULL) as child:
        print(f"started {child.pid}", flush=True)
        ends = os.pidfd_open(child.pid)
        if ends not in _ready(ends, sys.stdin.fileno()):
            child.send_signal(signal.SIGTERM)
        os.close(ends)
    print(f"ended {child.returncode}", flush=True)
    return child.returncode


def _ready(*descriptors: int, wait: bool = True) -> dict[int, int]:
    """Those on which something has happened, with poll(2)'s events."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return dict(poll.poll(None if wait else 0))


if __name__ == "__main__":
    main(*sys.argv[1:])
