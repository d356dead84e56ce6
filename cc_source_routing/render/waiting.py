"""NICs that are ours but not planned just now: what was written for them stays.

At a boot an apply may come before the network manager, and during a flap a NIC
has no address.  Its files taken away and written again a second later would
make the manager configure it twice, or cost the hooks their fast path.  Pure.
"""

from __future__ import annotations

from typing import FrozenSet

from ..model import PASSING_REASONS, RoutingPlan


def waiting_nics(plan: RoutingPlan) -> FrozenSet[str]:
    """Names of the NICs that only wait for a link, an address or a sibling."""
    return frozenset(name for name, why in plan.unserved.items() if why in PASSING_REASONS)
