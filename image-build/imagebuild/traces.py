"""What one server leaves behind and no other one should find: `clean` takes it, `verify` tells it.

All of it comes back by itself where it is needed: who writes it is beside it.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import List, NamedTuple, Tuple

from .chroot import attempt_in


class Trace(NamedTuple):
    """Files of one server, by a glob below the root."""

    pattern: str
    title: str
    text: str = ""  # a basic regular expression; files without it are the image's own


FILES: Tuple[Trace, ...] = (
    # ssh-keygen at boot, or cloud-init's module ssh.
    Trace("etc/ssh/ssh_host_*", "an SSH host key"),
    Trace("root/.bash_history", "root's shell history"),
    # systemd-random-seed.service.
    Trace("var/lib/systemd/random-seed", "a random seed"),
    # Each client at its next lease.
    Trace("var/lib/dhcp/*.leases", "DHCP leases"),
    Trace("var/lib/dhclient/*.lease*", "DHCP leases"),
    Trace("var/lib/dhcpcd/*.lease*", "DHCP leases"),
    Trace("var/lib/NetworkManager/*.lease", "DHCP leases"),
    Trace("var/lib/wicked/lease-*.xml", "DHCP leases"),
    # A copy of these gives two servers one identity, and one address: dhcpcd's duid.c and
    # ipv6.c, NetworkManager's nm-core-utils.c and wicked make new ones where there are none.
    Trace("etc/dhcpcd.duid", "a DHCP client's identity (DUID)"),
    Trace("etc/dhcpcd.secret", "the secret of one machine's IPv6 addresses"),
    Trace("var/lib/dhcpcd/duid", "a DHCP client's identity (DUID)"),
    Trace("var/lib/dhcpcd/secret", "the secret of one machine's IPv6 addresses"),
    Trace("var/lib/wicked/duid.xml", "a DHCP client's identity (DUID)"),
    Trace("var/lib/wicked/iaid.xml", "a DHCP client's identity (IAID)"),
    Trace("var/lib/NetworkManager/secret_key", "the secret of one machine's IPv6 addresses"),
    Trace("var/lib/NetworkManager/timestamps", "when one machine's connections were up"),
)

# What cloud-init makes of a server's network at its first boot; cmd/clean.py has most of
# them for `clean --configs network` (not in all releases), net/sysconfig.py the others.
_NETWORK = "a former server's network"
_HEADER = "^# Created by cloud-init"
NETWORK: Tuple[Trace, ...] = (
    Trace("etc/netplan/50-cloud-init.yaml", _NETWORK),
    Trace("etc/network/interfaces.d/50-cloud-init*", _NETWORK),
    Trace("etc/systemd/network/10-cloud-init-*.network", _NETWORK),
    Trace("etc/NetworkManager/system-connections/cloud-init-*.nmconnection", _NETWORK),
    Trace("etc/NetworkManager/conf.d/99-cloud-init.conf", _NETWORK),
    Trace("etc/NetworkManager/conf.d/30-cloud-init-ip6-addr-gen-mode.conf", _NETWORK),
    Trace("etc/sysconfig/network-scripts/*-*", _NETWORK, _HEADER),
    Trace("etc/sysconfig/network/*-*", _NETWORK, _HEADER),
    # An empty one, or a link to /dev/null, switches renaming off and is the image's own.
    Trace("etc/udev/rules.d/70-persistent-net.rules", _NETWORK, "ATTR{address}=="),
    Trace("etc/udev/rules.d/85-persistent-net-cloud-init.rules", _NETWORK),
)


def removal(traces: Tuple[Trace, ...]) -> str:
    """A shell script that removes them."""
    lines = ["rm -f -- " + " ".join(f"/{trace.pattern}" for trace in traces if not trace.text)]
    for trace in traces:
        if trace.text:
            lines.append(
                f"for file in /{trace.pattern}; do\n"
                f'    [ ! -f "$file" ] || ! grep -q {shlex.quote(trace.text)} "$file" '
                '|| rm -f -- "$file"\ndone'
            )
    return "\n".join(lines) + "\n"


def told(root: Path, traces: Tuple[Trace, ...]) -> List[str]:
    """A sentence for each kind of them that is there."""
    found = []
    for trace in traces:
        there = sorted(root.glob(trace.pattern))
        if there and trace.text:
            # By the root's own grep: its links are not to lead to the host's files.
            inside = [f"/{path.relative_to(root)}" for path in there]
            done = attempt_in(root, ["grep", "-ls", trace.text, "--", *inside, "/dev/null"])
            there = [root / path[1:] for path in done.stdout.splitlines()]
        if there:
            more = f" and {len(there) - 1} more" if len(there) > 1 else ""
            found.append(f"/{there[0].relative_to(root)}{more}: {trace.title} is left in the image")
    return found
