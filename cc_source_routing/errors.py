"""The exceptions of this package, one class for each origin of the fault.

Every message is one sentence that names the key, file or interface at fault; the
command line prints it unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

# By the name under which Python looks for it: the package of Debian (and most others), pip's.
_PACKAGES = {
    "jinja2": ("python3-jinja2", "Jinja2"),
    "jsonschema": ("python3-jsonschema", "jsonschema"),
    "pyroute2": ("python3-pyroute2", "pyroute2"),
    "yaml": ("python3-yaml", "PyYAML"),
}


# There may be hundreds, of which the first few tell enough.
NAMED_DEVIATIONS = 3


class SourceRoutingError(Exception):
    """Base of all errors whose message is for the user."""


class Fault(NamedTuple):
    """One thing wrong with a stanza."""

    path: str
    """Dotted path of the key, for example ``interfaces.ens4.table``; empty for the whole."""
    message: str
    line: int | None = None
    """Where it is in the file, from 1; None where there is no file, or no such place in it."""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class StanzaError(SourceRoutingError):
    """The user's stanza is invalid; holds every fault, not only the first."""

    def __init__(self, faults: Sequence[Fault], file: str = ""):
        self.faults: tuple[Fault, ...] = tuple(faults)
        self.lines: tuple[str, ...] = tuple(_located(fault, file) for fault in faults)
        """Each fault as a compiler prints it, ``FILE:LINE: path: message``."""
        super().__init__("; ".join(self.lines))


def _located(fault: Fault, file: str) -> str:
    place = f"{file}:{fault.line}: " if fault.line else f"{file}: "
    return f"{place}{fault}" if file else str(fault)


def stanza_error(message: str, line: int | None = None, path: str = "") -> StanzaError:
    """A `StanzaError` of one fault."""
    return StanzaError([Fault(path, message, line)])


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
        self.deviations: tuple[str, ...] = tuple(deviations)
        named = list(self.deviations[:NAMED_DEVIATIONS])
        if len(self.deviations) > len(named):
            named.append(f"{len(self.deviations) - len(named)} more")
        super().__init__("; ".join(named))


class CommandError(SourceRoutingError):
    """A command failed, is missing, or took too long."""


class FileError(SourceRoutingError):
    """A file could not be read or written."""


def missing_module(error: ModuleNotFoundError) -> str:
    """A sentence that says what to install."""
    name = (error.name or str(error)).partition(".")[0]
    if name not in _PACKAGES:
        return f"the Python module {error.name or error} is missing"
    package, pip = _PACKAGES[name]
    return f"the Python module {name} is missing; install {package} (with pip: {pip})"
