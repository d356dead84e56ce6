"""Where events come from: the kernel's announcements, and whoever else says "look".

A service manager may hand the descriptors over, as sd_listen_fds(3) says, and keep them between
two runs, so that nothing is lost; run by hand, the process listens by a socket of its own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import stat
from contextlib import ExitStack
from types import FrameType
from typing import Any, Callable, NamedTuple

from ..errors import DiscoveryError
from .events import Heard, heard_in

FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)
RECEIVE_BYTES = 1 << 16
# A host whose routes change without end must not keep a read going.
DATAGRAMS_AT_ONCE = 4096
READS_AT_ONCE = 100
BUFFER_BYTES = 32 << 20
SOL_NETLINK, NETLINK_NO_ENOBUFS = 270, 5  # linux/socket.h, linux/netlink.h


class Rung(NamedTuple):
    """What has come since the last time."""

    heard: Heard
    look: bool = False  # somebody asks for a look
    stop: bool = False  # SIGTERM or SIGINT


class Doorbell:
    """Waits for events, as a context manager.  Raises `DiscoveryError` when it cannot listen."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._poll = select.poll()
        self._stop = self._look = False
        self._netlink: Any = None
        self._pipes: list[int] = []
        self._signals = -1

    def __enter__(self) -> Doorbell:
        from ..kernel.listen import open_listening

        with ExitStack() as stack:
            stack.push(self._stack)
            for descriptor in _inherited():
                if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                    self._netlink = self._keep(socket.socket(fileno=descriptor))
                    self._tell_of_overruns(True)
                    self._stack.callback(self._tell_of_overruns, False)
                else:
                    self._pipes.append(descriptor)
                os.set_blocking(descriptor, False)
                self._poll.register(descriptor, select.POLLIN)
            if self._netlink is None:
                self._netlink = self._keep(open_listening(BUFFER_BYTES))
                self._poll.register(self._netlink, select.POLLIN)
            self._catch_signals()
            stack.pop_all()
        return self

    def ring(self) -> None:
        """Have whoever keeps the descriptors start the next one at once."""
        for descriptor in self._pipes:
            with contextlib.suppress(BlockingIOError):  # full: there is something to read
                os.write(descriptor, b"look\n")

    def drain(self) -> None:
        """Take what has come, so that nobody is started for it."""
        for _time in range(READS_AT_ONCE):
            if not self._poll.poll(0):
                return
            self.wait(0.0, 0, lambda _route: False)

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def _keep(self, opened: Any) -> Any:
        self._stack.callback(opened.close)
        return opened

    def _tell_of_overruns(self, wanted: bool) -> None:
        """Between two runs an overrun is no error: the next run looks anyway.

        systemd ends a socket unit whose socket has an error, and nobody would listen any more.
        """
        self._netlink.setsockopt(SOL_NETLINK, NETLINK_NO_ENOBUFS, not wanted)
        self._netlink.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # clears it, socket(7)

    def _catch_signals(self) -> None:
        """An apply that has begun is finished, so a signal is no more than an event."""
        self._signals, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for descriptor in (self._signals, writing):
            self._stack.callback(os.close, descriptor)
        self._poll.register(self._signals, select.POLLIN)
        before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self._stack.callback(signal.set_wakeup_fd, before)

        def stop(_number: int, _frame: FrameType | None) -> None:
            self._stop = True

        def look(_number: int, _frame: FrameType | None) -> None:
            self._look = True

        self._catch(signal.SIGTERM, stop)
        self._catch(signal.SIGINT, stop)
        self._catch(signal.SIGHUP, look)

    def _catch(
        self, number: signal.Signals, handler: Callable[[int, FrameType | None], None]
    ) -> None:
        self._stack.callback(signal.signal, number, signal.signal(number, handler))

    def wait(self, seconds: float, own_port: int, is_far: Callable[[bytes], bool]) -> Rung:
        """What comes within `seconds`; does not wait for more than one event.

        `own_port` and `is_far` are as for `heard_in`.
        """
        milliseconds = max(0, round(seconds * 1000 + 0.5))
        heard = Heard()
        for descriptor, _event in self._poll.poll(milliseconds):
            if descriptor == self._signals:
                _read(descriptor)  # their handlers say what they mean
            elif descriptor in self._pipes:
                self._look |= bool(_read(descriptor))
            else:
                heard |= self._announced(own_port, is_far)
        look, self._look = self._look, False
        return Rung(heard, look, self._stop)

    def _announced(self, own_port: int, is_far: Callable[[bytes], bool]) -> Heard:
        heard = Heard()
        for _number in range(DATAGRAMS_AT_ONCE):
            try:
                datagram = self._netlink.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                # netlink(7): the buffer was full, and what came then is lost.
                if error.errno != errno.ENOBUFS:
                    raise DiscoveryError(f"cannot listen to the kernel: {error}") from error
                heard |= Heard(changed=True, missing=True)
                continue
            heard |= heard_in(datagram, own_port, is_far)
        return heard


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, RECEIVE_BYTES)
    except BlockingIOError:
        return b""


def _inherited() -> list[int]:
    """The descriptors that systemd hands over, sd_listen_fds(3)."""
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdigit():
        return []
    return list(range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count)))
