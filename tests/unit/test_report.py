"""What an apply says at the end: the line that hooks put into the journal."""

from __future__ import annotations

from dataclasses import replace

from cc_source_routing.cli.views import outcome_text
from cc_source_routing.engine import Outcome, View
from cc_source_routing.kernel.apply import operations_for
from cc_source_routing.model import TABLE_LOCAL, Rule, Stanza
from cc_source_routing.plan.build import build_plan

from .hosts import SEED


def last_line(state) -> str:
    plan = build_plan(Stanza(), state)
    operations = operations_for(plan, state)
    return outcome_text(Outcome(View(Stanza(), state, plan, operations), operations)).split("\n")[
        -1
    ]


def served():
    """The seed's host after an apply."""
    plan = build_plan(Stanza(), SEED)
    return replace(
        SEED,
        links=tuple(
            link._replace(group=plan.group) if plan.nic(link.name) else link for link in SEED.links
        ),
        rules=(Rule(4, 0, TABLE_LOCAL), *plan.rules),
        routes=(*SEED.routes, *plan.routes),
        saved_tables={nic.name: nic.table for nic in plan.nics},
    )


def test_it_tells_by_which_gateways_nics_go_now_and_how_they_are_known():
    assert last_line(SEED).endswith(
        "; ens3 by 162.253.43.1 (default route via ens3 in table main)"
        "; ens4 by 10.13.96.1 (only gateway of any route via ens4 (10.0.0.0/8))."
    )


def test_nics_that_stay_as_they_are_are_not_mentioned():
    state = served()
    default = next(r for r in state.routes if r.dev == "ens4" and r.dst.prefixlen == 0)
    flushed = replace(state, routes=tuple(r for r in state.routes if r is not default))
    assert last_line(flushed) == (
        "1 change; ens4 by 10.13.96.1 (only gateway of any route via ens4 (10.0.0.0/8))."
    )
    assert last_line(state) == "Nothing to change: all is as planned."


def test_it_tells_which_nic_is_served_no_more_and_why():
    state = served()
    links = tuple(link._replace(up=False) if link.name == "ens4" else link for link in state.links)
    assert last_line(replace(state, links=links)).endswith("; ens4 no more (link is down).")
