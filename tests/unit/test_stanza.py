"""A good stanza becomes the `Stanza` that was meant; the schema is the one source of its keys."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from ipaddress import ip_address, ip_network
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cc_source_routing.errors import StanzaError
from cc_source_routing.model import InterfaceStanza, Stanza, StanzaRoute
from cc_source_routing.stanza import parse as stanza
from cc_source_routing.stanza.parse import parse_stanza, schema_defaults
from cc_source_routing.stanza.saved import stanza_from_json, stanza_to_json
from cc_source_routing.text import names as stringchecks

from .stanza_schema import SCHEMA, schema_keys

FULL = {
    "enabled": True,
    "renderer": "networkd",
    "families": ["ipv6", "ipv4"],
    "gateway_guess": "always",
    "rp_filter": "loose",
    "published_ports": True,
    "published_ports_mark": 0xFF00,
    "table_base": 900,
    "rule_priority": 32000,
    "exclude": ["tap*", "02:42:AB:*", "vnet[0-9]"],
    "interfaces": {
        "ens4": {
            "match": {"macaddress": "FA-16-3E-2B-E7-89", "name": "ens*"},
            "enabled": False,
            "table": 4294967295,
            "gateway4": "10.13.96.1",
            "gateway6": "2001:DB8:0::1",
            "on_link": True,
            "routes": [
                {"to": "10.0.0.0/8", "via": "10.13.96.1"},
                {"to": "192.0.2.7", "via": "10.13.96.1", "on_link": True},
                {"to": "2001:db8:1::/48", "on_link": True},
            ],
        },
        "ens5.100": {},
    },
}


@pytest.mark.parametrize("value", [True, {}, {"enabled": True}, {"interfaces": {}}])
def test_the_short_forms_are_all_defaults(value):
    assert parse_stanza(value) == Stanza()


@pytest.mark.parametrize(
    "value", [False, {"enabled": False}, {"enabled": False, "table_base": 9000}]
)
def test_an_off_stanza_is_off_and_nothing_else(value):
    assert parse_stanza(value) == Stanza(enabled=False)


def test_every_key_arrives_in_its_place():
    assert parse_stanza(FULL) == Stanza(
        enabled=True,
        renderer="networkd",
        families=frozenset((4, 6)),
        gateway_guess="always",
        rp_filter="loose",
        published_ports=True,
        published_ports_mark=0xFF00,
        table_base=900,
        rule_priority=32000,
        exclude=("tap*", "02:42:ab:*", "vnet[0-9]"),
        interfaces=(
            InterfaceStanza(
                id="ens4",
                match_name="ens*",
                match_macaddress="fa:16:3e:2b:e7:89",
                enabled=False,
                table=4294967295,
                gateway4=ip_address("10.13.96.1"),
                gateway6=ip_address("2001:db8::1"),
                on_link=True,
                routes=(
                    StanzaRoute(ip_network("10.0.0.0/8"), ip_address("10.13.96.1")),
                    StanzaRoute(ip_network("192.0.2.7/32"), ip_address("10.13.96.1"), True),
                    StanzaRoute(ip_network("2001:db8:1::/48"), None, True),
                ),
            ),
            InterfaceStanza(id="ens5.100"),
        ),
    )


def test_the_callers_value_is_never_changed():
    value = copy.deepcopy(FULL)
    parse_stanza(value)
    assert value == FULL


@pytest.mark.parametrize(
    "interfaces",
    [
        {"public": {"match": {"macaddress": "fa:16:3e:00:00:01"}}, "private": {}},
        {"a-rather-long-name-of-mine": {"match": {"name": "ens4"}}},
        {"any": {"match": {"name": "ens*"}, "enabled": False}, "ens3": {}},
        {"a": {"match": {"name": "e*", "macaddress": "fa:16:3e:00:00:01"}, "table": 7}},
        {"main": {"match": {"macaddress": "fa:16:3e:00:00:01"}}},
        {"ens4": {"gateway6": "fe80::1"}},
        {"ens4": {"routes": [{"to": "10.0.0.0/31", "via": "10.0.0.0"}]}},
        {"ens4": {"routes": [{"to": "2001:db8::/64", "via": "2001:db8::"}]}},
        {"ens4": {"routes": [{"to": "0.0.0.0/1", "via": "10.0.0.1"}]}},
        {"ens3": {"gateway4": "10.0.0.1"}, "ens4": {"gateway4": "10.0.0.1"}},
    ],
)
def test_what_is_unusual_but_right_is_taken(interfaces):
    assert len(parse_stanza({"interfaces": interfaces}).interfaces) == len(interfaces)


# -- the saved form ------------------------------------------------------------------


def test_the_saved_text_reads_back_as_the_same_stanza():
    stanza = parse_stanza(FULL)
    text = stanza_to_json(stanza)
    assert stanza_from_json(text) == stanza
    assert parse_stanza(json.loads(text)) == stanza
    assert stanza_to_json(stanza_from_json(text)) == text


def test_the_saved_text_is_complete():
    assert set(json.loads(stanza_to_json(Stanza()))) == set(SCHEMA["properties"])


def test_what_a_saved_text_lacks_has_its_default():
    assert stanza_from_json("{}") == Stanza()
    text = '{"interfaces": {"ens4": {"routes": [{"to": "10.0.0.0/8"}]}}}'
    assert stanza_from_json(text).interfaces == (
        InterfaceStanza("ens4", routes=(StanzaRoute(ip_network("10.0.0.0/8")),)),
    )


DAMAGED = {
    "empty": ("", "Expecting value"),
    "cut off": (stanza_to_json(Stanza())[:70], "Expecting"),
    "a list": ("[]", "'list' object"),
    "zeros": ("\0" * 99, "Expecting value"),
    "depth": ("[" * 10**5, "recursion"),
    "an unknown key": ('{"tabel_base": 600}', "tabel_base"),
    "another type": ('{"table_base": "600"}', "table_base: str instead of int"),
    "a boolean for a number": ('{"rule_priority": true}', "rule_priority: bool instead of int"),
    "no list": ('{"exclude": 7}', "exclude: "),
    "no family": ('{"families": ["ipv5"]}', "ipv5"),
    "no address": ('{"interfaces": {"ens4": {"gateway4": "ten"}}}', "gateway4: "),
    "no prefix": ('{"interfaces": {"ens4": {"sources": ["10.0.0.1/8"]}}}', "has host bits"),
    "a route to nowhere": ('{"interfaces": {"ens4": {"routes": [{}]}}}', "'to'"),
    "a match of another kind": ('{"interfaces": {"ens4": {"match": {"driver": "x"}}}}', "driver"),
    "no interface": ('{"interfaces": {"ens4": null}}', "interfaces: "),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_saved_text_is_a_value_error_that_says_where(name):
    text, phrase = DAMAGED[name]
    with pytest.raises(ValueError, match=f"is no saved stanza .*{re.escape(phrase)}"):
        stanza_from_json(text)


# -- the schema ------------------------------------------------------------------------


def test_the_schemas_defaults_are_the_models_defaults():
    assert parse_stanza(schema_defaults()) == Stanza()
    keys = schema_keys()
    entry = {key: keys[f"interfaces.*.{key}"].get("default") for key in ("enabled", "on_link")}
    assert entry == {
        "enabled": InterfaceStanza("x").enabled,
        "on_link": InterfaceStanza("x").on_link,
    }


def test_every_key_of_the_schema_is_described():
    keys = schema_keys()
    assert {"table_base", "interfaces.*.match.macaddress", "interfaces.*.routes.*.via"} <= set(keys)
    assert all(told["description"].endswith(".") for told in keys.values())


def test_every_object_of_the_schema_is_closed():
    objects = [told for told in (SCHEMA, *schema_keys().values()) if "object" in told["type"]]
    inner = SCHEMA["properties"]["interfaces"]["patternProperties"].values()
    objects += [*inner, schema_keys()["interfaces.*.routes"]["items"]]
    assert len(objects) == 5
    assert all(told["additionalProperties"] is False for told in objects)


def test_the_schema_is_strict_draft_4():
    """cloud-init checks its schema file by draft 4 with unknown keywords forbidden."""
    jsonschema.Draft4Validator.check_schema(SCHEMA)
    strict = {**jsonschema.Draft4Validator.META_SCHEMA, "additionalProperties": False}
    assert not list(jsonschema.Draft4Validator(strict).iter_errors(SCHEMA))


def test_the_schema_serves_as_a_definition_within_cloud_inits():
    cloud = {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "$defs": {"cc_source_routing": {"properties": {"source_routing": SCHEMA}}},
        "allOf": [{"$ref": "#/$defs/cc_source_routing"}],
    }
    validator = jsonschema.Draft4Validator(cloud, format_checker=jsonschema.FormatChecker())
    for good in (True, {}, FULL):
        assert not list(validator.iter_errors({"source_routing": good}))
    for bad in (None, {"x": 1}, {"interfaces": {"e;": {}}}, {"interfaces": {"e": {"table": 254}}}):
        assert len(list(validator.iter_errors({"source_routing": bad}))) == 1


@given(st.text(max_size=70) | st.from_regex(r"[a-z0-9:.*-]{1,20}\n?"))
@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("interfaces.*.match.macaddress", lambda text: stringchecks.normal_mac(text) is None),
        ("exclude.*", stringchecks.exclude_glob_fault),
        ("interfaces.*", stringchecks.id_fault),
    ],
)
def test_the_schemas_patterns_say_what_the_string_checks_say(key, fault, text):
    if key == "interfaces.*":
        (pattern,) = SCHEMA["properties"]["interfaces"]["patternProperties"]
        limit = None
    elif key == "exclude.*":
        told = SCHEMA["properties"]["exclude"]["items"]
        pattern, limit = told["pattern"], told["maxLength"]
    else:
        pattern, limit = schema_keys()[key]["pattern"], None
    matches = re.search(pattern, text) is not None and len(text) <= (limit or len(text))
    assert matches == (not fault(text))


# -- what it costs ------------------------------------------------------------------------


def test_the_short_forms_import_no_jsonschema():
    program = (
        "import sys\nfrom cc_source_routing.stanza.parse import parse_stanza\nparse_stanza(True)\n"
        "print('jsonschema' in sys.modules)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(stanza.__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout == "False\n"


# -- whatever comes ------------------------------------------------------------------------

KEYS = st.sampled_from(
    sorted({part for key in schema_keys() for part in key.split(".")} | {"ens4", "ens5", "gateway"})
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        "auto ipv4 ipv6 keep never 10.0.0.0/8 10.0.0.1 fe80::1 2001:db8::/32 ens4 ens* "
        "fa:16:3e:00:00:01".split()
    )
    | st.sampled_from([1, 253, 500, 5000])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS | st.text(max_size=8), inner, max_size=5)
        | st.dictionaries(st.integers() | st.booleans() | st.none(), inner, max_size=2)
    ),
    max_leaves=30,
)
ADDRESSES4 = st.integers(1, 2**30).map(lambda number: str(ip_address(2**24 + number)))
ROUTES = st.dictionaries(
    st.tuples(st.ip_addresses(v=6), st.integers(1, 128)), st.just("fe80::1"), max_size=3
).map(
    lambda routes: [
        {"to": str(ip_network(f"{ip}/{length}", strict=False)), "via": via}
        for (ip, length), via in routes.items()
    ]
)
NEAR = st.fixed_dictionaries(
    {},
    optional={
        "enabled": st.booleans() | JSON,
        "renderer": st.sampled_from(["auto", "none", "netplan", "nm"]),
        "families": st.lists(st.sampled_from(["ipv4", "ipv6", "ip"]), max_size=3),
        "table_base": st.integers(-1, 2**33),
        "rule_priority": st.integers(-1, 40000),
        "exclude": st.lists(st.sampled_from(["tap*", "02:42:*", "a b", ""]), max_size=3),
        "interfaces": st.dictionaries(
            st.sampled_from(["ens3", "ens4", "ens5.7", "lan", "local", "a b"]),
            st.fixed_dictionaries(
                {},
                optional={
                    "match": st.fixed_dictionaries(
                        {},
                        optional={
                            "name": st.sampled_from(["ens3", "ens*", "x;y"]),
                            "macaddress": st.sampled_from(["FA-16-3E-00-00-01", "fa:16"]),
                        },
                    ),
                    "enabled": st.booleans(),
                    "table": st.integers(0, 600) | JSON,
                    "gateway4": ADDRESSES4 | JSON,
                    "gateway6": st.ip_addresses(v=6).map(str),
                    "routes": ROUTES | JSON,
                    "on_link": st.booleans(),
                },
            ),
            max_size=4,
        ),
    },
)


def outcome(value):
    try:
        return parse_stanza(value)
    except StanzaError as error:
        assert error.faults
        assert all(fault.message and str(fault).isprintable() for fault in error.faults)
        paths = [fault.path for fault in error.faults]
        assert len(paths) == len(set(paths)) or paths.count("") > 0
        return error.faults


@settings(max_examples=400)
@given(JSON | NEAR)
def test_whatever_comes_is_a_stanza_or_a_stanza_error_the_same_each_time(value):
    first = outcome(value)
    assert outcome(value) == first


@settings(max_examples=400)
@given(JSON | NEAR)
def test_whatever_is_saved_is_a_stanza_or_a_value_error(value):
    text = json.dumps(value, default=str)
    try:
        assert isinstance(stanza_from_json(text), Stanza)
    except ValueError as error:
        assert str(error).startswith("is no saved stanza")


@settings(max_examples=400)
@given(NEAR)
def test_whatever_is_taken_survives_being_saved(value):
    stanza = outcome(value)
    if isinstance(stanza, Stanza):
        text = stanza_to_json(stanza)
        assert stanza_from_json(text) == parse_stanza(json.loads(text)) == stanza
        assert not list(jsonschema.Draft4Validator(SCHEMA).iter_errors(json.loads(text)))
