"""NICs that are managed but not planned for the moment: the files written for them stay.

At boot an apply may run before the network manager, and during a flap a NIC has no
address.  Removing its files and writing them again a second later would make the
manager configure it twice, or cost the hooks their fast path.  Pure.
"""

from __future__ import annotations

from ..model import PASSING_REASONS, RoutingPlan


def waiting_nics(plan: RoutingPlan) -> frozenset[str]:
    """Names of the NICs that only wait for a link, an address, a gateway or a sibling."""
    return frozenset(name for name, why in plan.unserved.items() if why in PASSING_REASONS)
