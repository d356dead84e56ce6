"""Place our rules among those of others.  Pure.

`rule_priority` of the stanza is the priority of our first rule.  The kernel gives a rule without a
priority one less than the first rule after local's (fib_default_rule_pref in net/core/fib_rules.c),
so rules that others add without a priority after ours are evaluated before ours.  A full tunnel
(wg-quick) then captures the replies of our addresses, which it does not do when its rules exist
first.  In this case our rules move before the tunnel's, in steps of `STEP`, and back when the
tunnel is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import NamedTuple

from ..model import OUR_PROTOCOL, TABLE_LOCAL, TABLE_MAIN, HostState, Rule
from .host_index import is_specific
from .rules import STAGE_BOUND_DEFAULT

STEP = 100
# A tunnel that restarts before our next run has its rules before our current priority, not before
# the stanza's.
STEPS = 10


class Placement(NamedTuple):
    """The priority of our first rule, and the tunnel rules that it precedes."""

    priority: int
    tunnels: tuple[Rule, ...] = ()


def place(asked: int, families: Iterable[int], state: HostState, nics: Set[str]) -> Placement:
    """The placement of our rules for the requested priority `asked`; `nics` are managed.

    The rules stay at `asked` if a rule that is not a tunnel's is in between: it may precede ours on
    purpose.
    """
    steps = [asked - STEP * step for step in range(STEPS) if asked - STEP * step > STEP]
    tunnels: list[Rule] = []
    for family in families:
        rules = [
            rule
            for rule in state.rules
            if rule.family == family
            and rule.table != TABLE_LOCAL
            and rule.protocol != OUR_PROTOCOL
            and rule.priority < asked
        ]
        for before in steps:
            run = _just_before(before, rules)
            takes_all = any(_is_tunnel(rule, state, nics) for rule in run)
            if takes_all and all(_is_tunnel(r, state, nics) or _is_main_specific(r) for r in run):
                tunnels += run
    if not tunnels:
        return Placement(asked)
    first = min(rule.priority for rule in tunnels)
    places = [step for step in steps if step + STAGE_BOUND_DEFAULT < first]
    if not places:
        return Placement(asked)
    between = {
        rule.key
        for rule in state.rules
        if places[0] <= rule.priority < asked and rule.protocol != OUR_PROTOCOL
    }
    if between - {rule.key for rule in tunnels}:
        return Placement(asked)
    return Placement(places[0], tuple(dict.fromkeys(tunnels)))


def _just_before(priority: int, rules: Sequence[Rule]) -> list[Rule]:
    """The rules at the consecutive priorities just before one."""
    at = {rule.priority: rule for rule in rules}
    run = []
    while priority - 1 in at:
        priority -= 1
        run.append(at[priority])
    return run


def _is_tunnel(rule: Rule, state: HostState, nics: Set[str]) -> bool:
    """Whether a rule sends all unmarked packets to a default that no managed NIC has."""
    if not _matches_all(rule) or rule.suppress_prefixlength is not None or rule.table == TABLE_MAIN:
        return False
    defaults = [
        route
        for route in state.routes
        if route.table == rule.table
        and route.family == rule.family
        and not is_specific(route.dst)
        and route.type == "unicast"
    ]
    return bool(defaults) and all(route.dev not in nics for route in defaults)


def _is_main_specific(rule: Rule) -> bool:
    """Whether a rule is the tunnel's companion: table main without its defaults."""
    return (
        rule.table == TABLE_MAIN and rule.suppress_prefixlength is not None and _matches_all(rule)
    )


def _matches_all(rule: Rule) -> bool:
    if rule.src or rule.dst or rule.oif:
        return False
    inverted = rule.other == (("invert", "1"),)
    return inverted if rule.fwmark else not rule.other
