"""Run other programs: the only place that does so, with a time limit on each."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Union

from .errors import BuildError

Argument = Union[str, "os.PathLike[str]"]


class Completed(NamedTuple):
    """The result of a program, on this machine or in a guest."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def reason(self) -> str:
        """Why it failed: the last line of its errors or output, else its exit code."""
        lines = (self.stderr.strip() or self.stdout.strip()).splitlines()
        return lines[-1].strip() if lines else f"exit code {self.returncode}"


def attempt(
    argv: Sequence[Argument],
    *,
    timeout: float = 120,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Completed:
    """Run a program; a failing exit code is a result, not an error.

    Raises `BuildError` if it does not exist or takes longer than `timeout` seconds.
    """
    words = [os.fspath(word) for word in argv]
    # Without their own stdin, programs would read the caller's.
    source = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    try:
        done = subprocess.run(
            words,
            text=True,
            errors="replace",
            capture_output=True,
            timeout=timeout,
            env=dict(env) if env is not None else None,
            cwd=cwd,
            check=False,
            **source,
        )
    except FileNotFoundError as error:
        raise BuildError(f"{words[0]}: no such program on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{' '.join(words)}: not finished after {timeout:g} s") from error
    return Completed(done.returncode, done.stdout, done.stderr)


def run(
    argv: Sequence[Argument],
    *,
    timeout: float = 120,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run a program; returns its standard output, and raises `BuildError` if it fails."""
    done = attempt(argv, timeout=timeout, stdin=stdin, env=env, cwd=cwd)
    if done.returncode != 0:
        raise BuildError(failure(argv, done))
    return done.stdout


def failure(argv: Sequence[Argument], done: Completed) -> str:
    """A text about a failed program: the command, its exit code, and its last output lines."""
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-15:]
    text = f"{' '.join(os.fspath(word) for word in argv)}: exit code {done.returncode}"
    return text + "".join(f"\n    {line}" for line in said)


def missing(programs: Mapping[str, str]) -> Mapping[str, str]:
    """Those of `programs` (name -> Debian package) that this machine lacks."""
    # Administrators' tools live in sbin, which a plain user's PATH may lack.
    path = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
    return {name: deb for name, deb in programs.items() if not shutil.which(name, path=path)}


def demand(programs: Mapping[str, str]) -> None:
    """Raise `BuildError` with the packages to install if any of `programs` is missing."""
    packages = sorted(set(missing(programs).values()))
    if packages:
        raise BuildError(f"missing on this machine: apt-get install {' '.join(packages)}")
