"""Each kind of bad stanza is reported by the path of its key and a sentence on what is wrong."""

from __future__ import annotations

import copy
import datetime

import pytest

from cc_source_routing.errors import StanzaError
from cc_source_routing.stanza.parse import MAX_FAULTS, parse_stanza


def nic(**keys):
    return {"interfaces": {"ens4": keys}}


def route(**keys):
    return nic(routes=[keys])


def match(**keys):
    return nic(match=keys)


ROUTE = "interfaces.ens4.routes.0"
NESTED = []
for _ in range(5000):
    NESTED = [NESTED]

# name -> (value, {path: phrase of the message}): exactly these faults.
BAD = {
    # -- the whole
    "nothing": (None, {"": "true, false or a mapping of settings, not empty"}),
    "a word": ("true", {"": "the string 'true'; leave out the quotes"}),
    "a number": (1, {"": "the number 1"}),
    "a list": ([{"enabled": True}], {"": "not a list"}),
    "a date": (datetime.date(2026, 1, 2), {"": "not a date"}),
    # -- scalars at the top
    "enabled as text": ({"enabled": "yes"}, {"enabled": "true or false, not the string 'yes'"}),
    "enabled as number": ({"enabled": 1}, {"enabled": "true or false, not the number 1"}),
    "enabled left empty": ({"enabled": None}, {"enabled": "not empty"}),
    "a mark of no byte": (
        {"published_ports_mark": 0xFF0},
        {"published_ports_mark": "is 4080, not one of 0xff, 0xff00, 0xff0000, 0xff000000"},
    ),
    "sources as a word": (
        nic(sources="10.0.0.0/8"),
        {"interfaces.ens4.sources": "must be a list"},
    ),
    "a source that is no prefix": (
        nic(sources=["10.0.0.0/8", "ten"]),
        {"interfaces.ens4.sources.1": "is 'ten', not a prefix"},
    ),
    "a source with host bits": (
        nic(sources=["198.51.100.65/29"]),
        {"interfaces.ens4.sources.0": "write 198.51.100.64/29"},
    ),
    "everybody's source": (
        nic(sources=["default"]),
        {"interfaces.ens4.sources.0": "is default, which is everybody's"},
    ),
    "a source of many clouds": (
        nic(sources=["2000::/3"]),
        {"interfaces.ens4.sources.0": "more than one cloud has"},
    ),
    "a source of another family": (
        {"families": ["ipv4"], **nic(sources=["2001:db8:5::/64"])},
        {"interfaces.ens4.sources.0": "families has no ipv6"},
    ),
    "a source of two NICs": (
        {
            "interfaces": {
                "ens4": {"sources": ["198.51.100.64/29"]},
                "ens5": {"sources": ["198.51.100.66"]},
            }
        },
        {"interfaces.ens5.sources.0": "overlaps 198.51.100.64/29 of interfaces.ens4.sources.0"},
    ),
    "a mark as text": (
        {"published_ports_mark": "0xff"},
        {"published_ports_mark": "must be a whole number, not the string '0xff'"},
    ),
    "published_ports as text": ({"published_ports": "on"}, {"published_ports": "true or false"}),
    "misspelt renderer": ({"renderer": "netplann"}, {"renderer": "did you mean netplan?"}),
    "unknown renderer": ({"renderer": "wicked"}, {"renderer": "not one of auto, ifupdown"}),
    "renderer read as a boolean": ({"renderer": False}, {"renderer": "YAML reads yes, no"}),
    "unknown guess": ({"gateway_guess": "maybe"}, {"gateway_guess": "never, verify, always"}),
    "rp_filter as number": ({"rp_filter": 2}, {"rp_filter": "a string, not the number 2"}),
    "rp_filter off": ({"rp_filter": False}, {"rp_filter": "write one of keep, loose, strict"}),
    "families as a word": ({"families": "ipv4"}, {"families": "must be a list"}),
    "no families": ({"families": []}, {"families": "is an empty list"}),
    "unknown family": ({"families": ["ipv5"]}, {"families.0": "did you mean ipv"}),
    "family twice": ({"families": ["ipv4", "ipv4"]}, {"families": "'ipv4' more than once"}),
    "family as number": ({"families": [4]}, {"families.0": "a string, not the number 4"}),
    # -- numbers
    "table_base zero": ({"table_base": 0}, {"table_base": "tables 0 and 253 to 255"}),
    "table_base runs into main": ({"table_base": 200}, {"table_base": "253 to 255"}),
    "table_base is local": ({"table_base": 255}, {"table_base": "not within 256"}),
    "table_base without room": ({"table_base": 2**32 - 10}, {"table_base": "1000 tables must fit"}),
    "table_base as fraction": ({"table_base": 500.5}, {"table_base": "whole number"}),
    "table_base as text": ({"table_base": "500"}, {"table_base": "leave out the quotes"}),
    "priority zero": ({"rule_priority": 0}, {"rule_priority": "not within 1 to 32000"}),
    "priority negative": ({"rule_priority": -5}, {"rule_priority": "is -5"}),
    "priority without room": ({"rule_priority": 32760}, {"rule_priority": "five stages must fit"}),
    "priority beyond counting": (
        {"rule_priority": 10**6000},
        {"rule_priority": "a number of more than 20 digits"},
    ),
    "infinite priority": ({"rule_priority": float("inf")}, {"rule_priority": "whole number"}),
    # -- unknown keys
    "camel case": ({"tableBase": 600}, {"tableBase": "did you mean table_base?"}),
    "dashes": ({"rule-priority": 600}, {"rule-priority": "did you mean rule_priority?"}),
    "a typo": ({"interface": {}}, {"interface": "did you mean interfaces?"}),
    "another word": ({"nics": {}}, {"nics": "did you mean interfaces?"}),
    "an unlike key": ({"colour": "red"}, {"colour": "is not a known key (known: enabled"}),
    "an interface at the top": ({"ens4": {"table": 5}}, {"ens4": "under interfaces?"}),
    "a key of another level": ({"gateway4": "10.0.0.1"}, {"gateway4": "in interfaces.NIC?"}),
    "gateway without family": (
        nic(gateway="10.0.0.1"),
        {"interfaces.ens4.gateway": "did you mean gateway4?"},
    ),
    "gateway without family, IPv6": (
        nic(gateway="fe80::1"),
        {"interfaces.ens4.gateway": "did you mean gateway6?"},
    ),
    "MAC beside match": (
        nic(macaddress="fa:16:3e:00:00:01"),
        {"interfaces.ens4.macaddress": "macaddress in interfaces.ens4.match?"},
    ),
    "renderer of one NIC": (
        nic(renderer="none"),
        {"interfaces.ens4.renderer": "the top level of source_routing"},
    ),
    "misspelt mac": (
        match(mac="fa:16:3e:00:00:01"),
        {"interfaces.ens4.match.mac": "did you mean macaddress?"},
    ),
    "route by destination": (
        route(destination="10.0.0.0/8", via="10.1.0.1"),
        {f"{ROUTE}.destination": "did you mean to?", f"{ROUTE}.to": "is missing"},
    ),
    "hostile key": ({"x\n$(reboot)": 1}, {"'x\\n$(reboot)'": "is not a known key"}),
    "number for a key": ({5: 1}, {"5": "YAML reads as a number"}),
    "boolean for a key": ({True: 1}, {"true": "YAML reads as true or false"}),
    "empty key": ({None: 1}, {"null": "is an empty key"}),
    # -- interfaces and their names
    "interfaces as list": ({"interfaces": ["ens4"]}, {"interfaces": "a mapping, not a list"}),
    "interface empty": ({"interfaces": {"ens4": None}}, {"interfaces.ens4": "not empty"}),
    "interface disabled shortly": ({"interfaces": {"ens4": False}}, {"interfaces.ens4": "false"}),
    "command in a name": (
        {"interfaces": {"ens4; reboot": {}}},
        {"interfaces.'ens4; reboot'": "it has ' ', ';'"},
    ),
    "newline after a name": ({"interfaces": {"ens4\n": {}}}, {"interfaces.'ens4\\n'": "'\\n'"}),
    "NUL in a name": ({"interfaces": {"e\0": {}}}, {"interfaces.'e\\x00'": "'\\x00'"}),
    "slash in a name": ({"interfaces": {"../etc": {}}}, {"interfaces.'../etc'": "'/'"}),
    "option for a name": ({"interfaces": {"-f": {}}}, {"interfaces.-f": "begins with '-'"}),
    "dots for a name": ({"interfaces": {"..": {}}}, {"interfaces...": "begins with '.'"}),
    "colon in a name": ({"interfaces": {"eth0:1": {}}}, {"interfaces.'eth0:1'": "':'"}),
    "no name": ({"interfaces": {"": {}}}, {"interfaces.''": "empty name"}),
    "300 characters": (
        {"interfaces": {"e" * 300: {}}},
        {f"interfaces.'{'e' * 40}'... (300 characters)": "is 300 characters long"},
    ),
    "16 characters": (
        {"interfaces": {"e" * 16: {}}},
        {f"interfaces.{'e' * 16}": "at most 15 (use match)"},
    ),
    "look-alike letters": (
        {"interfaces": {"\u0435ns4": {}}},
        {"interfaces.'\\u0435ns4'": "\\u0435"},
    ),
    "right-to-left mark": (
        {"interfaces": {"\u202eens4": {}}},
        {"interfaces.'\\u202eens4'": "u202e"},
    ),
    "lone surrogate": ({"interfaces": {"\ud800": {}}}, {"interfaces.'\\ud800'": "ud800"}),
    "table main by name": ({"interfaces": {"main": {}}}, {"interfaces.main": "word of ip-route"}),
    "number for a name": ({"interfaces": {"500": {}}}, {"interfaces.500": "as a number"}),
    "hex number for a name": ({"interfaces": {"0x1f": {}}}, {"interfaces.0x1f": "as a number"}),
    "name as number": ({"interfaces": {0: {}}}, {"interfaces.0": "put it in quotes"}),
    # -- match
    "empty match": (match(), {"interfaces.ens4.match": "is an empty mapping"}),
    "match by name as list": (
        match(name=["ens4"]),
        {"interfaces.ens4.match.name": "a string, not a list"},
    ),
    "match with a space": (
        match(name="ens *"),
        {"interfaces.ens4.match.name": "is 'ens *', which matches no interface"},
    ),
    "match by a long name": (
        match(name="e" * 70),
        {"interfaces.ens4.match.name": "longer than 64 characters"},
    ),
    "match a reserved name": (match(name="local"), {"interfaces.ens4.match.name": "ip-route"}),
    "MAC for a name": (
        match(name="fa:16:3e:00:00:01"),
        {"interfaces.ens4.match.name": "write macaddress: 'fa:16:3e:00:00:01'"},
    ),
    "MAC as a number": (
        match(macaddress=41135984),
        {"interfaces.ens4.match.macaddress": "put the MAC address in quotes"},
    ),
    "short MAC": (match(macaddress="fa:16:3e"), {"interfaces.ens4.match.macaddress": "not a MAC"}),
    "mixed MAC": (
        match(macaddress="fa:16-3e:00:00:01"),
        {"interfaces.ens4.match.macaddress": "not a MAC address"},
    ),
    "MAC and newline": (
        match(macaddress="fa:16:3e:00:00:01\n"),
        {"interfaces.ens4.match.macaddress": "is 'fa:16:3e:00:00:01\\n', not a MAC"},
    ),
    "multicast MAC": (
        match(macaddress="01:00:5e:00:00:01"),
        {"interfaces.ens4.match.macaddress": "broadcast or multicast"},
    ),
    "zero MAC": (
        match(macaddress="00-00-00-00-00-00"),
        {"interfaces.ens4.match.macaddress": "the zero address"},
    ),
    # -- exclude
    "exclude as word": ({"exclude": "tap0"}, {"exclude": "must be a list"}),
    "exclude a command": ({"exclude": ["tap*", "$(id)"]}, {"exclude.1": "matches no interface"}),
    "exclude the empty": ({"exclude": [""]}, {"exclude.0": "is empty"}),
    "exclude with newline": ({"exclude": ["tap*\n"]}, {"exclude.0": "'tap*\\n'"}),
    "exclude a number": ({"exclude": [7]}, {"exclude.0": "put it in quotes"}),
    # -- table
    "table zero": (nic(table=0), {"interfaces.ens4.table": "table 0 means none"}),
    "table main": (nic(table=254), {"interfaces.ens4.table": "the system's own table main"}),
    "table local": (nic(table=255), {"interfaces.ens4.table": "table local"}),
    "table default": (nic(table=253), {"interfaces.ens4.table": "table default"}),
    "table too large": (nic(table=2**32), {"interfaces.ens4.table": "to 4294967295"}),
    "table negative": (nic(table=-1), {"interfaces.ens4.table": "is -1"}),
    "table true": (nic(table=True), {"interfaces.ens4.table": "a whole number, not true"}),
    "table as text": (nic(table="main"), {"interfaces.ens4.table": "not the string 'main'"}),
    "one table for two": (
        {"interfaces": {"ens3": {"table": 7}, "ens4": {"table": 7}}},
        {"interfaces.ens4.table": "the table of interfaces.ens3 too"},
    ),
    "one table for many": (
        nic(match={"name": "ens*"}, table=7),
        {"interfaces.ens4.table": "one table for all that match.name fits"},
    ),
    # -- two entries for one NIC
    "one MAC twice": (
        {
            "interfaces": {
                "a": {"match": {"macaddress": "FA:16:3E:00:00:01"}},
                "b": {"match": {"macaddress": "fa-16-3e-00-00-01"}},
            }
        },
        {"interfaces.b.match.macaddress": "as interfaces.a does: two entries for one NIC"},
    ),
    "one name twice": (
        {"interfaces": {"ens4": {}, "b": {"match": {"name": "ens4"}}}},
        {"interfaces.b.match.name": "as interfaces.ens4 does"},
    ),
    # -- gateways
    "gateway as a number": (nic(gateway4=10.1), {"interfaces.ens4.gateway4": "in quotes"}),
    "gateway of words": (nic(gateway4="router"), {"interfaces.ens4.gateway4": "not an IPv4"}),
    "gateway too short": (nic(gateway4="10.13.96"), {"interfaces.ens4.gateway4": "not an IPv4"}),
    "IPv6 for gateway4": (nic(gateway4="fe80::1"), {"interfaces.ens4.gateway4": "write gateway6"}),
    "IPv4 for gateway6": (nic(gateway6="10.0.0.1"), {"interfaces.ens4.gateway6": "write gateway4"}),
    "gateway as prefix": (
        nic(gateway4="10.13.96.1/19"),
        {"interfaces.ens4.gateway4": "a router is one address: 10.13.96.1"},
    ),
    "gateway with zeros": (
        nic(gateway4="10.13.096.001"),
        {"interfaces.ens4.gateway4": "no leading zeros"},
    ),
    "gateway with zone": (nic(gateway6="fe80::1%ens4"), {"interfaces.ens4.gateway6": "the zone"}),
    "gateway unspecified": (nic(gateway4="0.0.0.0"), {"interfaces.ens4.gateway4": "unspecified"}),
    "gateway loopback": (nic(gateway6="::1"), {"interfaces.ens4.gateway6": "loopback"}),
    "gateway multicast": (nic(gateway4="224.0.0.1"), {"interfaces.ens4.gateway4": "multicast"}),
    "gateway broadcast": (
        nic(gateway4="255.255.255.255"),
        {"interfaces.ens4.gateway4": "the broadcast address"},
    ),
    "gateway reserved": (nic(gateway4="240.0.0.1"), {"interfaces.ens4.gateway4": "reserved"}),
    "gateway in 0/8": (nic(gateway4="0.0.0.1"), {"interfaces.ens4.gateway4": "0.0.0.0/8"}),
    "gateway IPv4-mapped": (
        nic(gateway6="::ffff:10.0.0.1"),
        {"interfaces.ens4.gateway6": "the IPv6 form of 10.0.0.1"},
    ),
    "gateway and command": (
        nic(gateway4="10.0.0.1; reboot"),
        {"interfaces.ens4.gateway4": "is '10.0.0.1; reboot', not an IPv4 address"},
    ),
    "gateway of a family left out": (
        {"families": ["ipv6"], **nic(gateway4="10.0.0.1")},
        {"interfaces.ens4.gateway4": "families has no ipv4"},
    ),
    # -- routes
    "routes as mapping": (nic(routes={"to": "10.0.0.0/8"}), {"interfaces.ens4.routes": "a dash"}),
    "route as text": (nic(routes=["10.0.0.0/8"]), {ROUTE: "a mapping, not the string"}),
    "route empty": (route(), {f"{ROUTE}.to": "is missing", f"{ROUTE}.via": "is missing"}),
    "route without router": (route(to="10.0.0.0/8"), {f"{ROUTE}.via": "set on_link: true"}),
    "route to default": (
        route(to="default", via="10.0.0.1"),
        {f"{ROUTE}.to": "told by gateway4 or gateway6"},
    ),
    "route to everywhere": (route(to="0.0.0.0/0", via="10.0.0.1"), {f"{ROUTE}.to": "gateway4"}),
    "route with host bits": (
        route(to="10.13.96.161/19", via="10.13.96.1"),
        {f"{ROUTE}.to": "write 10.13.96.0/19 or 10.13.96.161/32"},
    ),
    "route with host bits, of two families": (
        route(to="10.1.2.3/8", via="fe80::1"),
        {f"{ROUTE}.to": "write 10.0.0.0/8", f"{ROUTE}.via": "an IPv6 address, but to is"},
    ),
    "route with netmask": (
        route(to="10.0.0.0/255.0.0.0", via="10.13.96.1"),
        {f"{ROUTE}.to": "write the prefix length: 10.0.0.0/8"},
    ),
    "route with length 33": (
        route(to="10.0.0.0/33", via="10.0.0.1"),
        {f"{ROUTE}.to": "not a prefix"},
    ),
    "route of two families": (
        route(to="10.0.0.0/8", via="fe80::1"),
        {f"{ROUTE}.via": "an IPv6 address, but to is 10.0.0.0/8"},
    ),
    "route of a family left out": (
        {"families": ["ipv4"], **route(to="2001:db8::/32", via="fe80::1")},
        {f"{ROUTE}.to": "families has no ipv6"},
    ),
    "route by network address": (
        route(to="10.0.0.0/8", via="10.0.0.0"),
        {f"{ROUTE}.via": "the network address of 10.0.0.0/8"},
    ),
    "route by broadcast": (
        route(to="10.13.96.0/19", via="10.13.127.255"),
        {f"{ROUTE}.via": "the broadcast address of 10.13.96.0/19"},
    ),
    "route to loopback": (route(to="127.0.0.0/8", via="10.0.0.1"), {f"{ROUTE}.to": "loopback"}),
    "route to multicast": (route(to="224.0.0.0/4", via="10.0.0.1"), {f"{ROUTE}.to": "multicast"}),
    "route twice": (
        nic(
            routes=[
                {"to": "10.0.0.0/8", "via": "10.1.0.1"},
                {"to": "10.0.0.0/8", "via": "10.1.0.2"},
            ]
        ),
        {"interfaces.ens4.routes.1.to": "routes.0 has already"},
    ),
    "on_link as text": (
        route(to="10.0.0.0/8", on_link="yes"),
        {f"{ROUTE}.on_link": "true or false"},
    ),
    "metric": (
        route(to="10.0.0.0/8", via="10.0.0.1", metric=5),
        {f"{ROUTE}.metric": "is not a known key (known: to, via, on_link)"},
    ),
    # -- size
    "depth": ({"exclude": NESTED}, {"exclude.0": "a string, not a list"}),
    "100000 interfaces": (
        {"interfaces": {f"e{number}": {} for number in range(10**5)}},
        {"": "too large: it has more than 100000 values"},
    ),
    "1001 interfaces": (
        {"interfaces": {f"e{number}": {} for number in range(1001)}},
        {"interfaces": "more than 1000 entries"},
    ),
    "a million families": ({"families": [[]] * 10**6}, None),
    # -- a stanza that is off is checked all the same
    "off, but wrong": ({"enabled": False, "table_base": 1}, {"table_base": "not within"}),
}


