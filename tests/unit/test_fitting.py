"""A stanza on a host that has changed since: the rest of it goes on."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network

import pytest

from cc_source_routing.model import InterfaceStanza, Stanza, StanzaRoute
from cc_source_routing.plan.build import build_plan
from cc_source_routing.plan.fitting import fit, warning

from .hosts import SEED, host

GATEWAY = IPv4Address("10.9.0.1")
ROUTES = (
    StanzaRoute(ip_network("10.60.0.0/16"), ip_address("10.13.96.9")),
    StanzaRoute(ip_network("10.50.0.0/16"), ip_address("10.9.0.9")),
)
MISFITS = {
    "gateway4": (InterfaceStanza("ens4", gateway4=GATEWAY), InterfaceStanza("ens4")),
    "table": (InterfaceStanza("ens4", table=900), InterfaceStanza("ens4")),
    "routes": (
        InterfaceStanza("ens4", routes=ROUTES),
        InterfaceStanza("ens4", routes=ROUTES[:1]),
    ),
    "match": (InterfaceStanza("all", match_name="ens*"), None),
}


def fitted(stanza, state):
    return fit(stanza, lambda wanted: build_plan(wanted, state))


@pytest.mark.parametrize("key", MISFITS)
def test_what_does_not_fit_is_left_out_and_told_and_the_rest_stays(key):
    entry, rest = MISFITS[key]
    other = InterfaceStanza("ens3", table=700) if rest else None
    stanza = Stanza(rp_filter="loose", interfaces=tuple(filter(None, (other, entry))))
    state = replace(SEED, foreign_tables={900: "somebodys"})
    fitting, plan, left_out = fitted(stanza, state)
    assert fitting == Stanza(rp_filter="loose", interfaces=tuple(filter(None, (other, rest))))
    assert [fault.path.split(".")[2] for fault in left_out] == [key]
    assert warning(left_out[0]).startswith(f"interfaces.{entry.id}.{key}")
    assert [nic.name for nic in plan.nics] == ["ens3", "ens4"]


def test_several_misfits_are_all_told():
    first = InterfaceStanza("ens3", gateway4=GATEWAY)
    second = InterfaceStanza("ens4", gateway4=GATEWAY, routes=ROUTES)
    _fitting, _plan, left_out = fitted(Stanza(interfaces=(first, second)), SEED)
    assert [fault.path for fault in left_out] == [
        "interfaces.ens3.gateway4",
        "interfaces.ens4.gateway4",
        "interfaces.ens4.routes.1.via",
    ]


def test_what_fits_is_left_as_it_is():
    stanza = Stanza(interfaces=(InterfaceStanza("ens4", gateway4=IPv4Address("10.13.96.1")),))
    assert fitted(stanza, SEED) == (stanza, build_plan(stanza, SEED), ())
    off = Stanza(enabled=False)
    assert fitted(off, host({})) == (off, build_plan(off, host({})), ())
