"""The golden cases are stored as they are said to be: nothing twice, nothing that none expects."""

from __future__ import annotations

import pytest

from . import cases

NAMES = cases.case_names()


def test_each_content_is_stored_once_and_expected_by_a_case():
    assert cases.present() == cases.arranged({name: cases.expected(name) for name in NAMES})


def test_each_host_has_a_case():
    hosts = {path.parent.name for path in cases.CASES.glob("hosts/*/host.json")}
    assert hosts == {cases.host_name(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_case_is_one_of_a_renderer_and_expects_something(name: str):
    assert name.startswith(("ifupdown-", "netplan-", "networkd-"))
    assert cases.expected(name)