def faults_of(value):
    with pytest.raises(StanzaError) as caught:
        parse_stanza(value)
    return caught.value.faults


@pytest.mark.parametrize("name", BAD)
def test_a_bad_stanza_is_told_at_its_key_and_nowhere_else(name):
    value, expected = BAD[name]
    faults = faults_of(value)
    if expected is None:
        assert faults
        return
    told = {fault.path: fault.message for fault in faults}
    assert len(told) == len(faults), "one fault told twice"
    assert set(told) == set(expected), told
    for path, phrase in expected.items():
        assert phrase in told[path]


@pytest.mark.parametrize("name", BAD)
def test_a_message_is_one_short_printable_line(name):
    for fault in faults_of(BAD[name][0]):
        assert str(fault).isascii() and str(fault).isprintable()
        assert len(str(fault)) < 300


@pytest.mark.parametrize("name", [name for name in BAD if name != "depth"])
def test_a_refused_value_is_left_as_it_was(name):
    value = BAD[name][0]
    before = copy.deepcopy(value)
    faults_of(value)
    assert value == before


def test_all_faults_are_told_at_once_in_the_order_of_the_document():
    value = {
        "tableBase": 1,
        "interfaces": {
            "ens5": {"gateway4": "fe80::1", "table": 254},
            "ens4": {"routes": [{"to": "10.0.0.0/8", "via": "10.0.0.1"}, {"to": "10.1.2.3/8"}]},
        },
        "families": ["ipv4", "ipv6", "ipv4"],
        "renderer": "x",
    }
    assert [fault.path for fault in faults_of(value)] == [
        "tableBase",
        "interfaces.ens5.gateway4",
        "interfaces.ens5.table",
        "interfaces.ens4.routes.1.via",
        "interfaces.ens4.routes.1.to",
        "families",
        "renderer",
    ]


def test_faults_without_end_are_counted_not_told():
    value = {"interfaces": {f"ens {number}": {} for number in range(900)}}
    faults = faults_of(value)
    assert len(faults) == MAX_FAULTS + 1
    assert str(faults[-1]) == f"and {900 - MAX_FAULTS} more faults"


def test_a_value_that_holds_itself_is_a_fault_not_a_hang():
    value = {}
    value["interfaces"] = {"ens4": value}
    assert "interfaces.ens4.interfaces" in {fault.path for fault in faults_of(value)}


def test_references_that_unfold_to_gigabytes_are_refused():
    laughs = ["ha"] * 900
    for _ in range(6):
        laughs = [laughs] * 900
    assert "too large" in str(faults_of({"exclude": laughs})[0])
