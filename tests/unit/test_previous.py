"""What one apply leaves for the next: written, read, and never in the way."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path

import pytest

from cc_source_routing.host.earlier_run import PREVIOUS_PATH, previous_to_json, read_previous
from cc_source_routing.model import Previous, PreviousGateway


def leave(root: Path, text: str) -> None:
    path = root / PREVIOUS_PATH[1:]
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_what_is_written_is_what_is_read(tmp_path):
    previous = Previous(
        {"ens4": 7},
        {("eth0.1/x", "rp_filter"): 1},
        True,
        {
            ("ens4", 4): PreviousGateway("metadata", ip_address("10.0.0.1"), "fa:16:3e:00:00:04"),
            ("ens4", 6): PreviousGateway("stanza", None, "fa:16:3e:00:00:04"),
        },
    )
    leave(tmp_path, previous_to_json(previous))
    assert read_previous(tmp_path) == previous


def test_before_the_first_apply_there_is_nothing(tmp_path):
    assert read_previous(tmp_path) == Previous()


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"gateways": 1, "groups": []}'])
def test_a_broken_file_is_as_good_as_none(tmp_path, text):
    leave(tmp_path, text)
    assert read_previous(tmp_path) == Previous()


@pytest.mark.parametrize(
    "gateway",
    [
        "metadata",
        {"source": "metadata", "ip": "10.0.0", "mac": ""},
        {"source": 1, "ip": None, "mac": ""},
        {"source": "metadata", "ip": None},
    ],
)
def test_what_cannot_be_a_gateway_is_left_out_alone(tmp_path, gateway):
    good = {"source": "metadata", "ip": "10.0.0.1", "mac": ""}
    document = {"gateways": {"ens3/4": gateway, "ens4/4": good, "ens5/5": good}}
    leave(tmp_path, json.dumps(document))
    assert list(read_previous(tmp_path).gateways) == [("ens4", 4)]
