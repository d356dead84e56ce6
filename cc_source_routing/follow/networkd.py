"""What systemd-networkd leaves undone, and what mends it.  Pure.

networkd 252 (Debian 12) has three faults that nobody else repairs:

- It sets a route before the address that the route needs, when it configures a link again
  under load, and then gives the link up (``ADMIN_STATE=failed``).
- It may lose a leased address when it is told twice to configure a link again, and does
  not notice.
- When it lets go of a lease whose address it has not set yet, it waits for the kernel to
  announce that address's end, which never comes, and never sets the address again.  So the
  kernel is made to announce it: the address is set and taken away.

The state is in ``/run/systemd/netif/links/INDEX`` and ``leases/INDEX`` (sd-network.h).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
from typing import NamedTuple

FAILED, CONFIGURED, UNMANAGED = "failed", "configured", "unmanaged"

GIVEN_UP = "systemd-networkd has given it up; telling it to configure it again"
ADDRESS_GONE = "it holds a lease, but the address is gone; telling systemd-networkd to set it again"
ADDRESS_NOT_SET = (
    "systemd-networkd holds a lease, but does not set its address; setting it and taking it away"
)

# A lease that has just come is not lost yet, and a link that networkd is at work on gets
# some more time.
PATIENCE_SECONDS = 1.0
PATIENCE_AT_WORK_SECONDS = 5.0
# How long networkd may take to set an address once it has heard of its end.
ANSWER_SECONDS = 2.0
# After a remedy the next one for the same link comes later: some faults last.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 600.0


class LeasedAddress(NamedTuple):
    """The address of a DHCPv4 lease as networkd has saved it."""

    interface: IPv4Interface
    lifetime: int | None = None  # seconds; None when the lease does not say


class NetworkdLink(NamedTuple):
    """A link of ours as networkd sees it, and whether the kernel agrees."""

    name: str
    admin_state: str  # networkctl(1); "" when networkd says nothing
    running: bool  # operational state up or unknown
    lease: LeasedAddress | None = None
    has_leased_address: bool = True

    @property
    def lacks_lease(self) -> bool:
        """Whether networkd holds a lease whose address is not on the link."""
        return (
            self.lease is not None
            and self.admin_state != UNMANAGED
            and self.running
            and not self.has_leased_address
        )


class Remedy(NamedTuple):
    """What is to be done about one link."""

    name: str
    reason: str
    # The address to set and take away; None: have networkd configure the link again.
    address: LeasedAddress | None = None


@dataclass
class _Patient:
    """What is remembered of a link that is not well."""

    lacking_since: float | None = None
    freed_at: float | None = None
    pause: float = 0.0
    not_before: float = 0.0


@dataclass
class Mender:
    """Remembers which links are not well, since when, and what has been tried.

    Moments are seconds of a monotonic clock.
    """

    _patients: dict[str, _Patient] = field(default_factory=dict)

    def examine(
        self, now: float, links: Sequence[NetworkdLink]
    ) -> tuple[list[Remedy], float | None]:
        """What to do now, and when to examine again; None when all links are well."""
        remedies: list[Remedy] = []
        moments: list[float] = []
        for link in links:
            remedy, again = self._examine(now, link)
            if remedy is not None:
                remedies.append(remedy)
            if again is not None:
                moments.append(again)
        known = {link.name for link in links}
        self._patients = {name: p for name, p in self._patients.items() if name in known}
        return remedies, min(moments, default=None)

    def _examine(self, now: float, link: NetworkdLink) -> tuple[Remedy | None, float | None]:
        patient = self._patients.setdefault(link.name, _Patient())
        if link.admin_state == FAILED:
            return self._treat(
                now,
                patient,
                Remedy(link.name, GIVEN_UP),
            )
        if not link.lacks_lease:
            patient.lacking_since = patient.freed_at = None
            if link.admin_state == CONFIGURED:
                del self._patients[link.name]
            return None, None
        if patient.lacking_since is None:
            patient.lacking_since = now
        at_work = link.admin_state != CONFIGURED
        patience = PATIENCE_AT_WORK_SECONDS if at_work else PATIENCE_SECONDS
        if patient.freed_at is not None:
            due = patient.freed_at + ANSWER_SECONDS
        else:
            due = patient.lacking_since + patience
        if now < due:
            return None, due
        remedy = Remedy(
            link.name,
            ADDRESS_GONE,
        )
        if at_work and patient.freed_at is None:
            if now < patient.not_before:
                return None, patient.not_before
            patient.freed_at = now
            return Remedy(link.name, ADDRESS_NOT_SET, link.lease), now + ANSWER_SECONDS
        if patient.freed_at is not None:
            # The second half of one remedy: no pause lies between them.
            patient.not_before = min(patient.not_before, now)
        patient.freed_at = None
        return self._treat(now, patient, remedy)

    def _treat(
        self, now: float, patient: _Patient, remedy: Remedy
    ) -> tuple[Remedy | None, float | None]:
        if now < patient.not_before:
            return None, patient.not_before
        patient.pause = min(max(patient.pause * 2, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
        patient.not_before = now + patient.pause
        # What comes of it need not be an event.
        return remedy, patient.not_before
