"""What the kernel announces, in words; what it repeats is no news."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface

import pytest

from cc_source_routing.cli.narrate import Narrator
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
def narrator():
    state = replace(SEED, routes=(*SEED.routes, *PLAN.routes), rules=(*SEED.rules, *PLAN.rules))
    return Narrator(state, PLAN)


def gone(thing):
    return Change(True, thing)


def there(thing):
    return Change(False, thing)


def test_what_is_known_is_not_told_again(narrator):
    for thing in (*PLAN.rules, *PLAN.routes, *SEED.addresses):
        assert narrator.describe(there(thing)) is None


def test_each_loss_is_told_once_with_what_it_means(narrator):
    told = narrator.describe(gone(REPLIES))
    assert told.meaning == "replies of 10.13.96.161 may leave by another NIC than ens4"
    assert narrator.describe(gone(REPLIES)) is None
    assert narrator.describe(there(REPLIES)).meaning == ""
    assert narrator.describe(gone(DEFAULT)).meaning == "10.13.96.161 cannot go by it"
    assert narrator.describe(gone(BOUND)).meaning == "ens4 needs it"


def test_who_has_set_a_rule_does_not_make_it_another(narrator):
    """systemd-networkd takes equal rules over and says that they are its own."""
    assert narrator.describe(there(REPLIES._replace(protocol=4))) is None


@pytest.mark.parametrize(
    ("priority", "meaning"),
    [(100, "it is asked before ours"), (5010, "among ours, and not planned"), (30000, "")],
)
def test_a_rule_of_somebody_else_is_told_by_its_place(narrator, priority, meaning):
    rule = Rule(4, priority, 77, src=REPLIES.src)
    assert narrator.describe(there(rule)).meaning == meaning


def test_a_tentative_address_is_told_again_when_it_may_be_used(narrator):
    address = Address("ens4", ip_interface("2001:db8::4/64"), tentative=True)
    assert narrator.describe(there(address)).meaning == "to be served when it may be used"
    assert (
        narrator.describe(there(address._replace(tentative=False))).meaning == "not in the plan yet"
    )
    failed = address._replace(failed=True)
    assert narrator.describe(there(failed)).meaning == "somebody else on the link has it"


def test_a_link_that_goes_down_takes_its_ipv4_routes_along_without_a_word(narrator):
    (link,) = (link for link in SEED.links if link.name == "ens4")
    assert "down" in narrator.describe(there(link._replace(up=False))).what
    assert narrator.describe(gone(DEFAULT)) is None
    assert (
        narrator.describe(there(DEFAULT)).what
        == "default via 10.13.96.1 dev ens4 table 501 is there"
    )


def test_routes_of_tables_that_are_not_ours_are_no_business_of_ours(narrator):
    assert (
        narrator.describe(there(route("10.9.0.0/16 via 10.13.96.9", "ens4")._replace(table=77)))
        is None
    )
    assert narrator.describe(there(route("10.9.0.0/16 via 10.13.96.9", "ens4"))) is not None


def test_nothing_of_the_plan_is_told_as_not_planned(narrator):
    bare = Narrator(SEED, PLAN)
    for thing in (*wanted(PLAN, SEED).routes, *wanted(PLAN, SEED).rules):
        assert bare.describe(there(thing)).meaning == ""
