"""The order of operations, which is what keeps packets from being lost."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from cc_source_routing.kernel.diff import (
    AddRule,
    DeleteRoute,
    DeleteRule,
    Footprint,
    ReplaceRoute,
    SetGroup,
    SetSysctl,
    diff,
    present,
    wanted,
)
from cc_source_routing.model import (
    OUR_GROUP,
    PROTO_STATIC,
    Previous,
    Route,
    Rule,
    Stanza,
    rule_order,
)
from cc_source_routing.plan.build import build_plan

from .hosts import SEED

PLAN = build_plan(Stanza(), SEED)
WANT = wanted(PLAN, SEED)


def kernel_after(plan, state):
    links = tuple(
        link._replace(group=OUR_GROUP) if plan.nic(link.name) else link for link in state.links
    )
    return replace(
        state, links=links, routes=(*state.routes, *plan.routes), rules=(*state.rules, *plan.rules)
    )


def test_a_first_apply_sets_groups_then_fills_tables_then_adds_rules():
    operations = diff(WANT, present(SEED, PLAN))
    kinds = [type(operation) for operation in operations]
    assert kinds == sorted(kinds, key=[SetGroup, ReplaceRoute, AddRule].index)
    added = [operation.rule for operation in operations if isinstance(operation, AddRule)]
    priorities = [rule.priority for rule in added]
    assert priorities == sorted(priorities), "no main's word before the own tables'"


def test_a_second_apply_has_nothing_to_do():
    state = kernel_after(PLAN, SEED)
    assert diff(wanted(PLAN, state), present(state, PLAN)) == ()


def test_remove_takes_rules_before_routes_and_gives_the_group_back_last():
    state = replace(kernel_after(PLAN, SEED), previous=Previous(groups={"ens4": 7}))
    empty = build_plan(Stanza(enabled=False), state)
    operations = diff(wanted(empty, state), present(state, empty))
    kinds = [type(operation) for operation in operations]
    assert kinds == sorted(kinds, key=[DeleteRule, DeleteRoute, SetGroup].index)
    deleted = [o.rule.priority for o in operations if isinstance(o, DeleteRule)]
    assert deleted == sorted(deleted, reverse=True)
    assert operations[-2:] == (SetGroup("ens3", 0), SetGroup("ens4", 7))


def test_new_rules_come_before_old_ones_go():
    old = Rule(4, 5030, 900, src=ip_network("10.9.9.9/32"), protocol=83)
    state = replace(SEED, rules=(old,))
    operations = diff(WANT, present(state, PLAN))
    assert operations[-1] == DeleteRule(old)


def test_a_changed_route_is_replaced_in_place_not_deleted():
    first = PLAN.routes[0]
    stale = first._replace(gateway=None, scope=253)
    state = kernel_after(PLAN, SEED)
    state = replace(state, routes=tuple(stale if r == first else r for r in state.routes))
    assert diff(WANT, present(state, PLAN)) == (ReplaceRoute(first),)


def test_a_rule_that_networkd_adopted_is_kept_as_it_is():
    state = kernel_after(PLAN, SEED)
    adopted = tuple(rule._replace(protocol=PROTO_STATIC) for rule in state.rules)
    assert diff(WANT, present(replace(state, rules=adopted), PLAN)) == ()


def test_networkds_rules_of_an_apply_that_was_killed_before_it_saved_anything_are_removed():
    """Any first part of them, since that is as far as it may have come."""
    state = kernel_after(PLAN, SEED)
    rules = [rule._replace(protocol=PROTO_STATIC) for rule in sorted(state.rules, key=rule_order)]
    off = build_plan(Stanza(enabled=False), SEED)
    for count in range(len(rules)):
        left = replace(state, rules=tuple(rules[:count]))
        operations = diff(wanted(off, left), present(left, off))
        assert {o.rule for o in operations if isinstance(o, DeleteRule)} == set(rules[:count])


def test_a_second_copy_of_a_rule_is_removed():
    state = kernel_after(PLAN, SEED)
    twice = PLAN.rules[1]._replace(protocol=PROTO_STATIC)
    state = replace(state, rules=(*state.rules, twice))
    assert diff(WANT, present(state, PLAN)) == (DeleteRule(twice),)


def test_what_is_not_ours_is_not_even_seen():
    foreign = (
        Rule(4, 100, 42, src=ip_network("10.13.96.161/32"), protocol=3),
        Rule(4, 5030, 501, src=ip_network("10.0.0.0/8"), protocol=3),
        Rule(4, 32766, 254, protocol=2),
    )
    state = kernel_after(PLAN, SEED)
    state = replace(
        state,
        rules=(*state.rules, *foreign),
        routes=(*state.routes, Route(501, ip_network("9.0.0.0/8"), "ens4", protocol=4)),
    )
    assert diff(WANT, present(state, PLAN)) == ()


def test_rp_filter_is_set_on_managed_nics_and_given_back():
    state = replace(SEED, sysctls={(dev, "rp_filter"): 1 for dev in ("ens3", "ens4", "all")})
    plan = build_plan(Stanza(rp_filter="loose"), state)
    operations = diff(wanted(plan, state), present(state, plan))
    assert (
        SetSysctl("ens3", "rp_filter", 2) in operations
        and SetSysctl("ens4", "rp_filter", 2) in operations
    )
    changed = {(dev, "rp_filter"): 2 for dev in ("ens3", "ens4")}
    after = replace(state, sysctls=changed, previous=Previous(sysctls={key: 1 for key in changed}))
    plan = build_plan(Stanza(), after)
    assert SetSysctl("ens3", "rp_filter", 1) in diff(wanted(plan, after), present(after, plan))


routes = st.builds(
    Route,
    table=st.sampled_from([500, 501]),
    dst=st.sampled_from(
        [ip_network("10.0.0.0/8"), ip_network("10.1.0.0/16"), ip_network("0.0.0.0/0")]
    ),
    dev=st.sampled_from(["a", "b"]),
    protocol=st.just(83),
)
rules = st.builds(
    Rule,
    family=st.sampled_from([4, 6]),
    priority=st.sampled_from([5010, 5030]),
    table=st.sampled_from([500, 501]),
    protocol=st.sampled_from([83, 4]),
)


def one_per_key(found):
    return frozenset({(r.table, r.dst, r.metric): r for r in found}.values())


@settings(max_examples=200)
@given(st.frozensets(routes), st.frozensets(routes), st.frozensets(rules), st.frozensets(rules))
def test_running_the_operations_always_leads_to_the_wanted_state(r_want, r_have, u_want, u_have):
    want = Footprint(one_per_key(r_want), frozenset({r.key: r for r in u_want}.values()))
    have = Footprint(one_per_key(r_have), u_have)
    table = {(r.table, r.dst, r.metric): r for r in have.routes}
    present_rules = list(have.rules)
    for operation in diff(want, have):
        if isinstance(operation, ReplaceRoute):
            route = operation.route
            table[route.table, route.dst, route.metric] = route
        elif isinstance(operation, DeleteRoute):
            route = operation.route
            del table[route.table, route.dst, route.metric]
        elif isinstance(operation, AddRule):
            present_rules.append(operation.rule)
        elif isinstance(operation, DeleteRule):
            present_rules.remove(operation.rule)
    assert frozenset(table.values()) == want.routes
    assert Counter(r.key for r in present_rules) == Counter(r.key for r in want.rules)
