"""The script behind the kernel's IPv6 routes under networkd: it starts one service, and seldom."""

from __future__ import annotations

import pytest

from cc_source_routing.model import ConfigFile, RoutingPlan
from cc_source_routing.render import networkd
from cc_source_routing.render.router_events import SCRIPT_PATH

from .sandbox import SHELLS, Run, Sandbox

pytestmark = pytest.mark.kernel

SAVED = ConfigFile("/etc/source-routing/stanza.json", "{}\n")
STARTED = ["systemctl --no-block start source-routing-networkd.service"]
ROUTER = "default nhid {} via fe80::1 dev ens3 proto ra metric 1024 expires {}sec pref medium\n"


@pytest.fixture()
def box(tmp_path):
    sandbox = Sandbox(tmp_path, (*networkd.render(RoutingPlan(), networkd.Facts()), SAVED))
    sandbox.mock("sleep")
    return sandbox


def event(
    box: Sandbox,
    shell: str,
    routers: str = "",
    rules: str = "",
    argument: str = "",
    behind: str = "",
) -> list[str]:
    """What it asked of systemd after the kernel had something to say."""
    (box.box / "routers").write_text(routers)
    (box.box / "rules").write_text(rules)
    (box.box / "behind").write_text(behind)
    prepare = box.stand_in(
        "ip",
        f'#!/bin/sh\ncase "$*" in *default) cat "{box.box}/routers" ;; '
        f'"-4 -o route show proto boot") cat "{box.box}/behind" ;; '
        f'"-4 rule show") cat "{box.box}/rules" ;; esac\n',
    )
    prepare += box.stand_in("systemctl", f'#!/bin/sh\necho "systemctl $*" >>"{box.box}/asked"\n')
    box._script(
        box.box / "caller", f"#!/bin/sh\nexec 3</dev/null\nexec {shell} {SCRIPT_PATH} {argument}\n"
    )
    (box.box / "asked").write_text("")
    run: Run = box.run(str(box.box / "caller"), prepare)
    assert (run.code, run.out, run.err) == (0, "", "")
    return (box.box / "asked").read_text().splitlines()


@pytest.mark.parametrize("shell", SHELLS)
def test_only_what_routers_newly_tell_is_planned_anew(box, shell):
    assert event(box, shell, ROUTER.format(1, 1800)) == STARTED
    assert event(box, shell, ROUTER.format(1, 1770)) == [], "time passes"
    assert event(box, shell, ROUTER.format(7, 1800)) == [], "networkd has written it again"
    preferred = ROUTER.format(7, 1800).replace("medium", "high")
    assert event(box, shell, preferred) == STARTED
    assert event(box, shell, "") == STARTED, "a router has said goodbye"


@pytest.mark.parametrize("shell", SHELLS)
def test_so_are_ipv4_defaults_and_networks_behind_gateways(box, shell):
    told = "default via 192.0.2.1 dev ens3\n"
    assert event(box, shell, told) == STARTED
    assert event(box, shell, told) == []
    behind = "10.20.0.0/16 via 192.0.2.1 dev ens3\n"
    assert event(box, shell, told, behind=behind) == STARTED
    assert event(box, shell, told, behind=behind + "10.9.0.0/24 dev docker0 scope link\n") == []
    assert event(box, shell, told) == STARTED


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("selector", ["", "to 203.0.113.0/24 "])
def test_so_are_rules_of_others_whose_tables_ours_look_up_too(box, shell, selector):
    rules = f"9000:\tfrom all {selector}lookup 52\n"
    event(box, shell)
    assert event(box, shell, rules=rules) == STARTED
    assert event(box, shell, rules=rules) == []
    more = "9001:\tfrom all fwmark 0x1 lookup 53\n9002:\tfrom 192.0.2.9 lookup 54\n"
    assert event(box, shell, rules=rules + more) == []
    assert event(box, shell) == STARTED


@pytest.mark.parametrize("shell", SHELLS)
def test_a_rule_of_ours_that_is_missing_is_planned_anew_until_it_is_back(box, shell):
    rules = "5010: from 192.0.2.1 lookup 500 proto {}\n5030: from all lookup main\n"
    event(box, shell)
    assert event(box, shell, rules=rules.format(83), argument="look") == []
    assert event(box, shell, argument="remember") == []
    assert event(box, shell, rules=rules.format("static")) == [], "networkd has made it its own"
    assert event(box, shell, rules=rules.format(83) + "9: from 192.0.2.9 lookup 9\n") == []
    for _time in range(2):
        assert event(box, shell, rules="5030: from all lookup main\n") == STARTED
    assert event(box, shell, rules=rules.format(83)) == []
