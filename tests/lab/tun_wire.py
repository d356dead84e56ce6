"""A cable between tun devices of two namespaces: a VPN as its ends' routing sees it.

``tun_wire.py NAME OTHER_NAMESPACE OTHER_NAME`` makes a tun device in its own namespace and
one in the other (a path below /run/netns), prints ``ready``, and forwards packets between them
until its standard input closes.  Like WireGuard's devices they have no link layer.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import selectors
import struct
import sys

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h
CLONE_NEWNET = 0x40000000  # linux/sched.h


def tun(name: str) -> int:
    opened = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(opened, TUNSETIFF, struct.pack("16sH14x", name.encode(), IFF_TUN | IFF_NO_PI))
    return opened


def main(name: str, other_namespace: str, other_name: str) -> None:
    near = tun(name)
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns is in Python 3.12 and later
    with open(other_namespace, "rb") as namespace:
        if libc.setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), other_namespace)
    far = tun(other_name)
    print("ready", flush=True)
    to = {near: far, far: near}
    with selectors.DefaultSelector() as selector:
        for end in (near, far, sys.stdin):
            selector.register(end, selectors.EVENT_READ)
        while True:
            for key, _events in selector.select():
                if key.fileobj is sys.stdin:
                    return
                try:
                    os.write(to[key.fd], os.read(key.fd, 65536))
                except OSError:
                    pass  # an end that is down accepts no packets


if __name__ == "__main__":
    main(*sys.argv[1:])
