"""What is decided, and what is left as a question that only the wire can answer."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import ip_address

import pytest

from cc_source_routing import engine
from cc_source_routing.model import Previous, PreviousGateway, Stanza
from cc_source_routing.plan import decide as module
from cc_source_routing.plan.decide import decide
from cc_source_routing.plan.gateway import GUESS

from .hosts import SEED, host

SILENT = host({"ens3": ["192.0.2.10/24"], "ens4": ["198.51.100.10/24"]})
FIRST = ("ens3", ip_address("192.0.2.1"))
SECOND = ("ens4", ip_address("198.51.100.1"))


def test_where_nothing_names_a_gateway_the_first_address_is_an_open_question():
    assert decide(Stanza(), SILENT).probes == (FIRST, SECOND)


def test_an_answer_closes_the_question_whatever_it_is():
    answered = replace(SILENT, probes={FIRST: True, SECOND: False})
    decisions = decide(Stanza(), answered)
    assert decisions.probes == ()
    assert decisions.gateways["ens3"][4].source == GUESS
    assert decisions.gateways["ens4"] == {}


@pytest.mark.parametrize("guess", ["never", "always"])
def test_who_never_or_always_guesses_asks_nobody(guess: str):
    assert decide(Stanza(gateway_guess=guess), SILENT).probes == ()


def test_a_gateway_that_was_known_at_an_earlier_run_is_not_doubted():
    mac = next(link.mac for link in SILENT.links if link.name == "ens4")
    known = PreviousGateway("lease", ip_address("198.51.100.9"), mac)
    earlier = Previous(gateways={("ens4", 4): known})
    assert decide(Stanza(), replace(SILENT, previous=earlier)).probes == (FIRST,)


def test_a_stanza_that_is_off_asks_nothing():
    assert decide(Stanza(enabled=False), SILENT).probes == ()


def test_the_ladder_is_walked_once_for_each_nic_and_family_of_a_round(monkeypatch):
    walked = Counter()

    def count(question):
        walked[question.link.name, question.family] += 1
        return choose(question)

    choose = module.choose_gateway
    monkeypatch.setattr(module, "choose_gateway", count)
    planned = engine.plan_with_answers(None, Stanza(), SEED)  # type: ignore[arg-type]
    assert len(planned.plan.nics) == 2
    assert walked and set(walked.values()) == {1}


def test_an_answer_from_the_wire_costs_one_more_round():
    class Wire:
        """A link on which only the first NIC's first address answers."""

        def probe(self, candidates, _wait):
            return {candidate: candidate == FIRST for candidate in candidates}

    planned = engine.plan_with_answers(Wire(), Stanza(), SILENT)  # type: ignore[arg-type]
    assert planned.state.probes == {FIRST: True, SECOND: False}
    assert planned.decisions.probes == ()
    assert planned.decisions.gateways["ens3"][4].ip == FIRST[1]
