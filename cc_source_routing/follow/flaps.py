"""Links that have gone down a moment ago: what is there for them stays for a while.  Pure.

A flap is over within seconds.  Until then the other NICs keep their routes to its networks,
and it finds its rules again, so that no packet takes another way in between.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..model import LINK_DOWN, NO_ADDRESS, OUR_GROUP, HostState, RoutingPlan

GRACE_SECONDS = 3.0


class Flaps:
    """Remembers since when served NICs are away.  Moments are of a monotonic clock."""

    def __init__(self) -> None:
        self._served: dict[str, int] | None = None  # name -> ifindex; None: not known yet
        self._away: dict[str, float] = {}  # name -> since when

    def grace(self, now: float, plan: RoutingPlan, state: HostState) -> float | None:
        """Until when nothing may be taken away; None: what is not in `plan` goes now."""
        if self._served is None:
            # An earlier process served those that are in our group.
            ours = (link for link in state.links if link.group == OUR_GROUP)
            self._served = {link.name: link.ifindex for link in ours}
        running = {link.name: link.running for link in state.links}
        indices = {link.name: link.ifindex for link in state.links}
        flapping = {
            name
            for name, ifindex in self._served.items()
            if indices.get(name) == ifindex and _is_flap(plan.unserved, name, running[name])
        }
        self._away = {name: self._away.get(name, now) for name in flapping}
        moments = [since + GRACE_SECONDS for since in self._away.values()]
        return max((moment for moment in moments if moment > now), default=None)

    def applied(self, plan: RoutingPlan, state: HostState) -> None:
        """`plan` is in force: its NICs are those that may flap from now on."""
        served = {nic.name for nic in plan.nics} | self._away.keys()
        self._served = {link.name: link.ifindex for link in state.links if link.name in served}


def _is_flap(unserved: Mapping[str, str], name: str, running: bool) -> bool:
    """Whether a NIC without a place in the plan is one whose link is away.

    One that has lost its addresses with its link up has lost its lease: that is no flap.
    """
    reason = unserved.get(name)
    return reason == LINK_DOWN or (reason == NO_ADDRESS and not running)
