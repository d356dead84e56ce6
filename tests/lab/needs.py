"""The requirements of tests on the machine.

A test that cannot run fails and names everything that is missing.  So a green run means
that everything ran, on any machine.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

TOOLS = ("ip", "nft", "ping", "unshare", "mount", "sh")


def demand(missing: Sequence[str]) -> None:
    """Fail the running test if `missing` is not empty."""
    if not missing:
        return
    import pytest  # here, since the benchmark uses the lab without it

    pytest.fail("missing here: " + ", ".join(missing), pytrace=False)


@functools.cache
def missing_for_lab() -> tuple[str, ...]:
    """The missing requirements of the lab, found by a trial in a temporary namespace."""
    missing = [f"the program {tool}" for tool in TOOLS if shutil.which(tool) is None]
    if os.geteuid() != 0:
        missing.append("root")
    if missing:
        return tuple(missing)
    trials = {
        "network namespaces (CAP_SYS_ADMIN)": "true",
        "the veth driver": "ip link add veth0 type veth peer name veth1",
        "the bridge driver": "ip link add br0 type bridge",
        "IPv6": "ip -6 address add fd00::1/64 dev lo",
        "policy routing": "ip rule add from 192.0.2.1 lookup 500 && ip -6 rule list",
        "nftables with the netdev family": (
            "ip link set lo up && nft 'add table netdev t; add chain netdev t c "
            '{ type filter hook ingress device "lo" priority 0; }; '
            "add rule netdev t c ip saddr 192.0.2.1 counter drop'"
        ),
        "nftables NAT": "nft 'add table inet t; add chain inet t c "
        "{ type nat hook postrouting priority 100; }; add rule inet t c masquerade'",
    }
    for what, script in trials.items():
        done = subprocess.run(
            ["unshare", "--net", "sh", "-ec", script], capture_output=True, timeout=60, check=False
        )
        if done.returncode:
            missing.append(what)
    if not Path("/dev/net/tun").exists():
        missing.append("/dev/net/tun")
    return tuple(missing)
