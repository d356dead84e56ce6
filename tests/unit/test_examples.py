"""Every example is one that works: it is valid, and nothing about it needs a warning."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from cc_source_routing.model import Stanza
from cc_source_routing.stanza.saved import stanza_from_json, stanza_to_json
from cc_source_routing.stanza.user_data import load_stanza_file

from .stanza_schema import SCHEMA, schema_keys

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))


def test_there_are_examples():
    assert {"minimal", "full", "seed", "image-default"} <= {path.stem for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_example_is_valid_user_data(path):
    loaded = load_stanza_file(path)
    assert (loaded.kind, loaded.warnings) == ("user-data", ())
    assert isinstance(loaded.stanza, Stanza)
    assert stanza_from_json(stanza_to_json(loaded.stanza)) == loaded.stanza
    value = yaml.safe_load(path.read_text())["source_routing"]
    jsonschema.Draft4Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(value)


def test_the_minimal_example_is_two_lines_and_all_defaults():
    assert len((EXAMPLES / "minimal.yaml").read_text().splitlines()) == 2
    assert load_stanza_file(EXAMPLES / "minimal.yaml").stanza == Stanza()


def test_the_full_example_has_every_key():
    def keys(value, prefix=""):
        for key, inner in value.items() if isinstance(value, dict) else ():
            part = "*" if prefix == "interfaces." else key
            if part != "*":
                yield prefix + part
            yield from keys(inner, f"{prefix}{part}.")
        for inner in value if isinstance(value, list) else ():
            yield from keys(inner, f"{prefix}*.")

    value = yaml.safe_load((EXAMPLES / "full.yaml").read_text())["source_routing"]
    assert set(keys(value)) == set(schema_keys())
