"""A file's stanza is found whatever kind of user-data it is, and its faults have lines."""

from __future__ import annotations

import gzip
import json
import os
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cc_source_routing.errors import FileError, SourceRoutingError, StanzaError
from cc_source_routing.model import Stanza
from cc_source_routing.stanza.parse import MAX_FAULTS
from cc_source_routing.stanza.parts import MAX_BYTES
from cc_source_routing.stanza.saved import stanza_to_json
from cc_source_routing.stanza.user_data import load_stanza_file
from cc_source_routing.stanza.yaml_document import Yaml


@pytest.fixture
def load(tmp_path):
    def write_and_load(content):
        path = tmp_path / "user-data"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_stanza_file(path)

    return write_and_load


@pytest.fixture
def faults(load):
    """(line, path, message) of each fault of a bad file."""

    def bad(content):
        with pytest.raises(StanzaError) as caught:
            load(content)
        error = caught.value
        assert str(error).isprintable() and len(error.lines) == len(error.faults)
        return [(fault.line, fault.path, fault.message) for fault in error.faults]

    return bad


def mime(*parts, encode=True):
    message = MIMEMultipart()
    for kind, text in parts:
        message.attach(MIMEText(text, kind, "utf-8" if encode else "us-ascii"))
    return message.as_string()


# -- kinds of files that are well -----------------------------------------------------

WELL = {
    "a cloud-config": ("#cloud-config\npackages: [x]\nsource_routing: {table_base: 900}\n", ()),
    "a cloud-config after empty lines": (
        "\n\n#cloud-config\nsource_routing: {table_base: 900}\n",
        (),
    ),
    "Windows line ends": ("#cloud-config\r\nsource_routing:\r\n  table_base: 900\r\n", ()),
    "our key alone": ("source_routing: {table_base: 900}\n", ()),
    "a bare stanza": ("table_base: 900\n", ()),
    "a bare stanza in JSON": ('{"table_base": 900}', ()),
    "a cloud-config in JSON": ('{"source_routing": {"table_base": 900}}', ()),
    "flow style": ("{table_base: 900}", ()),
    "gzip": (gzip.compress(b"#cloud-config\nsource_routing: {table_base: 900}\n", mtime=0), ()),
    "gzip of two members": (
        gzip.compress(b"#cloud-config\n", mtime=0)
        + gzip.compress(b"source_routing: {table_base: 900}\n", mtime=0),
        (),
    ),
    "no header": (
        "source_routing: {table_base: 900}\nusers: []\n",
        ("first line must be #cloud-config",),
    ),
    "header with a space": (
        "# cloud-config\nsource_routing: {table_base: 900}\n",
        ("first line must be #cloud-config",),
    ),
    "header too late": (
        "# my server\n#cloud-config\nsource_routing: {table_base: 900}\n",
        ("first line must be #cloud-config",),
    ),
    "MIME": (mime(("cloud-config", "#cloud-config\nsource_routing: {table_base: 900}\n")), ()),
    "MIME with a script": (
        mime(
            ("x-shellscript", "#!/bin/sh\nid\n"),
            ("plain", "#cloud-config\nsource_routing: {table_base: 900}\n"),
        ),
        (),
    ),
    "MIME with two": (
        mime(
            ("cloud-config", "source_routing: {table_base: 700}\n"),
            ("cloud-config", "source_routing: {table_base: 900}\n"),
        ),
        ("takes the place of the one before",),
    ),
    "a template whose stanza is plain": (
        "## template: jinja\n#cloud-config\nhostname: {{ v1.name }}\n"
        "source_routing: {table_base: 900}\n",
        ("is a Jinja template",),
    ),
    "an anchor": (
        "#cloud-config\nx: &base {table_base: 900}\nsource_routing: *base\n",
        (),
    ),
    "a merge": (
        "#cloud-config\nx: &base {table_base: 700}\nsource_routing: {<<: *base, table_base: 900}\n",
        (),
    ),
    "keys twice elsewhere": (
        "#cloud-config\ny: 1\ny: 2\nsource_routing: {table_base: 900}\n",
        (),
    ),
}


