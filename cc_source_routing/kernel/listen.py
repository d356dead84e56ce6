"""Receive the kernel's rtnetlink notifications, in the process's network namespace.

The socket sends nothing and needs no root privileges.
"""

from __future__ import annotations

import errno
import socket
from typing import Any, NamedTuple

from ..errors import DiscoveryError
from ..model import Link
from . import rtnl
from .messages import GROUPS, RTM_DELLINK, Change, Message, changes_of

SO_RCVBUFFORCE = 33
BUFFER_BYTES = 4 << 20
# Limits one read on a host whose routes change faster than they are decoded.
CHANGES_AT_ONCE = 10_000


class Heard(NamedTuple):
    """The notifications since the last read."""

    changes: list[Change]
    overrun: bool = False  # some were lost: the caller must read the whole state again


def open_listening(buffer_bytes: int) -> Any:
    """A socket of pyroute2 that has joined `GROUPS`; raises `DiscoveryError`.

    The buffer makes room for a burst (a routing daemon's thousand routes).  Without the
    privilege for a larger one there are more overruns.
    """
    try:
        opened = rtnl.open_socket(GROUPS)
    except OSError as error:
        raise DiscoveryError(f"cannot listen to the kernel: {error}") from error
    for option in (SO_RCVBUFFORCE, socket.SO_RCVBUF):
        try:
            opened.setsockopt(socket.SOL_SOCKET, option, buffer_bytes)
            break
        except OSError:
            continue
    return opened


class Listener:
    """A context manager that joins the groups of links, addresses, routes and rules."""

    def __init__(self) -> None:
        self._socket = open_listening(BUFFER_BYTES)
        self._names: dict[int, str] = {}

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return int(self._socket.fileno())

    def know(self, links: list[Link]) -> None:
        """Set the interface names used for addresses and routes."""
        self._names = {link.ifindex: link.name for link in links}

    def read(self) -> Heard:
        """The pending notifications, about `CHANGES_AT_ONCE` at most; does not block."""
        changes: list[Change] = []
        overrun = False
        while len(changes) < CHANGES_AT_ONCE:
            try:
                messages = rtnl.receive(self._socket, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                # netlink(7): the buffer was full and messages were dropped; the socket
                # remains usable.  A datagram that cannot be decoded is lost, too.
                if error.errno not in (errno.ENOBUFS, errno.EBADMSG):
                    raise DiscoveryError(f"cannot listen to the kernel: {error}") from error
                overrun = True
                continue
            for message in messages:
                changes += self._changes(message)
        return Heard(changes, overrun)

    def _changes(self, message: Message) -> list[Change]:
        header = message["header"]
        if header["error"] is not None:
            return []  # pyroute2 cannot decode this type or form
        changes = changes_of(header["type"], message, self._name)
        for change in changes:
            # A route notification may follow the deletion of its link: keep the name until
            # another link gets the index.
            if isinstance(change.thing, Link) and header["type"] != RTM_DELLINK:
                self._names[change.thing.ifindex] = change.thing.name
        return changes

    def _name(self, index: int) -> str:
        return self._names.get(index, f"#{index}")
