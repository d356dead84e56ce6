"""Root trees with real network daemons, built once and never changed.

They are Debian's own packages in a directory under the cache; nothing is
installed on the machine that runs the tests.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from lab import demand

# Every root can run the command under test.
COMMON = (
    *("iproute2", "iputils-ping", "procps", "python3"),
    *("python3-jinja2", "python3-jsonschema", "python3-pyroute2", "python3-yaml"),
)

# The trees that tests use, by name: the suite, and what is in them.
TREES = {
    "ifupdown": ("bookworm", ("ifupdown", "isc-dhcp-client", "dnsmasq-base")),
    "router": ("bookworm", ("radvd", "dnsmasq-base")),
    # The clients that Debian 13 has, and the servers.
    "dhcp-clients": (
        "trixie",
        ("ifupdown", "dhcpcd-base", "network-manager", "dbus", "dnsmasq-base", "udhcpd"),
    ),
    "ifupdown2": ("bookworm", ("ifupdown2",)),
    "strongswan": (
        "bookworm",
        ("strongswan-charon", "strongswan-swanctl", "libcharon-extra-plugins"),
    ),
    "ifupdown-ng": ("bookworm", ("ifupdown-ng",)),
}

# Settings of this machine's apt that its package mirror may need.
_INHERITED = re.compile(
    r'^(Acquire::(?:Check-Valid-Until|Check-Date|https?::Proxy)) "([^"]*)";$', re.MULTILINE
)


def cache() -> Path:
    named = os.environ.get("SOURCE_ROUTING_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(base) / "source-routing"


def root_tree(name: str) -> Path:
    """One of `TREES`, from the cache or built by mmdebstrap (a minute)."""
    suite, packages = TREES[name]
    demand(
        [f"the program {tool}" for tool in ("mmdebstrap", "apt-config") if not shutil.which(tool)]
        + (["root"] if os.geteuid() else [])
    )
    wanted = sorted({*COMMON, *packages})
    digest = hashlib.sha256(" ".join((suite, *wanted)).encode()).hexdigest()[:12]
    directory = cache()
    directory.mkdir(parents=True, exist_ok=True)
    tree = directory / f"daemons-{suite}-{name}-{digest}"
    with open(directory / f".{tree.name}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tree.exists():
            unfinished = tree.with_name(f".{tree.name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            try:
                _bootstrap(suite, wanted, unfinished)
                unfinished.rename(tree)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return tree


def _bootstrap(suite: str, packages: list[str], target: Path) -> None:
    dumped = subprocess.run(
        ["apt-config", "dump"], capture_output=True, text=True, timeout=30, check=True
    ).stdout
    mirror = os.environ.get("SOURCE_ROUTING_MIRROR", "")
    subprocess.run(
        [
            "mmdebstrap",
            "--quiet",
            "--mode=root",
            "--variant=minbase",
            f"--include={','.join(packages)}",
            *(f'--aptopt={key} "{value}"' for key, value in _INHERITED.findall(dumped)),
            # No service is started while it is built.
            '--essential-hook=printf "#!/bin/sh\\nexit 101\\n" >"$1/usr/sbin/policy-rc.d"; '
            'chmod 755 "$1/usr/sbin/policy-rc.d"',
            suite,
            str(target),
            *([mirror] if mirror else []),
        ],
        check=True,
        timeout=1200,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
    )
