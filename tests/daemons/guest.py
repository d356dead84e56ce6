"""The first process of a guest: mounts its root, writes what is logged to a file, reaps.

Run as ``python3 guest.py TREE SPACE`` in new mount and pid namespaces (and the
guest's network namespace).  TREE, never written to, is the lower layer of an
overlay whose upper one is in memory; the whole appears at SPACE/root and is
gone with this process.  Prints ``ready`` when all is mounted.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys

DEVICES = {"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9}


def main(tree: str, space: str) -> None:
    def mount(*words: str) -> None:
        subprocess.run(["mount", *words], check=True)

    root = f"{space}/root"
    mount("--make-rprivate", "/")
    mount("-t", "tmpfs", "tmpfs", space)
    for name in ("upper", "work", "root"):
        os.mkdir(f"{space}/{name}")
    layers = f"lowerdir={tree},upperdir={space}/upper,workdir={space}/work"
    mount("-t", "overlay", "overlay", "-o", layers, root)
    mount("-t", "proc", "proc", f"{root}/proc")
    mount("-t", "sysfs", "sysfs", f"{root}/sys")
    mount("-t", "tmpfs", "tmpfs", f"{root}/run")
    mount("-t", "tmpfs", "tmpfs", f"{root}/dev")
    os.umask(0)
    for name, minor in DEVICES.items():
        os.mknod(f"{root}/dev/{name}", 0o20666, os.makedev(1, minor))
    os.umask(0o022)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(f"{root}/dev/log")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans are reaped by the kernel
    print("ready", flush=True)
    serve(listener, f"{root}/var/log/messages")


def serve(listener: socket.socket, path: str) -> None:
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    with open(path, "ab", buffering=0) as log:
        while True:
            for _ready in selector.select():
                log.write(listener.recv(8192).rstrip(b"\n\0") + b"\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
