"""The kernel's own announcements: a netlink socket that is only listened to.

Needs neither root nor pyroute2.  Always the network namespace that the process
runs in.
"""

from __future__ import annotations

import errno
import socket
from typing import Dict, List, NamedTuple

from ..errors import DiscoveryError
from ..model import Link
from . import wire
from .wire_events import GROUPS, RTM_DELLINK, Change, changes_of

SO_RCVBUFFORCE = 33
BUFFER_BYTES = 4 << 20
RECEIVE_BYTES = 1 << 16


class Heard(NamedTuple):
    """What has been announced since the last time."""

    changes: List[Change]
    overrun: bool = False  # some of it was lost: whoever needs the whole must read it anew


class Listener:
    """Joins the groups of links, addresses, routes and rules, as a context manager."""

    def __init__(self) -> None:
        try:
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        except OSError as error:
            raise DiscoveryError(f"cannot listen to the kernel: {error}") from error
        try:
            # A burst (a routing daemon's thousand routes) shall fit; without the right
            # to a larger buffer an overrun is only told more often.
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
            except OSError:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            self._socket.bind((0, GROUPS))
        except OSError as error:
            self._socket.close()
            raise DiscoveryError(f"cannot listen to the kernel: {error}") from error
        self._names: Dict[int, str] = {}

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def know(self, links: List[Link]) -> None:
        """The names of interfaces, by which addresses and routes are told."""
        self._names = {link.index: link.name for link in links}

    def read(self) -> Heard:
        """All that is there to read; never waits."""
        changes: List[Change] = []
        overrun = False
        while True:
            try:
                data, (port, _groups) = self._socket.recvfrom(RECEIVE_BYTES)
            except BlockingIOError:
                return Heard(changes, overrun)
            except InterruptedError:
                continue
            except OSError as error:
                # netlink(7): the buffer was full and messages were dropped; the
                # socket itself goes on.
                if error.errno != errno.ENOBUFS:
                    raise DiscoveryError(f"cannot listen to the kernel: {error}") from error
                overrun = True
                continue
            if port != 0:
                continue  # from another process, not from the kernel
            for message in wire.messages(data):
                for change in changes_of(message, self._name):
                    if isinstance(change.thing, Link):
                        self._note(message.kind, change.thing)
                    changes.append(change)

    def _note(self, kind: int, link: Link) -> None:
        if kind == RTM_DELLINK:
            # Its routes may be told after it: the name stays until the number is given anew.
            return
        self._names[link.index] = link.name

    def _name(self, index: int) -> str:
        return self._names.get(index, f"#{index}")
