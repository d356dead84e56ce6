"""`validate` says what cloud-init makes of a file, or that it cannot be known; never more."""

from __future__ import annotations

import gzip
import json
import sys
from email.mime.application import MIMEApplication
from email.mime.multipart import MIMEMultipart

import pytest

from cc_source_routing.cli.main import main

from .test_userdata import mime

BASE = "#cloud-config\nsource_routing: {table_base: 900}\n"
TAPS = "#cloud-config\nsource_routing: {exclude: ['tap*']}\n"


def part(text, kind="cloud-config"):
    return (kind, text)


def adding(text, how="dict()"):
    return f"{text}merge_how: {how}\n"


@pytest.fixture
def validate(tmp_path, capsys):
    """(exit code, what is printed as JSON, the sentence without --json, standard error)."""

    def run(text):
        file = tmp_path / "user-data"
        file.write_text(text)
        code = main(["validate", str(file), "--json"])
        document = json.loads(capsys.readouterr().out)
        assert main(["validate", str(file)]) == code
        told = capsys.readouterr()
        return code, document, told.out.strip().replace(f"{file}", "FILE"), told.err

    return run


KNOWN = {
    "a cloud-config": (BASE, {"table_base": 900}),
    "one that is off": ("#cloud-config\nsource_routing: false\n", False),
    "of two parts the last one's": (
        mime(part(BASE), part(TAPS)),
        {"exclude": ["tap*"]},
    ),
    "of two that are merged both": (
        mime(part(BASE), part(adding(TAPS))),
        {"table_base": 900, "exclude": ["tap*"]},
    ),
    "lists that grow": (
        mime(
            part(TAPS),
            part("source_routing: {exclude: [wg0]}\nmerge_how: dict(recurse_list)+list(append)\n"),
        ),
        {"exclude": ["tap*", "wg0"]},
    ),
    "an archive": (
        "#cloud-config-archive\n- |\n  #cloud-config\n  source_routing: true\n- '#!/bin/sh'\n",
        True,
    ),
    "a JSON patch": (
        '#cloud-config-jsonp\n[{"op": "add", "path": "/source_routing", "value": true}]\n',
        True,
    ),
    "a JSON patch of an earlier part": (
        mime(
            part(BASE),
            part(
                '#cloud-config-jsonp\n[{"op": "replace", "path": "/source_routing/table_base", '
                '"value": 950}]',
                "cloud-config-jsonp",
            ),
        ),
        {"table_base": 950},
    ),
    "MIME of one part": (
        "MIME-Version: 1.0\nContent-Type: text/cloud-config\n\nsource_routing: true\n",
        True,
    ),
    "a merge within the document": (
        "#cloud-config\nx: &x {source_routing: {table_base: 900}}\n<<: *x\n",
        {"table_base": 900},
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_handed_to_the_module_is_told(name, validate):
    text, handed = KNOWN[name]
    code, document, told, _warnings = validate(text)
    assert (code, told) == (0, "FILE: the stanza is valid")
    assert (document["handed"], document["known"], document["stanza"]) == (handed, True, True)


NOTHING = {
    "a JSON patch that does not fit": (
        '#cloud-config-jsonp\n[{"op": "remove", "path": "/source_routing"}]\n',
        "cloud-init drops this JSON patch unless a part that is not here has what it asks for",
    ),
    "a part that no handler takes": (
        mime(part(BASE, "x-unknown"), part("#cloud-config\nhostname: a\n")),
        "",
    ),
    "an include within an archive": (
        "#cloud-config-archive\n- |\n  #include\n  http://example.org/\n",
        "entry 1 of the archive is an #include, which is ignored there",
    ),
    "MIME that does not say its version": (
        'Content-Type: multipart/mixed; boundary="x"\n\n--x\n' + BASE,
        "has no MIME-Version header: cloud-init ignores this as user-data",
    ),
    "a stanza that a later part takes away": (
        mime(
            part(BASE),
            part("source_routing:\nmerge_how: dict(allow_delete)\n"),
        ),
        "part 2 takes away the source_routing that is before it",
    ),
}


@pytest.mark.parametrize("name", NOTHING)
def test_where_cloud_init_takes_no_stanza_none_is_told(name, validate):
    text, warning = NOTHING[name]
    code, document, told, warnings = validate(text)
    assert (code, told) == (0, "FILE: no source_routing: key, nothing to validate")
    assert (document["stanza"], document["handed"], document["known"]) == (False, None, True)
    assert warning in warnings and bool(warning) == bool(warnings)


UNKNOWN = {
    "an include beside": (
        mime(part("#include\nhttp://example.org/", "x-include-url"), part(BASE)),
        "part 1 includes what is at URLs",
    ),
    "an include alone in MIME": (
        mime(part("#include\nhttp://example.org/", "x-include-url")),
        "part 1 includes what is at URLs",
    ),
    "a part handler": (
        mime(part("#part-handler\n", "part-handler"), part(BASE)),
        "part 1 is a part handler, which may take what follows",
    ),
    "a template": (
        mime(part("## template: jinja\n#cloud-config\nhostname: {{ a }}\n", "jinja2"), part(BASE)),
        "part 1 is a Jinja template, which the server fills in",
    ),
    "a launch index": (
        f"{BASE}launch-index: 1\n",
        "it is for the server of its launch-index alone",
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_depends_on_more_than_the_file_is_said_to(name, validate):
    text, reason = UNKNOWN[name]
    code, document, told, _warnings = validate(text)
    assert code == 0 and not document["known"] and document["unknown"] == [reason]
    assert "cannot be known from the file" in told and told.endswith(reason)
    assert ("the stanza that is in the file is valid" in told) == document["stanza"]


def test_without_jsonpatch_a_patch_cannot_be_known(validate, monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonpatch", None)
    code, document, told, _warnings = validate(KNOWN["a JSON patch"][0])
    assert (code, document["known"]) == (0, False) and "python3-jsonpatch is missing" in told


def test_a_drop_in_is_not_taken_for_user_data(validate):
    code, document, told, _warnings = validate("source_routing: true\n")
    assert (code, document["kind"]) == (0, "drop-in")
    assert told.endswith("valid, in cloud.cfg.d; user-data begins with #cloud-config")


def test_a_bare_stanza_is_handed_to_nobody(validate):
    code, document, told, _warnings = validate("table_base: 900\n")
    assert (code, document["kind"], document["handed"]) == (0, "stanza", None)


def test_what_is_replaced_is_told_and_not_judged(validate):
    wrong = "#cloud-config\nsource_routing: {tabel_base: 1}\n"
    code, document, _told, warnings = validate(mime(part(wrong), part(BASE)))
    assert (code, document["handed"]) == (0, {"table_base": 900})
    assert "the source_routing of part 2 takes the place of the one before, whole" in warnings


def test_what_has_no_effect_is_told(validate):
    code, document, _told, warnings = validate(
        mime(part(BASE), part(adding("#cloud-config\nsource_routing: {table_base: 950}\n")))
    )
    assert (code, document["handed"]) == (0, {"table_base": 900})
    assert "the source_routing of part 2 has no effect: one before it stays" in warnings


def test_a_fault_of_merged_parts_has_the_line_of_the_part_it_is_of(validate):
    wrong = "#cloud-config\nmerge_how: dict()\nsource_routing:\n  tabel_base: 1\n"
    text = mime(part(BASE), part(wrong)).replace("utf-8", "us-ascii")
    code, document, _told, _warnings = validate(text)
    (fault,) = document["faults"]
    assert (code, fault["path"]) == (2, "tabel_base")


@pytest.mark.parametrize("entry", ["{content: {a: 1}}", "{type: none}", "{content: a, X-Y: 7}"])
def test_an_archive_that_cloud_init_fails_at_is_a_fault(entry, validate):
    code, document, told, _warnings = validate(f"#cloud-config-archive\n- {entry}\n")
    assert (code, document["valid"]) == (2, False)
    assert "cloud-init fails at all of this user-data" in told


def test_a_part_that_is_wrong_is_told_also_where_another_takes_it_away(validate):
    wrong = "#cloud-config\nsource_routing: {table_base: 900, table_base: 901}\n"
    gone = "source_routing:\nmerge_how: dict(allow_delete)\n"
    code, document, _told, _warnings = validate(mime(part(wrong), part(gone)))
    (fault,) = document["faults"]
    assert code == 2 and "more than once" in fault["message"]


def test_a_list_of_urls_alone_cannot_be_judged(validate):
    code, _document, told, _warnings = validate("#include\nhttp://example.org/\n")
    assert code == 2 and "whose content cannot be known here" in told


@pytest.mark.parametrize(
    ("packed", "fault"),
    [
        (gzip.compress(BASE.encode(), mtime=0)[:20], "has part 1 that ends too early"),
        (b"nonsense", "has part 1 that cannot be unpacked"),
        (gzip.compress(bytes(1 << 22), mtime=0), "has part 1 that unpacks to more than 1 MiB"),
    ],
)
def test_a_packed_part_is_unpacked_within_bounds(packed, fault, validate):
    message = MIMEMultipart()
    message.attach(MIMEApplication(packed, "gzip"))
    code, _document, told, _warnings = validate(message.as_string())
    assert code == 2 and told.endswith(fault)


def test_a_value_elsewhere_that_holds_itself_is_a_fault(validate):
    code, _document, told, _warnings = validate(f"{BASE}x: &x [*x]\n")
    assert code == 2 and told.endswith("it has a value that holds itself")


def test_nothing_unfolds_without_end(validate):
    lists = "a0: &a0 [x, x]\n" + "".join(
        f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60)
    )
    _code, document, _told, _warnings = validate(BASE + lists)
    assert document["unknown"] == [
        "it has more than 1048576 values when its anchors and merges unfold"
    ]
    _code, document, _told, _warnings = validate(f"{BASE}x: {'[' * 250}{']' * 250}\n")
    assert document["unknown"] == ["it is nested too deeply"]
    doubling = [{"op": "copy", "from": "", "path": f"/a{n}"} for n in range(60)]
    _code, document, _told, _warnings = validate("#cloud-config-jsonp\n" + json.dumps(doubling))
    assert document["unknown"] == ["it is a JSON patch that copies a lot"]
