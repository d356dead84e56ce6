"""The exceptions of this package, one class for each origin of the fault.

Every message is one sentence that names the key, file or interface at fault; the
command line prints it unchanged.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence, Tuple


class SourceRoutingError(Exception):
    """Base of all errors whose message is for the user."""


class Fault(NamedTuple):
    """One thing wrong with a stanza."""

    path: str
    """Dotted path of the key, for example ``interfaces.ens4.table``; empty for the whole."""
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class StanzaError(SourceRoutingError):
    """The user's stanza is invalid; holds every fault, not only the first."""

    def __init__(self, faults: Sequence[Fault]):
        self.faults: Tuple[Fault, ...] = tuple(faults)
        super().__init__("; ".join(str(fault) for fault in self.faults))


class DiscoveryError(SourceRoutingError):
    """The environment could not be read (metadata, leases, netlink dump)."""


class PlanError(SourceRoutingError):
    """Stanza and host state contradict each other (a table that is already in use)."""


class ApplyError(SourceRoutingError):
    """The kernel refused an operation; earlier operations were rolled back."""

    def __init__(self, message: str, errno: int = 0):
        self.errno = errno
        super().__init__(message)


class VerifyError(SourceRoutingError):
    """After an apply the kernel's state differs from the plan."""

    def __init__(self, deviations: Sequence[str]):
        self.deviations: Tuple[str, ...] = tuple(deviations)
        super().__init__("; ".join(self.deviations))


class CommandError(SourceRoutingError):
    """A command failed, is missing, or took too long."""


class FileError(SourceRoutingError):
    """A file could not be read or written."""
