"""The errors of this package, by whose fault they are.

Every message is one sentence that names the key, file or interface at fault;
the command line prints it as it stands.  This module knows nothing else.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence, Tuple


class SourceRoutingError(Exception):
    """Base of all errors that a user is meant to read."""


class Fault(NamedTuple):
    """One thing wrong with a stanza."""

    path: str
    """Dotted path of the key, for example ``interfaces.ens4.table``; empty for the whole."""
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class StanzaError(SourceRoutingError):
    """The user's stanza is wrong; carries every fault, not only the first."""

    def __init__(self, faults: Sequence[Fault]):
        self.faults: Tuple[Fault, ...] = tuple(faults)
        super().__init__("; ".join(str(fault) for fault in self.faults))


class DiscoveryError(SourceRoutingError):
    """The environment could not be read (metadata, leases, netlink dump)."""


class PlanError(SourceRoutingError):
    """Stanza and host state contradict each other (a table taken by somebody else)."""


class ApplyError(SourceRoutingError):
    """The kernel refused an operation; what had been done was taken back."""

    def __init__(self, message: str, errno: int = 0):
        self.errno = errno
        super().__init__(message)


class VerifyError(SourceRoutingError):
    """After an apply the kernel does not read back as planned."""

    def __init__(self, deviations: Sequence[str]):
        self.deviations: Tuple[str, ...] = tuple(deviations)
        super().__init__("; ".join(self.deviations))


class CommandError(SourceRoutingError):
    """A command failed, was not there, or took too long."""


class FileError(SourceRoutingError):
    """A file could not be read or written."""
