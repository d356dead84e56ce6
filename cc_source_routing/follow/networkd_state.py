"""What systemd-networkd says of links, and the remedies for what it leaves undone."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Interface
from pathlib import Path

from ..errors import FileError
from ..files.commands import run
from ..files.read import read_file
from ..model import HostState
from ..text.sections import assignments
from .networkd import LeasedAddress, NetworkdLink, Remedy

# Private to networkd, but unchanged from 247 (Debian 11) to 257; see sd-network.c.
LINKS, LEASES = "/run/systemd/netif/links", "/run/systemd/netif/leases"
COMMAND_SECONDS = 10.0


def networkd_links(root: Path, state: HostState, names: Collection[str]) -> list[NetworkdLink]:
    """The links called `names` that networkd knows; none where it does not run."""
    found = []
    for link in state.links:
        if link.name not in names:
            continue
        said = _assignments(root, f"{LINKS}/{link.ifindex}")
        if not said:
            continue
        lease = _lease(_assignments(root, f"{LEASES}/{link.ifindex}"))
        own = {address.ip for address in state.addresses if address.dev == link.name}
        found.append(
            NetworkdLink(
                link.name,
                said.get("ADMIN_STATE", ""),
                link.running,
                lease,
                lease is None or lease.interface.ip in own,
            )
        )
    return found


def apply_remedy(remedy: Remedy) -> None:
    """Mend one link of the running system; raises `CommandError`."""
    if remedy.address is None:
        run(("networkctl", "reconfigure", remedy.name), timeout=COMMAND_SECONDS)
        return
    address = str(remedy.address.interface)
    lifetime = str(remedy.address.lifetime or "forever")
    # With the lease's own values: networkd sets those that it has seen last.
    limits = ("valid_lft", lifetime, "preferred_lft", lifetime)
    device = ("dev", remedy.name)
    run(
        ("ip", "address", "add", address, "broadcast", "+", *device, *limits),
        timeout=COMMAND_SECONDS,
    )
    run(("ip", "address", "del", address, *device), timeout=COMMAND_SECONDS)


def _lease(said: dict[str, str]) -> LeasedAddress | None:
    try:
        interface = IPv4Interface((said["ADDRESS"], said.get("NETMASK", "32")))
    except (KeyError, ValueError):
        return None
    lifetime = said.get("LIFETIME", "")
    return LeasedAddress(interface, int(lifetime) if lifetime.isdecimal() else None)


def _assignments(root: Path, path: str) -> dict[str, str]:
    """A file of KEY=VALUE lines; {} where there is none."""
    try:
        file = read_file(root, path)
    except FileError:
        return {}
    text = file.data.decode("utf-8", "replace") if file is not None else ""
    return {key: value for _section, key, value in assignments(text)}
