"""Files of one server that no other should have: `clean` removes and `verify` reports them.

Each is created again where it is needed; the comments name the program that writes it.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NamedTuple

from .chroot import attempt_in


class Trace(NamedTuple):
    """Files of one server, by a glob below the root."""

    pattern: str
    title: str
    text: str = ""  # a basic regular expression; files that do not match are the image's own


FILES: tuple[Trace, ...] = (
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
    # Copies of these give two servers one identity, and one address.  dhcpcd's duid.c and
    # ipv6.c, NetworkManager's nm-core-utils.c and wicked create missing ones.
    Trace("etc/dhcpcd.duid", "a DHCP client's identity (DUID)"),
    Trace("etc/dhcpcd.secret", "the secret of one machine's IPv6 addresses"),
    Trace("var/lib/dhcpcd/duid", "a DHCP client's identity (DUID)"),
    Trace("var/lib/dhcpcd/secret", "the secret of one machine's IPv6 addresses"),
    Trace("var/lib/wicked/duid.xml", "a DHCP client's identity (DUID)"),
    Trace("var/lib/wicked/iaid.xml", "a DHCP client's identity (IAID)"),
    Trace("var/lib/NetworkManager/secret_key", "the secret of one machine's IPv6 addresses"),
    Trace("var/lib/NetworkManager/timestamps", "when one machine's connections were up"),
)

# The network files that cloud-init writes at a server's first boot.  cmd/clean.py lists most
# of them for `clean --configs network` (not in all releases), net/sysconfig.py the others.
_NETWORK = "a former server's network"
_HEADER = "^# Created by cloud-init"
NETWORK: tuple[Trace, ...] = (
    Trace("etc/netplan/50-cloud-init.yaml", _NETWORK),
    Trace("etc/network/interfaces.d/50-cloud-init*", _NETWORK),
    Trace("etc/systemd/network/10-cloud-init-*.network", _NETWORK),
    Trace("etc/NetworkManager/system-connections/cloud-init-*.nmconnection", _NETWORK),
    Trace("etc/NetworkManager/conf.d/99-cloud-init.conf", _NETWORK),
    Trace("etc/NetworkManager/conf.d/30-cloud-init-ip6-addr-gen-mode.conf", _NETWORK),
    Trace("etc/sysconfig/network-scripts/*-*", _NETWORK, _HEADER),
    Trace("etc/sysconfig/network/*-*", _NETWORK, _HEADER),
    # An empty file, or a link to /dev/null, disables renaming and is the image's own.
    Trace("etc/udev/rules.d/70-persistent-net.rules", _NETWORK, "ATTR{address}=="),
    Trace("etc/udev/rules.d/85-persistent-net-cloud-init.rules", _NETWORK),
)


def removal(traces: tuple[Trace, ...]) -> str:
    """A shell script that removes the files of `traces`."""
    lines = ["rm -f -- " + " ".join(f"/{trace.pattern}" for trace in traces if not trace.text)]
    for trace in traces:
        if trace.text:
            lines.append(
                f"for file in /{trace.pattern}; do\n"
                f'    [ ! -f "$file" ] || ! grep -q {shlex.quote(trace.text)} "$file" '
                '|| rm -f -- "$file"\ndone'
            )
    return "\n".join(lines) + "\n"


def sentences(root: Path, traces: tuple[Trace, ...]) -> list[str]:
    """A sentence for each of `traces` that has files in `root`."""
    found = []
    for trace in traces:
        there = sorted(root.glob(trace.pattern))
        if there and trace.text:
            # With the root's own grep, so that its links do not lead to the host's files.
            inside = [f"/{path.relative_to(root)}" for path in there]
            done = attempt_in(root, ["grep", "-ls", trace.text, "--", *inside, "/dev/null"])
            there = [root / path[1:] for path in done.stdout.splitlines()]
        if there:
            more = f" and {len(there) - 1} more" if len(there) > 1 else ""
            found.append(f"/{there[0].relative_to(root)}{more}: {trace.title} is left in the image")
    return found
