"""Read the kernel's current state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..model import HostState, IPNetwork
from . import nftables

if TYPE_CHECKING:
    from .netlink import Kernel


def observe_kernel(
    kernel: Kernel, with_nftables: bool, near: Iterable[IPNetwork] | None
) -> HostState:
    """The kernel's part of the snapshot; `with_nftables` costs one run of nft.

    With `near` None all routes are read.  Otherwise those that a plan can depend on, where `near`
    are the networks that it has in a NIC's table besides the host's own.
    """
    from .netlink import read_sysctls

    links = kernel.links()
    addresses = kernel.addresses()
    return HostState(
        links=links,
        addresses=addresses,
        routes=kernel.routes() if near is None else kernel.needed_routes(addresses, near),
        rules=kernel.rules(),
        neighbours=kernel.neighbours(),
        sysctls=read_sysctls(link.name for link in links),
        nftables=nftables.loaded_checksum() if with_nftables else None,
    )


def observe_ours(kernel: Kernel, before: HostState) -> HostState:
    """`before` with only those parts read again that an apply may have changed."""
    from .netlink import read_sysctls

    links = kernel.links()
    return replace(
        before,
        links=links,
        routes=kernel.our_routes(),
        rules=kernel.rules(),
        sysctls=read_sysctls(link.name for link in links),
        nftables=None if before.nftables is None else nftables.loaded_checksum(),
    )
