"""QEMU's JSON protocols: its own monitor (QMP), and the agent in the guest.

On a Unix socket both accept a command and answer with one JSON object per line
(QEMU's docs/interop/qmp-spec and qemu-ga-ref).
"""

from __future__ import annotations

import base64
import contextlib
import json
import random
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

from ..command import Completed
from ..errors import BuildError

# ask(command, arguments) -> the command's return value.
Ask = Callable[[str, Mapping[str, Any]], Any]


class Refused(Exception):
    """The other side refused a command; the text is its reason."""


@contextlib.contextmanager
def _connection(path: Path, timeout: float) -> Iterator[Ask]:
    """Connect; `timeout` is in seconds for each answer; `BuildError` if none can be read."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as channel:
        channel.settimeout(timeout)
        try:
            channel.connect(str(path))
            stream = channel.makefile("rwb")
        except OSError as error:
            raise BuildError(f"no channel to the guest: {error}") from error

        def ask(command: str, arguments: Mapping[str, Any]) -> Any:
            request = {"execute": command, "arguments": arguments}
            try:
                stream.write(json.dumps(request).encode() + b"\n")
                stream.flush()
                while True:
                    answer = json.loads(stream.readline() or b'{"error": {"desc": "closed"}}')
                    if "error" in answer:
                        raise Refused(f"{command}: {answer['error'].get('desc', answer['error'])}")
                    # Skip the monitor's greeting and events, and the agent's answers to
                    # commands of an earlier connection.
                    earlier = command == "guest-sync" and answer.get("return") != arguments["id"]
                    if "return" in answer and not earlier:
                        return answer["return"]
            except (OSError, ValueError) as error:
                raise BuildError(f"the guest does not answer {command}: {error}") from error

        yield ask


@contextlib.contextmanager
def monitor(path: Path) -> Iterator[Ask]:
    """A function ``ask(command, arguments)`` for the hypervisor."""
    with _connection(path, timeout=60) as ask:
        ask("qmp_capabilities", {})
        yield ask


class GuestAgent:
    """The host's side of qemu-guest-agent."""

    def __init__(self, path: Path):
        self.path = path

    def ping(self, timeout: float = 10) -> bool:
        """Whether the agent answers."""
        with contextlib.suppress(BuildError):
            with self._in_step(timeout):
                return True
        return False

    def execute(self, argv: Sequence[str], *, timeout: float) -> Completed:
        """Run a program in the guest, for at most `timeout` seconds.

        Raises `BuildError` if it takes longer, or if the guest restarts meanwhile.
        """
        until = time.monotonic() + timeout
        start = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
        with self._in_step(timeout) as ask:
            try:
                pid = ask("guest-exec", start)["pid"]
            except Refused as error:
                return Completed(127, "", f"{argv[0]}: {error}")
            pause = 0.05
            while time.monotonic() < until:
                try:
                    answer = ask("guest-exec-status", {"pid": pid})
                except Refused as error:
                    # After a reboot a new agent does not know the old one's children.
                    raise BuildError(f"in the guest: {' '.join(argv)}: lost ({error})") from error
                if answer.get("exited"):
                    # A signal gives no exit code: use 128 plus its number, as shells do.
                    code = answer.get("exitcode", 128 + answer.get("signal", 0))
                    return Completed(
                        code, _text(answer.get("out-data")), _text(answer.get("err-data"))
                    )
                time.sleep(pause)
                pause = min(pause * 2, 1.0)
        raise BuildError(f"in the guest: {' '.join(argv)}: not finished after {timeout:.0f} s")

    @contextlib.contextmanager
    def _in_step(self, timeout: float) -> Iterator[Ask]:
        """A synchronised connection, on which each answer belongs to the last command."""
        with _connection(self.path, timeout) as ask:
            try:
                ask("guest-sync", {"id": random.randrange(2**31)})
            except Refused as error:
                raise BuildError(f"the guest's agent is out of step: {error}") from error
            yield ask


def _text(encoded: str | None) -> str:
    return base64.b64decode(encoded).decode(errors="replace") if encoded else ""
