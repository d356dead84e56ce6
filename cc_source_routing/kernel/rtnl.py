"""One rtnetlink socket of pyroute2: send a request, return all of its answers.

The only module that imports pyroute2 (0.5.14 and later).  The import costs a
tenth of a second or more, so this module is only imported when it is used.

`IPRSocket` is the socket below pyroute2's `IPRoute`.  Its ``put``, ``recv`` and
``marshal`` are the same in all releases.  `IPRoute` differs between releases and
has faults: 0.5 sends deletions with NLM_F_EXCL, which Linux since 5.19 reads as
NLM_F_BULK and refuses; 0.9 runs an asyncio loop that waits forever for a lost
answer; and no release exposes the flags and the error of the message that ends
a dump.
"""

from __future__ import annotations

import errno
import gc
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable, TypeVar

from pyroute2 import IPRSocket
from pyroute2.netlink.exceptions import NetlinkDecodeError

from .messages import NLMSG, Message, Undecoded, split

# linux/netlink.h
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_MULTI, NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x1, 0x2, 0x4, 0x10, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
SOL_NETLINK, NETLINK_GET_STRICT_CHK = 270, 12

RECEIVE_BYTES = 1 << 16
ANSWER_SECONDS = 10
DUMP_ATTEMPTS = 5
OBJECTS_BETWEEN_COLLECTIONS = 20_000

Fields = dict[str, Any]
Chooser = Callable[[], Callable[[bytes], bool]]  # makes a test of undecoded messages
T = TypeVar("T")


class RefusedError(OSError):
    """The kernel refused a request, with an errno; any other OSError is the socket's."""


def open_socket(groups: int = 0) -> Any:
    """A socket of the current network namespace that has joined the multicast `groups`.

    Set socket options afterwards: in 0.5 to 0.8 ``bind`` may reopen the socket.
    """
    opened = IPRSocket()
    try:
        opened.bind(groups)
    except BaseException as error:
        opened.close()
        if isinstance(error, KeyError):  # pyroute2 found no free port
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from error
        raise
    return opened


def receive(opened: Any, flags: int = 0) -> list[Any]:
    """The decoded messages of one datagram; OSError (EBADMSG) when it is truncated."""
    return _decoded(opened, opened.recv(RECEIVE_BYTES, flags))


def _decoded(opened: Any, data: bytes) -> list[Any]:
    try:
        return list(opened.marshal.parse(data))
    except (struct.error, NetlinkDecodeError) as error:
        raise OSError(errno.EBADMSG, f"cannot decode netlink: {error}") from error


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    """Have the garbage collector run less often: it takes 40 % of the time of a large dump.

    Not without it: each decoded message is a cycle of some kilobytes.
    """
    before = gc.get_threshold()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


class RtnlSocket:
    """Sends one request at a time; raises OSError when the socket fails."""

    def __init__(self) -> None:
        self._sequence = 0
        self._open()

    def _open(self) -> None:
        self._socket = open_socket()
        # The kernel answers at once; a limit, so that a lost answer does not block forever.
        limit = struct.pack("@ll", ANSWER_SECONDS, 0)  # struct timeval
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        try:
            # Makes the kernel honour a dump's filter (Linux 4.20); older kernels return
            # everything, which only costs time.
            self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        except OSError:
            pass

    def close(self) -> None:
        self._socket.close()

    @property
    def port(self) -> int:
        """The socket's port id, netlink(7)."""
        # pyroute2 has no name for it that is the same in all releases.
        with socket.socket(fileno=os.dup(self._socket.fileno())) as same:
            return int(same.getsockname()[0])

    def change(self, kind: int, flags: int, fields: Fields) -> None:
        """Send a request and wait for its acknowledgement; `RefusedError` with the errno."""
        for _answer in self._answers(kind, flags | NLM_F_ACK, fields):
            pass

    def ask(self, kind: int, fields: Fields) -> Message:
        """Send a request that one message answers; `RefusedError` with the errno."""
        for answer in self._answers(kind, 0, fields):
            return self._decode(answer)
        raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))

    def dump(
        self,
        kind: int,
        fields: Fields,
        read: Callable[[Message], T | None],
        chooser: Chooser | None = None,
    ) -> list[T]:
        """The results of `read` for each answer to a dump request, without the Nones.

        With a `chooser` only those answers are decoded that its test, a new one for each
        attempt, is true of.

        The kernel marks a dump during which its lists changed.  Such a dump is read
        again, since an incomplete one would look as if entries were gone.
        """
        for attempt in range(DUMP_ATTEMPTS):
            found: list[T] = []
            whole = True
            is_chosen = chooser() if chooser is not None else None
            try:
                with _collecting_seldom():
                    for answer in self._answers(kind, NLM_F_DUMP, fields):
                        whole = whole and not answer.flags & NLM_F_DUMP_INTR
                        if answer.kind == NLMSG_DONE:
                            break
                        if is_chosen is not None and not is_chosen(answer.data):
                            continue
                        value = read(self._decode(answer))
                        if value is not None:
                            found.append(value)
            except OSError as error:
                if error.errno in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):
                    return []  # a kernel without this family
                if error.errno != errno.ENOBUFS or attempt == DUMP_ATTEMPTS - 1:
                    raise
                # The kernel continues a dump that it has begun on this socket.
                self.close()
                self._open()
                continue
            if whole:
                return found
        raise OSError(errno.EINTR, "the kernel's lists change too fast")

    def _answers(self, kind: int, flags: int, fields: Fields) -> Iterator[Undecoded]:
        """Send a request and yield its answers, up to the final one."""
        self._sequence += 1
        request = self._socket.marshal.msg_map[kind]()
        request.update(fields)
        self._socket.put(request, kind, NLM_F_REQUEST | flags, msg_seq=self._sequence)
        while True:
            for answer in split(self._receive()):
                if answer.sequence != self._sequence:
                    continue  # an answer to an abandoned request
                if answer.kind in (NLMSG_DONE, NLMSG_ERROR):
                    # The end of a dump also carries an error if the kernel stopped early.
                    code = _error_number(answer)
                    if code:
                        raise RefusedError(code, os.strerror(code))
                yield answer
                if answer.kind == NLMSG_DONE or not answer.flags & NLM_F_MULTI:
                    return

    def _receive(self) -> bytes:
        try:
            return bytes(self._socket.recv(RECEIVE_BYTES, 0))
        except BlockingIOError:  # SO_RCVTIMEO, socket(7)
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None

    def _decode(self, answer: Undecoded) -> Message:
        decoded = _decoded(self._socket, answer.data)
        error = decoded[0]["header"]["error"] if decoded else "the message is cut off"
        if error is not None:
            raise OSError(errno.EBADMSG, f"cannot decode netlink: {error}")
        message: Message = decoded[0]
        return message


def _error_number(answer: Undecoded) -> int:
    """The errno of an NLMSG_ERROR or NLMSG_DONE, 0 for success (netlink(7))."""
    return -int(struct.unpack_from("@i", answer.data, NLMSG.size)[0])
