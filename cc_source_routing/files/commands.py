"""The only module that runs commands: never through a shell, never without a time limit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence

from ..errors import CommandError

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(argv: Sequence[str], *, timeout: float, input: str | None = None) -> str:
    """Run `argv` and return its standard output.

    Raises `CommandError`, one sentence with the last line of its output, if the
    command is missing, fails, or takes longer than `timeout` seconds.  On timeout
    the command and its children are killed.
    """
    name = os.path.basename(argv[0])
    environment = {**os.environ, "LC_ALL": "C"}
    environment["PATH"] = (
        f"{environment['PATH']}:{SEARCH_PATH}" if "PATH" in environment else (SEARCH_PATH)
    )
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise CommandError(f"{name} cannot be run: {error.strerror or error}") from error
    except ValueError as error:  # a NUL byte in an argument
        raise CommandError(f"{name} cannot be run: {error}") from error
    with process:
        try:
            out, err = process.communicate(input, timeout=timeout)
        except subprocess.TimeoutExpired:
            _kill(process)
            raise CommandError(f"{name} was not done after {timeout:g} s and was ended") from None
        except BaseException:
            _kill(process)
            raise
    if process.returncode:
        raise CommandError(f"{name} {_failure(process.returncode)}: {_last_line(err or out)}")
    return out


def _kill(process: "subprocess.Popen[str]") -> None:
    # The whole session: a child that keeps the pipe open would block communicate().
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(OSError, ValueError):
        process.communicate()


def _failure(code: int) -> str:
    if code < 0:
        return f"was killed by signal {-code}"
    return f"failed (exit {code})"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
