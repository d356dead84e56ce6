"""Network namespaces that cannot be left behind.

Names contain the process ID, so that a later session can remove those of a killed one.
Everything uses `ip netns` and `ip -batch`, so that a whole topology costs only a few
processes.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import weakref
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

PREFIX = "csr"
NETNS_DIRECTORY = Path("/run/netns")

# No duplicate address detection (an address may be used at once), no router solicitations,
# and rp_filter off until the test sets it: a new namespace inherits the IPv4 values of the
# host (net.core.devconf_inherit_init_net).
BASE_SYSCTLS: dict[str, int] = {
    "net/ipv4/conf/all/rp_filter": 0,
    "net/ipv4/conf/default/rp_filter": 0,
    "net/ipv4/conf/all/forwarding": 0,
    "net/ipv4/conf/default/forwarding": 0,
    "net/ipv4/conf/all/accept_redirects": 0,
    "net/ipv4/conf/default/accept_redirects": 0,
    "net/ipv4/conf/all/send_redirects": 0,
    "net/ipv4/conf/default/send_redirects": 0,
    "net/ipv4/ping_group_range": "0 2147483647",  # type: ignore[dict-item]
    "net/ipv6/conf/all/accept_dad": 0,
    "net/ipv6/conf/default/accept_dad": 0,
    "net/ipv6/conf/default/dad_transmits": 0,
    "net/ipv6/conf/default/router_solicitations": 0,
    "net/ipv6/conf/all/accept_redirects": 0,
    "net/ipv6/conf/default/accept_redirects": 0,
    "net/ipv6/conf/default/accept_ra": 0,
}


class LabError(Exception):
    """A command of the lab itself failed, not the code under test."""


class Lab:
    """Uniquely named network namespaces, which the test knows under its own short names.

    A context manager; the garbage collector and the exit of Python also clean it up.
    """

    def __init__(self) -> None:
        self.prefix = f"{PREFIX}-{os.getpid()}-{secrets.token_hex(2)}"
        self._names: set[str] = set()
        self._processes: list[subprocess.Popen[Any]] = []
        self._finalizer = weakref.finalize(self, _clean, self._names, self._processes)

    def __enter__(self) -> Lab:  # noqa: PYI034 - Self is not in Python 3.9
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes in the namespaces and delete these; safe to call twice."""
        self._finalizer()

    def name(self, short: str) -> str:
        """The full name of `short` for `ip netns`."""
        return f"{self.prefix}-{short}"

    def add(self, *shorts: str) -> None:
        """Create namespaces, with lo up and quiet IPv6."""
        for short in shorts:
            full = self.name(short)
            self._names.add(full)
            _run(["ip", "netns", "add", full])
            self.sysctl(short, BASE_SYSCTLS)
            _run(["ip", "-n", full, "link", "set", "lo", "up"])

    def delete(self, short: str) -> None:
        """Delete one namespace before the others."""
        full = self.name(short)
        _clean({full}, [])
        self._names.discard(full)

    def argv(self, short: str, *argv: str) -> list[str]:
        """The command line that runs `argv` inside."""
        return ["ip", "netns", "exec", self.name(short), *argv]

    def run(
        self,
        short: str,
        *argv: str,
        check: bool = True,
        timeout: float = 120,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside; with `check` a failure is a `LabError` with all output."""
        return _run(self.argv(short, *argv), check=check, timeout=timeout, stdin=stdin, env=env)

    def ip(self, short: str, *argv: str, check: bool = True) -> str:
        """`ip ARGV` inside; its output."""
        return _run(["ip", "-n", self.name(short), *argv], check=check).stdout

    def batch(self, short: str, lines: Iterable[str]) -> None:
        """Run many `ip` commands in one process; the first that fails ends it.

        A line may begin with ``-6``, which `ip -batch` itself does not support: each
        sequence of such lines runs in a separate process.
        """
        for flag, run in groupby(lines, key=lambda line: "-6" if line.startswith("-6 ") else "-0"):
            script = "".join(line.removeprefix("-6 ") + "\n" for line in run)
            family = ["-6"] if flag == "-6" else []
            _run(["ip", "-n", self.name(short), *family, "-batch", "-"], stdin=script)

    def sysctl(self, short: str, values: Mapping[str, Any]) -> None:
        """Set sysctls; keys are paths below /proc/sys."""
        script = "".join(f"echo '{value}' > '/proc/sys/{key}'\n" for key, value in values.items())
        self.run(short, "sh", "-e", stdin=script)

    def read_sysctl(self, short: str, key: str) -> str:
        return self.run(short, "cat", f"/proc/sys/{key}").stdout.strip()

    def nft(self, short: str, ruleset: str) -> None:
        self.run(short, "nft", "-f", "-", stdin=ruleset)

    def popen(self, short: str, *argv: str, **options: Any) -> subprocess.Popen[Any]:
        """Start a command inside; the lab ends it when it closes."""
        process = subprocess.Popen(self.argv(short, *argv), **options)
        self._processes.append(process)
        return process


def reap() -> None:
    """Delete the namespaces of killed sessions: ours by name, without a running process."""
    if not NETNS_DIRECTORY.is_dir():
        return
    for path in NETNS_DIRECTORY.iterdir():
        match = re.match(rf"{PREFIX}-(\d+)-[0-9a-f]{{4}}-", path.name)
        if match and not Path("/proc", match.group(1)).exists():
            _run(["ip", "netns", "del", path.name], check=False)


def _run(
    argv: list[str],
    check: bool = True,
    timeout: float = 120,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        argv,
        input=stdin,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
        env=None if env is None else {**os.environ, **env},
    )
    if check and done.returncode:
        raise LabError(
            f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
            + (f"--- stdin ---\n{stdin}" if stdin else "")
        )
    return done


def _clean(names: set[str], processes: list[subprocess.Popen[Any]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()
    processes.clear()
    for name in sorted(names):
        # Only processes that a test started in its namespace and did not end are in there.
        inside = _run(["ip", "netns", "pids", name], check=False).stdout.split()
        for pid in inside:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass
        _run(["ip", "netns", "del", name], check=False)
    names.clear()
