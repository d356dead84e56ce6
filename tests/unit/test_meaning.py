"""What the kernel announces, in words; what it repeats is no news."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface

import pytest

from cc_source_routing.cli.narrate import Known
from cc_source_routing.kernel.diff import wanted
from cc_source_routing.kernel.messages import Change
from cc_source_routing.model import Address, Rule, Stanza
from cc_source_routing.plan.build import build_plan

from .hosts import SEED, route

PLAN = build_plan(Stanza(), SEED)
ENS4 = PLAN.nic("ens4")
(REPLIES,) = (rule for rule in ENS4.rules if rule.priority == 5030)
(BOUND,) = (rule for rule in ENS4.rules if rule.priority == 5035)
DEFAULT = next(one for one in ENS4.routes if one.dst.prefixlen == 0)


@pytest.fixture()
def known():
    state = replace(SEED, routes=(*SEED.routes, *PLAN.routes), rules=(*SEED.rules, *PLAN.rules))
    return Known(state, PLAN)


def gone(thing):
    return Change(True, thing)


def there(thing):
    return Change(False, thing)


def test_what_is_known_is_not_told_again(known):
    for thing in (*PLAN.rules, *PLAN.routes, *SEED.addresses):
        assert known.hear(there(thing)) is None


def test_each_loss_is_told_once_with_what_it_means(known):
    told = known.hear(gone(REPLIES))
    assert told.meaning == "replies of 10.13.96.161 may leave by another NIC than ens4"
    assert known.hear(gone(REPLIES)) is None
    assert known.hear(there(REPLIES)).meaning == ""
    assert known.hear(gone(DEFAULT)).meaning == "10.13.96.161 cannot go by it"
    assert known.hear(gone(BOUND)).meaning == "ens4 needs it"


def test_who_has_set_a_rule_does_not_make_it_another(known):
    """systemd-networkd takes equal rules over and says that they are its own."""
    assert known.hear(there(REPLIES._replace(protocol=4))) is None


@pytest.mark.parametrize(
    ("priority", "meaning"),
    [(100, "it is asked before ours"), (5010, "among ours, and not planned"), (30000, "")],
)
def test_a_rule_of_somebody_else_is_told_by_its_place(known, priority, meaning):
    rule = Rule(4, priority, 77, src=REPLIES.src)
    assert known.hear(there(rule)).meaning == meaning


def test_a_tentative_address_is_told_again_when_it_may_be_used(known):
    address = Address("ens4", ip_interface("2001:db8::4/64"), tentative=True)
    assert known.hear(there(address)).meaning == "to be served when it may be used"
    assert known.hear(there(address._replace(tentative=False))).meaning == "not in the plan yet"
    failed = address._replace(failed=True)
    assert known.hear(there(failed)).meaning == "somebody else on the link has it"


def test_a_link_that_goes_down_takes_its_ipv4_routes_along_without_a_word(known):
    (link,) = (link for link in SEED.links if link.name == "ens4")
    assert "down" in known.hear(there(link._replace(up=False))).what
    assert known.hear(gone(DEFAULT)) is None
    assert known.hear(there(DEFAULT)).what == "default via 10.13.96.1 dev ens4 table 501 is there"


def test_routes_of_tables_that_are_not_ours_are_no_business_of_ours(known):
    assert known.hear(there(route("10.9.0.0/16 via 10.13.96.9", "ens4")._replace(table=77))) is None
    assert known.hear(there(route("10.9.0.0/16 via 10.13.96.9", "ens4"))) is not None


def test_nothing_of_the_plan_is_told_as_not_planned(known):
    bare = Known(SEED, PLAN)
    for thing in (*wanted(PLAN, SEED).routes, *wanted(PLAN, SEED).rules):
        assert bare.hear(there(thing)).meaning == ""
