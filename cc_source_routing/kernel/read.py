"""Read the kernel's current state."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..model import HostState
from . import nftables

if TYPE_CHECKING:
    from .netlink import Kernel


def observe_kernel(kernel: Kernel, with_nftables: bool) -> HostState:
    """The kernel's part of the snapshot; `with_nftables` costs one run of nft."""
    from .netlink import read_sysctls

    links = kernel.links()
    return HostState(
        links=links,
        addresses=kernel.addresses(),
        routes=kernel.routes(),
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
