"""`handle` as every served cloud-init calls it: quiet, harmless, in bounded time."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from lab import be_instance

import cc_source_routing
from cc_source_routing import cloud_init as cloud
from cc_source_routing import engine
from cc_source_routing.host.saved_stanza import saved_stanza

ROOT = Path(__file__).resolve().parents[2]


def load(code: str) -> str:
    """Modules that `code` has loaded beside those of a bare interpreter."""
    program = (
        "import sys, logging, pathlib, threading, typing, __future__\nbefore = set(sys.modules)\n"
        f"{code}\nprint(*sorted(set(sys.modules) - before))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return result.stdout


def test_meta_serves_every_release():
    for key in ("id", "name", "title", "description", "distros", "frequency", "examples"):
        assert key in cc_source_routing.meta
    assert cc_source_routing.frequency == cc_source_routing.meta["frequency"] == "always"
    assert cc_source_routing.meta["activate_by_schema_keys"] == []


def test_old_releases_call_it_with_five_positionals_and_new_ones_with_keywords():
    cc_source_routing.handle("source_routing", {}, object(), logging.getLogger(), [])
    cc_source_routing.handle(name="source_routing", cfg={}, cloud=object(), args=[])


def test_the_signature_has_four_parameters():
    """cloud-init logs a deprecation, which degrades the boot, for five."""
    import inspect

    assert len(inspect.signature(cc_source_routing.handle).parameters) == 4


@pytest.mark.parametrize("cfg", ["{}", "{'source_routing': None}"])
def test_without_a_stanza_nothing_is_imported(cfg):
    loaded = load(f"import cc_source_routing\ncc_source_routing.handle('x', {cfg})")
    assert loaded.split() == ["cc_source_routing"]


@pytest.mark.parametrize("stanza", ["False", "{'enabled': False}"])
def test_with_false_nothing_heavy_is_imported(stanza):
    loaded = load(
        f"import cc_source_routing\ncc_source_routing.handle('x', {{'source_routing': {stanza}}})"
    )
    assert loaded.split() == ["cc_source_routing", "cc_source_routing.cloud_init"]


THE_FEW = (
    *("cloud_init", "errors", "files", "files.read"),
    *("host", "host.instance", "host.second_nic"),
)
ONE_NIC = (
    "import pathlib, cc_source_routing.cloud_init as c\nc.count_nics = lambda: 1\n"
    "c.run({stanza!r}, None, pathlib.Path({root!r}))"
)


@pytest.mark.parametrize("stanza", [True, {"rp_filter": "loose"}])
def test_with_a_single_nic_the_stanza_is_kept_and_next_to_nothing_imported(tmp_path, stanza):
    code = ONE_NIC.format(stanza=stanza, root=str(tmp_path))
    first = load(code).split()
    assert not {"pyroute2", "jinja2"} & set(first)
    kept = tmp_path / "etc/source-routing"
    assert sorted(path.name for path in kept.iterdir()) == ["one-nic", "stanza.json"]
    assert json.loads((kept / "one-nic").read_text()) == stanza
    later = [name for name in load(code).split() if name.startswith("cc_source_routing")]
    assert later == [
        "cc_source_routing",
        *(f"cc_source_routing.{name}" for name in THE_FEW),
    ]


def test_with_a_single_nic_another_stanza_takes_the_place_of_the_first(tmp_path, monkeypatch):
    monkeypatch.setattr(cloud, "count_nics", lambda: 1)
    cloud.run(True, None, tmp_path)
    cloud.run({"gateway_guess": "never"}, None, tmp_path)
    assert saved_stanza(tmp_path).gateway_guess == "never"


def test_with_a_single_nic_a_bad_stanza_is_told_and_not_kept(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(cloud, "count_nics", lambda: 1)
    cloud.run({"tabel_base": 5}, None, tmp_path)
    assert "tabel_base" in caplog.text
    assert not (tmp_path / "etc").exists()


def test_without_a_stanza_what_another_server_has_left_is_taken_away(tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(cloud, "_remove", lambda value, _cloud, root: taken.append(root))
    cloud.run(None, None, tmp_path)
    be_instance(tmp_path, "i-1")
    monkeypatch.setattr(cloud, "count_nics", lambda: 1)
    cloud.run(True, None, tmp_path)
    cloud.run(None, None, tmp_path)
    assert taken == [], "on stays on, on the server that was told so"
    be_instance(tmp_path, "i-2")
    cloud.run(None, None, tmp_path)
    assert taken == [tmp_path]


def test_a_bad_stanza_keeps_nothing_of_another_server(tmp_path, monkeypatch, caplog):
    taken = []
    monkeypatch.setattr(engine, "remove", taken.append)
    monkeypatch.setattr(cloud, "count_nics", lambda: 1)
    be_instance(tmp_path, "i-1")
    cloud.run(True, None, tmp_path)
    monkeypatch.setattr(cloud, "count_nics", lambda: 2)
    cloud.run({"tabel_base": 5}, None, tmp_path)
    assert taken == []
    be_instance(tmp_path, "i-2")
    cloud.run({"tabel_base": 5}, None, tmp_path)
    assert taken == [tmp_path] and "tabel_base" in caplog.text


def test_loopback_bridges_and_tunnels_are_not_counted_as_nics(tmp_path):
    for name, mark in (
        ("lo", ""),
        ("ens3", ""),
        ("ens4", ""),
        ("docker0", "bridge"),
        ("tun0", "tun_flags"),
    ):
        (tmp_path / name / mark).mkdir(parents=True)
    assert cloud.count_nics(tmp_path) == 2


def test_an_unreadable_sysfs_is_unknown_not_none(tmp_path):
    assert cloud.count_nics(tmp_path / "missing") == 2


def test_no_exception_leaves_handle(caplog, monkeypatch):
    def explode(*_args):
        raise RuntimeError("boom")

    monkeypatch.setattr(cloud, "run", explode)
    with caplog.at_level(logging.ERROR):
        cc_source_routing.handle("source_routing", {"source_routing": True})
    assert "boom" in caplog.text


def test_a_cfg_that_is_not_a_mapping_is_logged(caplog):
    cc_source_routing.handle("source_routing", None)
    assert "the boot goes on" in caplog.text


def test_what_hangs_is_given_up(caplog, monkeypatch):
    monkeypatch.setattr(cloud, "TIME_LIMIT_SECONDS", 0.1)
    monkeypatch.setattr(cloud, "count_nics", lambda: 2)
    goes_on = threading.Event()
    monkeypatch.setattr(cloud, "_work", lambda *_args: goes_on.wait(60))
    cc_source_routing.handle("source_routing", {"source_routing": True})
    assert not goes_on.is_set()
    goes_on.set()
    assert "gave up" in caplog.text


def test_a_bad_stanza_is_told_fault_by_fault_and_changes_nothing(caplog, monkeypatch, tmp_path):
    monkeypatch.setattr(cloud, "count_nics", lambda: 2)
    cloud.run({"tabel_base": 5, "rp_filter": "perhaps"}, None, tmp_path)
    assert "tabel_base" in caplog.text and "table_base" in caplog.text
    assert "rp_filter" in caplog.text
    assert list(tmp_path.iterdir()) == []