@pytest.mark.parametrize("name", WELL)
def test_the_stanza_is_found_in(name, load):
    content, warnings = WELL[name]
    loaded = load(content)
    assert loaded.stanza == Stanza(table_base=900)
    assert len(loaded.warnings) == len(warnings)
    for phrase, warning in zip(warnings, loaded.warnings):
        assert phrase in warning


@pytest.mark.parametrize(
    "content",
    [
        "#cloud-config\n",
        "#cloud-config\npackages: [x]\n",
        "users: []\nruncmd: []\n",
        mime(("cloud-config", "packages: [x]\n")),
        mime(("x-shellscript", "#!/bin/sh\n")),
        "MIME-Version: 1.0\n\n#!/bin/sh\n",
    ],
)
def test_a_cloud_config_that_does_not_speak_of_us_has_no_stanza(content, load):
    assert load(content).stanza is None


# -- files that are no good -----------------------------------------------------------

BROKEN = {
    "empty": ("", None, "is empty"),
    "only comments": ("# nothing\n", None, "is empty"),
    "a list": ("- source_routing\n", 1, "not a mapping"),
    "a word": ("source_routing\n", 1, "not a mapping"),
    "a script": ("#!/bin/sh\nreboot\n", 1, "is a script"),
    "an include": ("#include\nhttp://example.org/\n", 1, "list of URLs"),
    "a boothook": ("#cloud-boothook\nid\n", 1, "is a boothook"),
    "an archive that is no list": ("#cloud-config-archive\na: 1\n", 1, "is no list of parts"),
    "an unknown tag elsewhere": (
        "#cloud-config\nx: !odd {}\nsource_routing: true\n",
        2,
        "cloud-init cannot read this document, and drops it: could not determine a constructor",
    ),
    "an expression elsewhere": (
        "#cloud-config\nx: {{ y }}\nsource_routing: true\n",
        2,
        "cloud-init cannot read this document, and drops it: found unhashable key",
    ),
    "a merge_how that is none": (
        "#cloud-config\nmerge_how: dict\nsource_routing: true\n",
        None,
        "cloud-init cannot merge it as it asks for, and drops it: 'dict' is no merger",
    ),
    "a merge_how without dict()": (
        "#cloud-config\nmerge_how: list()\nsource_routing: true\n",
        None,
        "cloud-init takes nothing of it",
    ),
    "a JSON patch that is none": ("#cloud-config-jsonp\n[{]\n", None, "is no JSON patch"),
    "Latin-1": (b"#cloud-config\nsource_routing: true # caf\xe9\n", 2, "not UTF-8: byte 0xe9"),
    "a byte order mark": (b"\xef\xbb\xbf#cloud-config\nsource_routing: true\n", 1, "byte order"),
    "UTF-16": ("#cloud-config\n".encode("utf-16"), 1, "is UTF-16"),
    "a NUL": ("source_routing:\n  renderer: a\0b\n", 2, "the character '\\x00'"),
    "binary": (bytes(range(128, 256)), 1, "not UTF-8"),
    "half a gzip": (
        gzip.compress(b"source_routing: true\n" * 99, mtime=0)[:20],
        None,
        "ends too early",
    ),
    "more than gzip": (
        gzip.compress(b"#cloud-config\n", mtime=0) + b"x",
        None,
        "cannot be unpacked",
    ),
    "no gzip after all": (b"\x1f\x8bnonsense", None, "cannot be unpacked"),
    "a gzip bomb": (gzip.compress(bytes(1 << 26), mtime=0), None, "unpacks to more than 1 MiB"),
    "a huge file": (b"#" * (1 << 21), None, "larger than 1 MiB"),
    "no character": ('source_routing: {renderer: "\\UFFFFFFFF"}\n', 1, "is not YAML"),
    "a tab": ("source_routing:\n\tenabled: true\n", 2, "spaces, not tabs"),
    "bad indentation": ("source_routing:\n  enabled: true\n rp_filter: keep\n", 3, "is not YAML"),
    "an open bracket": ("source_routing: {families: [ipv4}\n", 1, "is not YAML"),
    "an unquoted glob": ("source_routing:\n  exclude: [*tap]\n", 2, "undefined alias"),
    "two documents": ("source_routing: true\n---\nsource_routing: true\n", 2, "is not YAML"),
    "depth": ("source_routing: " + "[" * 50000, None, "nested too deeply"),
    "depth in JSON": ('{"source_routing": ' + "[" * 99999 + "]" * 99999 + "}", None, "too deeply"),
    "a template": (
        "## template: jinja\n#cloud-config\nsource_routing: {renderer: '{{ x }}'}\n",
        1,
        "is a Jinja template",
    ),
    "a template with blocks": (
        "## template: jinja\n#cloud-config\n{% if a %}\nsource_routing: true\n{% endif %}\n",
        1,
        "cloud-init devel render",
    ),
    "a template with an odd key": (
        "## template: jinja\n#cloud-config\nsource_routing: {table: {{ x }}}\n",
        1,
        "is a Jinja template",
    ),
    "a template of one line": ("## template: jinja", 1, "is a Jinja template"),
    "MIME without parts": ("MIME-Version: 1.0\n\nhello\n", None, "without parts"),
    "laughter": (
        "source_routing: {}\na0: &a0 {x: 1, y: 2}\n"
        + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40))
        + "b: 1\n",
        None,
        None,
    ),
}


