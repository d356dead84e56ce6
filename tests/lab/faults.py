"""Inject faults into the process of the command: it dies at its Nth operation, or that fails.

=========  ==================================================================
moment     none: it dies after that many milliseconds of work, whatever it does
kernel     each operation of a plan, before it is sent
files      each call that changes a file or directory; a write is cut in half
answers    each receipt from the kernel over netlink
notify     each command that tells a service of new files; none is run
clock      none: between any two reads the clock jumps by that many seconds
narrow     none: all sockets use the smallest receive buffers
=========  ==================================================================
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from cc_source_routing import engine
from cc_source_routing.kernel import netlink, rtnl

FILE_CALLS = "chmod fchmod fsync ftruncate mkdir pwrite rename rmdir unlink".split()


class Fault:
    """Strikes once, at operation `at`: with the error `number`, or by SIGKILL if that is None.

    A negative `number` is a signal that the process gets then, as a rule to go on.
    """

    def __init__(self, at: int, number: int | None, report: Callable[[str], None]):
        self.at, self.number, self._report, self._done = at, number, report, 0

    def passes(self, what: str) -> None:
        self._done += 1
        if self._done - 1 != self.at:
            return
        self._report(what)
        if self.number is not None and self.number > 0:
            raise OSError(self.number, os.strerror(self.number))
        os.kill(os.getpid(), -(self.number or -signal.SIGKILL))


def moment(fault: Fault) -> None:
    """Nobody catches SIGPROF, so no line of Python runs any more, as with SIGKILL."""
    signal.setitimer(signal.ITIMER_PROF, (fault.at + 1) / 1000)


def kernel(fault: Fault) -> None:
    execute = netlink.Kernel.execute

    def one_by_one(self: netlink.Kernel, operations: Sequence[Any]) -> None:
        for operation in operations:
            fault.passes(operation.describe())
            execute(self, (operation,))

    netlink.Kernel.execute = one_by_one  # type: ignore[method-assign]


def files(fault: Fault) -> None:
    for name in FILE_CALLS:
        _guard(name, fault)
    os_open, fdopen = os.open, os.fdopen

    def opens(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & os.O_CREAT:
            fault.passes(f"open {path}")
        return os_open(path, flags, *args, **kwargs)

    def opens_stream(descriptor: int, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        stream = fdopen(descriptor, mode, *args, **kwargs)
        return _HalfWritten(stream, fault) if mode == "wb" else stream

    os.open, os.fdopen = opens, opens_stream  # type: ignore[assignment]


def _guard(name: str, fault: Fault) -> None:
    real = getattr(os, name)

    def guarded(*args: Any, **kwargs: Any) -> Any:
        fault.passes(f"{name} {args[0]}")
        return real(*args, **kwargs)

    setattr(os, name, guarded)


class _HalfWritten:
    """A stream whose write has reached the disk by half when the fault strikes."""

    def __init__(self, stream: Any, fault: Fault):
        self._stream, self._fault = stream, fault

    def __enter__(self) -> _HalfWritten:  # noqa: PYI034 - Self is not in Python 3.9
        return self

    def __exit__(self, *exc: object) -> None:
        self._stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, data: bytes) -> None:
        self._stream.write(data[: len(data) // 2])
        self._stream.flush()
        self._fault.passes("write")
        self._stream.write(data[len(data) // 2 :])


def answers(fault: Fault) -> None:
    """Inject faults at the socket itself: the answers remain to be read after the fault."""
    open_socket = rtnl.open_socket

    class Guarded:
        def __init__(self, real: Any):
            self._real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

        def recv(self, size: int, flags: int) -> bytes:
            fault.passes("recv")
            return self._real.recv(size, flags)

    rtnl.open_socket = lambda groups=0: Guarded(open_socket(groups))


def notify(fault: Fault) -> None:
    """Services are those of the running system, which is none of the tests' business."""

    def tells(_root: Path, commands: Iterable[Sequence[str]]) -> list[str]:
        for command in commands:
            fault.passes(" ".join(command))
        return []

    engine.notify = tells


def narrow(_fault: Fault) -> None:
    bind = socket.socket.bind

    def binds(self: socket.socket, address: Any) -> None:
        bind(self, address)
        if self.family == socket.AF_NETLINK:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel's minimum

    socket.socket.bind = binds  # type: ignore[method-assign,assignment]


def clock(fault: Fault) -> None:
    """Jump the settable clock (time.time); the monotonic one continues, as in the kernel."""
    now, jumps = time.time, 0

    def jumping() -> float:
        nonlocal jumps
        jumps += 1
        return now() + jumps * (fault.number or 0)

    time.time = jumping


PLANT = {
    "moment": moment,
    "kernel": kernel,
    "files": files,
    "answers": answers,
    "clock": clock,
    "narrow": narrow,
    "notify": notify,
}
