"""The README says what is so: its stanzas, keys, commands and files are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from cc_source_routing.cli.main import _parser
from cc_source_routing.render import RENDERERS
from cc_source_routing.stanza.parse import parse_stanza, schema_defaults

from .stanza_schema import schema_keys

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text()
STANZAS = re.findall(r"```yaml\n(.*?)```", README, re.S)
COMMANDS = sorted(set(re.findall(r"\b((?:image-build|tests)/[\w-]+)", README)))


def section(title: str) -> str:
    """One chapter of the README."""
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def key_rows() -> dict[str, str]:
    """Key -> default of the README's table of keys."""
    rows = re.findall(r"^\| `([\w.]+)` \| (.*?) \|", section("The stanza"), re.M)
    return {key.replace(".ID.", ".*.").replace(".N.", ".*."): told for key, told in rows}


@pytest.mark.parametrize("text", STANZAS)
def test_each_stanza_in_the_readme_is_valid(text):
    parse_stanza(yaml.safe_load(text)["source_routing"])


def test_there_are_stanzas_and_commands_to_test():
    assert len(STANZAS) >= 2 and len(COMMANDS) >= 3


def test_the_readme_lists_exactly_the_keys_of_the_schema():
    # `match` is told by its two keys.
    assert set(key_rows()) == set(schema_keys()) - {"interfaces.*.match"}


@pytest.mark.parametrize("key", sorted(schema_defaults()))
def test_the_readme_tells_the_defaults_of_the_schema(key):
    told = key_rows()[key].strip("`")
    value = yaml.safe_load(told)
    assert value == schema_defaults()[key]


def test_the_readme_lists_exactly_the_commands():
    documented = re.findall(r"^\| `(\w+)", section("The command"), re.M)
    assert documented == list(_parser()._subparsers._group_actions[0].choices)


def test_the_readme_lists_the_renderers():
    row = next(line for line in README.splitlines() if line.startswith("| `renderer`"))
    for name in RENDERERS:
        assert f"`{name}`" in row


@pytest.mark.parametrize("command", COMMANDS)
def test_each_script_in_the_readme_is_there_and_executable(command):
    path = REPOSITORY / command
    assert path.is_file() and path.stat().st_mode & 0o111


def test_the_readme_names_no_placeholder():
    assert not re.search(r"\b(TODO|FIXME|TBD|XXX)\b", README)