@pytest.mark.parametrize("name", [name for name in BROKEN if BROKEN[name][2]])
def test_a_broken_file_is_one_fault(name, faults):
    content, line, phrase = BROKEN[name]
    ((told_line, path, message),) = faults(content)
    assert (told_line, path) == (line, "")
    assert phrase in message


def test_merges_elsewhere_that_unfold_without_end_are_never_unfolded(load):
    assert load(BROKEN["laughter"][0]).stanza == Stanza()


def test_merges_in_the_stanza_that_unfold_without_end_are_refused(faults):
    text = "a0: &a0 {x: 1, y: 2}\n"
    text += "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40))
    ((line, _path, message),) = faults(text + "source_routing: *a39\n")
    assert line == 41 and "merges unfold" in message


def unfolding(*, to):
    """A list of 2 ** 40 values in a few lines, and then `to` its anchor."""
    lists = (f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
    return "#cloud-config\na0: &a0 [x, x]\n" + "".join(lists) + to


def test_a_key_that_unfolds_without_end_is_never_unfolded(load, faults):
    assert load(unfolding(to="source_routing: true\nz: {? *a39 : 1}\n")).stanza == Stanza()
    ((line, _path, message),) = faults(unfolding(to="source_routing: {? *a39 : 1}\n"))
    assert line == 42 and "merges unfold" in message


def test_what_is_deep_by_its_anchors_alone_is_a_fault(faults):
    deep = "[&a0 [x]" + "".join(f", &a{n} [*a{n - 1}]" for n in range(1, 1200)) + "]"
    text = f"#cloud-config\nsource_routing: {{exclude: {deep}}}\n"
    assert faults(text)
    assert faults(f"## template: jinja\n{text}")
    assert faults(mime(("cloud-config", text), ("cloud-config", text)))


@pytest.mark.parametrize("key", ["source-routing", "sourceRouting", "source_routng"])
def test_a_misspelt_top_level_key_is_told(key, faults):
    ((line, path, message),) = faults(f"#cloud-config\nusers: []\n{key}: true\n")
    assert (line, path) == (3, key) and "did you mean source_routing?" in message


# -- lines -----------------------------------------------------------------------------


def test_each_fault_has_its_line(faults):
    assert [
        fault[:2]
        for fault in faults(
            "#cloud-config\n"
            "source_routing:\n"
            "  tableBase: 5\n"
            "  interfaces:\n"
            "    ens4.100:\n"
            "      gateway4: fe80::1\n"
            "      routes:\n"
            "        - {to: 10.0.0.0/8, via: 10.0.0.1}\n"
            "        - to: 10.1.2.3/8\n"
            "          via: 10.0.0.1\n"
            "        - via: 10.0.0.1\n"
            "    ens5; reboot: {}\n"
            "    7: {}\n"
        )
    ] == [
        (3, "tableBase"),
        (6, "interfaces.ens4.100.gateway4"),
        (9, "interfaces.ens4.100.routes.1.to"),
        (11, "interfaces.ens4.100.routes.2.to"),
        (12, "interfaces.'ens5; reboot'"),
        (13, "interfaces.7"),
    ]


def test_a_fault_prints_as_compilers_print_it(load, tmp_path):
    with pytest.raises(StanzaError) as caught:
        load("#cloud-config\nsource_routing:\n  table_base: 1\n")
    (line,) = caught.value.lines
    assert line.startswith(f"{tmp_path}/user-data:3: table_base: is 1, not within 256")
    assert str(caught.value) == line


def test_a_stanza_that_is_wrong_as_a_whole_has_the_line_of_its_key(faults):
    ((line, path, message),) = faults("#cloud-config\nusers: []\nsource_routing:\n")
    assert (line, path) == (3, "")
    assert message.startswith("source_routing must be true, false or a mapping")


def test_each_path_has_the_line_of_its_nearest_key():
    text = "#cloud-config\nsource_routing:\n  interfaces:\n    ens4: {table: 7}\n"
    document = Yaml(text, 0).take("source_routing")
    assert document.line_of("interfaces.ens4.table") == 4
    assert document.line_of("interfaces.ens4.gateway4") == 4
    assert document.line_of("rp_filter") == 2


def test_a_merged_key_has_the_line_where_it_stands(faults):
    text = "x: &x\n  tabel_base: 1\nsource_routing: {<<: *x, rp_filter: off}\n"
    assert [fault[:2] for fault in faults(text)] == [(2, "tabel_base"), (3, "rp_filter")]


def test_a_key_that_cannot_be_read_is_one_fault(faults):
    ((line, path, message),) = faults("source_routing:\n  2026-99-99: {}\n")
    assert (line, path) == (2, "2026-99-99") and "cannot read as timestamp" in message


def test_lines_of_a_plain_mime_part_are_the_files(faults):
    part = "#cloud-config\nsource_routing:\n  table_base: 1\n"
    text = mime(("x-shellscript", "#!/bin/sh\n"), ("cloud-config", part), encode=False)
    ((line, path, _message),) = faults(text)
    assert path == "table_base"
    assert text.split("\n")[line - 1] == "  table_base: 1"


def test_lines_of_an_encoded_mime_part_are_not_made_up(faults):
    ((line, path, _message),) = faults(mime(("cloud-config", "source_routing: {table_base: 1}\n")))
    assert (line, path) == (None, "table_base")


def test_lines_of_a_template_are_the_files(faults):
    text = "## template: jinja\n#cloud-config\nsource_routing:\n  table_base: 1\n"
    ((line, path, _message),) = faults(text)
    assert (line, path) == (4, "table_base")


def test_faults_in_json_have_lines_too(faults):
    ((line, path, _message),) = faults('{\n "table_base": 1\n}')
    assert (line, path) == (2, "table_base")


# -- what a YAML loader hides -------------------------------------------------------------


def test_a_key_that_is_there_twice_is_told_with_both_lines(faults):
    text = "#cloud-config\nsource_routing:\n  interfaces:\n    ens4: {table: 7}\n    ens4: {}\n"
    assert faults(text) == [(5, "interfaces.ens4", "is there more than once (first at line 4)")]


def test_our_key_twice_is_told(faults):
    text = "#cloud-config\nsource_routing: true\nsource_routing: false\n"
    ((line, path, message),) = faults(text)
    assert (line, path) == (3, "")
    assert message == "source_routing is there more than once (first at line 2)"


def test_keys_twice_in_json_are_told(faults):
    ((_line, path, message),) = faults('{"interfaces": {"ens4": {"table": 7, "table": 8}}}')
    assert path == "interfaces.ens4.table" and "more than once" in message


def test_keys_twice_and_other_faults_are_told_together(faults):
    text = "table_base: 500\nrp_filter: off\ntable_base: 600\n"
    assert [fault[:2] for fault in faults(text)] == [(2, "rp_filter"), (3, "table_base")]


def test_an_unquoted_mac_address_that_yaml_takes_for_a_number_is_told(faults):
    text = "interfaces:\n  ens4:\n    match: {macaddress: 52:54:00:12:34:56}\n"
    ((line, path, message),) = faults(text)
    assert (line, path) == (3, "interfaces.ens4.match.macaddress")
    assert "put the MAC address in quotes" in message


@pytest.mark.parametrize(
    ("value", "phrase"),
    [
        ("2026-99-99", "YAML cannot read as timestamp"),
        ("!!int abc", "YAML cannot read as int"),
        ("!!int", "YAML cannot read as int"),
        ("!!bool perhaps", "YAML cannot read as bool"),
        ("!!python/object/apply:os.system [id]", "the YAML tag"),
        ("!mine {a: 1}", "the YAML tag '!mine'"),
        ("{{ table }}", "list or mapping for a key"),
        ("!!binary aGFsbG8=", "must be a whole number, not a bytes"),
        ("!!set {a}", "must be a whole number, not a set"),
        ("2026-01-02", "must be a whole number, not a date"),
        ("9" * 5000, "not the string '999"),
        ("1" + ":59" * 3000, "(9001 characters)"),
    ],
)
def test_an_odd_value_is_one_fault_at_its_key(value, phrase, faults):
    told = faults(f"#cloud-config\nsource_routing:\n  table_base: {value}\n")
    assert told[0][:2] == (3, "table_base")
    assert phrase in told[0][2]
    assert {fault[1] for fault in told} == {"table_base"}


def test_a_long_number_in_json_is_a_fault(faults):
    ((_line, path, message),) = faults('{"table_base": ' + "9" * 5000 + "}")
    assert path == "table_base" and "5000 characters" in message


def test_faults_without_end_are_counted(faults):
    told = faults("interfaces:\n" + "".join(f"  'e {n}': {{}}\n" for n in range(500)))
    assert len(told) == 51
    assert told[-1] == (None, "", "and 450 more faults")


def test_a_value_that_holds_itself_is_a_fault(faults):
    ((_line, _path, message),) = faults("source_routing: &all\n  interfaces: {ens4: *all}\n")
    assert message.endswith("it has a value that holds itself")
    ((_line, _path, message),) = faults("&all\ninterfaces: {ens4: *all}\n")
    assert message.endswith("it has a value that holds itself")


# -- the file itself -----------------------------------------------------------------------


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(FileError, match=r"none: cannot be read: No such file or directory$"):
        load_stanza_file(tmp_path / "none")


def test_a_directory_is_one_sentence(tmp_path):
    with pytest.raises(FileError, match="cannot be read: Is a directory"):
        load_stanza_file(tmp_path)


def test_a_hostile_file_name_is_shown_safely(tmp_path):
    with pytest.raises(FileError) as caught:
        load_stanza_file(f"{tmp_path}/a\nb\x1b[2J")
    assert str(caught.value).isprintable()
    with pytest.raises(FileError):
        load_stanza_file("a\0b")


def test_an_endless_file_is_not_read_to_its_end():
    if not os.path.exists("/dev/zero"):
        pytest.fail("/dev/zero is missing")
    with pytest.raises(StanzaError, match="larger than 1 MiB"):
        load_stanza_file("/dev/zero")


def test_a_full_megabyte_is_read(load):
    rows = "".join(f"  - to: 10.0.{n % 256}.0/24\n" for n in range(1 << 15))
    text = f"source_routing: {{}}\nelsewhere:\n{rows}"
    assert len(text) < MAX_BYTES
    assert load(text).stanza == Stanza()


def lines(*, count, of, before="source_routing:\n"):
    """`before` and then `of` with each number that is below `count`."""
    return before + "".join(of.format(number) for number in range(count))


# What quadratic work would not end at: each as large as a file may be, or as a limit lets it.
NICS = "source_routing:\n interfaces:\n"
LARGE = {
    "unknown keys": (lines(count=60_000, of="  key{}: 1\n"), "and 59950 more faults"),
    "unknown keys in JSON": (
        '{"source_routing": {' + lines(count=20_000, of='"k{}":1,', before="") + '"k":1}}',
        "and 19951 more faults",
    ),
    "one key again and again": (lines(count=20_000, of="  table_base: 7\n"), "and 19950 more"),
    "unknown keys beside it": (
        lines(count=20_000, of="key{}: 1\n", before="source_routing: {a: 1}\n"),
        "is not a known key",
    ),
    "a thousand NICs": (
        lines(count=1000, of="  e{}: {{gatway: 1, routes: [{{}}, {{}}, {{}}]}}\n", before=NICS),
        "and 6950 more faults",
    ),
    "prefixes of many NICs": (
        NICS
        + "".join(
            lines(
                count=1000,
                of=f"    - 2001:db8:{nic}:{{}}::/64\n",
                before=f"  e{nic}:\n   sources:\n",
            )
            for nic in range(20)
        )
        + " rule_priority: 0\n",
        "not within 1 to 32000",
    ),
    "more values than a stanza has": (
        f"x: &x [{'1, ' * 300}]\nsource_routing: {{exclude: [{'*x, ' * 400}]}}\n",
        "source_routing is too large: it has more than 100000 values",
    ),
    "a long list": ("source_routing: {exclude: [" + "a," * 20_000 + "]}", "more than 256 entries"),
    "a long scalar": ("source_routing: " + "x" * 900_000, "(900000 characters)"),
    "a long scalar in quotes": ("source_routing: '" + "x " * 400_000 + "'", "(800000 characters)"),
    "a long number": ("source_routing: {table_base: " + "7" * 900_000 + "}", "(900000 characters)"),
    "anchors": (
        lines(count=10_000, of="- &a{0} [x{0}]\n", before="source_routing: {a: 1}\nx:\n"),
        "is not a known key",
    ),
    "depth": ("source_routing: " + "{a: " * 100_000 + "}" * 100_000, "is nested too deeply"),
    "depth of lists": ("source_routing:\n  " + "- " * 100_000 + "a", "is nested too deeply"),
    "laughter": (
        lines(count=20, of="a{0}: &a{0} [" + "*b, " * 9 + "*b]\n", before="b: &b x\n")
        + lines(count=1, of="c: &c [" + "*a19, " * 400 + "]\nsource_routing: *c\n", before=""),
        "must be true, false or a mapping",
    ),
    "merges of merges": (
        lines(count=5000, of="k{0}: 1, ", before="a0: &a0 {")
        + "x: 1}\n"
        + "".join(f"a{n}: &a{n} {{<<: *a{n - 1}}}\n" for n in range(1, 150))
        + "source_routing: *a149\n",
        "when its anchors and merges unfold",
    ),
    "10 MB": ("source_routing: true\n" + "# more\n" * 1_500_000, "is larger than 1 MiB"),
    "10 MB in gzip": (
        gzip.compress(b"source_routing: true\n" + b"# more\n" * 1_500_000, mtime=0),
        "is gzip that unpacks to more than 1 MiB",
    ),
    "many parts": (
        mime(*[("cloud-config", "source_routing: {a: 1}\n")] * 1001),
        "has more than 1000 parts",
    ),
    "parts in parts": (
        "MIME-Version: 1.0\n"
        + lines(
            count=2000, of='Content-Type: multipart/mixed; boundary="b{0}"\n\n--b{0}\n', before=""
        ),
        "is MIME that is nested too deeply",
    ),
    "many entries of an archive": (
        "#cloud-config-archive\n" + "- '#!'\n" * 10_000,
        "has more than 1000 parts",
    ),
}


@pytest.mark.parametrize("name", LARGE)
def test_what_is_large_ends_with_a_few_clear_sentences(name, faults):
    content, phrase = LARGE[name]
    told = faults(content)
    assert len(told) <= MAX_FAULTS + 1
    assert phrase in told[-1][2]


PIECES = st.sampled_from(
    "#cloud-config\n|source_routing|: |\n|  |- |{|}|[|]|,|&a |*a |<<: |!!int |? |'|\"|true|"
    "interfaces|ens4|table|7|~|{{|{%|\0|\t|2026-01-01|routes|to|via|10.0.0.0/8|MIME-Version: 1.0\n"
    "|## template: jinja\n|---\n|!x |<<|=|.inf|0x|1:2".split("|")
)


@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.lists(PIECES, max_size=30).map("".join).map(str.encode))
def test_whatever_a_file_has_comes_out_as_a_stanza_or_as_an_error_of_ours(load, content):
    try:
        loaded = load(content)
    except SourceRoutingError as error:
        assert str(error).isprintable()
    else:
        assert loaded.stanza is None or json.loads(stanza_to_json(loaded.stanza))
