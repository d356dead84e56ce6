"""A stanza that is gone from user-data turns nothing off, and `status` says that it is gone."""

from __future__ import annotations

import json
import sys

import pytest

from cc_source_routing.host.cloud_config import is_disabled, still_asked

COMBINED = "run/cloud-init/combined-cloud-config.json"
RESULT = "run/cloud-init/result.json"
INSTANCE = "var/lib/cloud/instances/i-1"


@pytest.fixture
def root(tmp_path):
    """A root after a boot, by what cloud-init has left in it."""

    def make(**files):
        for name, text in files.items():
            path = tmp_path / PLACES[name]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        link = tmp_path / "var/lib/cloud/instance"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("/var/lib/cloud/instances/i-1")
        return tmp_path

    return make


PLACES = {
    "combined": COMBINED,
    "result": RESULT,
    "user": f"{INSTANCE}/cloud-config.txt",
    "vendor": f"{INSTANCE}/vendor-cloud-config.txt",
    "system": "etc/cloud/cloud.cfg",
    "list": "etc/cloud/cloud.cfg.d/95_source_routing.cfg",
    "image": "etc/cloud/cloud.cfg.d/96_source_routing_default.cfg",
    "later": "etc/cloud/cloud.cfg.d/99_own.cfg",
    "cmdline": "proc/cmdline",
}
THROUGH = {
    "result": "{}",
    "user": "#cloud-config\nhostname: a\n",
    "vendor": "",
    "system": "users: [default]\n",
    "list": "cloud_init_modules: [ssh, source_routing]\n",
    "cmdline": "root=LABEL=root quiet\n",
}


@pytest.mark.parametrize(
    ("value", "off"), [(False, True), ({"enabled": False}, True), (True, False), ({}, False)]
)
def test_off_is_off_also_where_nothing_is_saved(value, off, root):
    assert is_disabled(root(combined=json.dumps({"source_routing": value}))) is off


def test_who_has_no_cloud_init_has_not_been_told_off(tmp_path):
    assert not is_disabled(tmp_path)


@pytest.mark.parametrize(
    ("document", "asked"),
    [({"source_routing": False}, True), ({"source_routing": None}, False), ({"a": 1}, False)],
)
def test_what_cloud_init_has_merged_at_this_boot_decides(document, asked, root):
    assert still_asked(root(combined=json.dumps(document))) is asked


def test_a_release_that_leaves_no_merged_configuration_is_asked_file_by_file(root):
    assert still_asked(root(**THROUGH)) is False


@pytest.mark.parametrize(
    ("files", "asked"),
    [
        ({"user": "#cloud-config\nsource_routing: true\n"}, True),
        ({"vendor": "#cloud-config\nsource_routing: {}\n"}, True),
        ({"image": "source_routing: true\n"}, True),
        ({"system": "source_routing: true\n"}, True),
        ({"user": "#cloud-config\nsource_routing:\n", "image": "source_routing: true\n"}, False),
        ({"later": "source_routing: null\n", "image": "source_routing: true\n"}, False),
        ({"image": "source_routing: {\n"}, False),
        ({"image": "# source_routing: true\n"}, False),
    ],
)
def test_each_of_them_may_ask(files, asked, root):
    assert still_asked(root(**{**THROUGH, **files})) is asked


@pytest.mark.parametrize("lacks", ["result", "user"])
def test_as_long_as_cloud_init_is_not_through_nothing_is_known(lacks, root):
    files = {name: text for name, text in THROUGH.items() if name != lacks}
    assert still_asked(root(**files)) is None


@pytest.mark.parametrize(
    "files",
    [
        {"combined": "{"},
        {"system": "conf_d: /etc/other\n"},
        {"cmdline": "quiet cc: {source_routing: true}\n"},
    ],
)
def test_what_cannot_be_read_or_lies_elsewhere_is_not_known(files, root):
    assert still_asked(root(**{**THROUGH, **files})) is None


def test_without_pyyaml_nothing_is_known(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    monkeypatch.delitem(sys.modules, "cc_source_routing.stanza.yaml_document", raising=False)
    assert still_asked(root(**THROUGH)) is None


def test_a_host_without_cloud_init_is_not_told_anything(tmp_path):
    assert still_asked(tmp_path) is None
