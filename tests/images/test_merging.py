"""What real cloud-init hands the module of stanzas in several places; the docs tell just that."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from imagebuild import payload

from cc_source_routing import cloud_init as cloud
from cc_source_routing.model import Stanza
from cc_source_routing.stanza.parse import parse_stanza, schema_defaults

from .conftest import SUITES
from .documents import Archive, Case, Config, Parts, Raw, flow, patch, stanza
from .overlay import Overlay

pytestmark = pytest.mark.daemon

HERE = Path(__file__).resolve().parent
DOCS = payload.CHECKOUT / "docs/user-data.md"

OFF, ON = stanza({"enabled": False}), stanza(True)
BASE, TAPS = stanza({"table_base": 900}), stanza({"exclude": ["tap*"]})
VETHS = stanza({"exclude": ["veth*"]})
OTHERS = Config({"hostname": "a"})
INCLUDED = "/var/tmp/included"
INCLUDE = Raw(f"#include\nfile://{INCLUDED}\n", "`#include` of a document with `true`")


def merging(document: Config, how: str, key: str = "merge_how") -> Config:
    return Config({**document.body, key: how})


def nic(**options: Any) -> Config:
    return stanza({"interfaces": {"ens4": options}})


SOURCES = [
    Case(image=[ON]),
    Case(image=[ON], user=OTHERS),
    Case(image=[stanza(False)], user=ON),
    Case(image=[ON], user=stanza(False)),
    Case(image=[stanza(False)], user=BASE),
    Case(image=[ON], user=BASE),
    Case(image=[BASE], user=ON),
    Case(image=[OFF], user=ON),
    Case(image=[OFF], user=BASE),
    Case(image=[OFF], user=stanza({"enabled": True, "table_base": 900})),
    Case(image=[OFF], user=merging(BASE, "dict(replace)")),
    Case(image=[merging(BASE, "dict(replace)")], user=TAPS),
    Case(image=[BASE], user=TAPS),
    Case(image=[TAPS], user=VETHS),
    Case(image=[nic(table=7)], user=nic(on_link=True)),
    Case(image=[ON], user=stanza(None)),
    Case(image=[BASE], user=stanza(None)),
    Case(image=[stanza(None)], user=ON),
    Case(image=[BASE, TAPS]),
    Case(image=[BASE, ON]),
    Case(image=[BASE, merging(TAPS, "dict(replace)")]),
    Case(image=[merging(BASE, "dict(replace)"), TAPS]),
    Case(vendor=ON),
    Case(vendor=ON, user=stanza(False)),
    Case(vendor=stanza(False), user=ON),
    Case(vendor=OFF, user=BASE),
    Case(vendor=BASE, user=TAPS),
    Case(image=[OFF], vendor=BASE),
    Case(image=[BASE], vendor=TAPS, user=ON),
    Case(vendor=stanza(False), vendor2=ON),
    Case(vendor=ON, user=Config({"vendor_data": {"enabled": False}})),
    Case(image=[ON], user=Raw("#cloud-config\nsource_routing: {\n", "a document that is no YAML")),
    Case(image=[OFF], user=patch({"op": "add", "path": "/source_routing/enabled", "value": True})),
]

RECURSE = "dict(recurse_array)+list(append)"
DOCUMENTS = [
    Parts([BASE, TAPS]),
    Parts([stanza(False), ON]),
    Parts([ON, OTHERS]),
    Parts([BASE, stanza(None)]),
    Parts([BASE, merging(TAPS, "dict()")]),
    Parts([BASE, merging(TAPS, "dict()", "merge_type")]),
    Parts([BASE, Config(TAPS.body, "dict()")]),
    Parts([merging(BASE, "dict()"), TAPS]),
    Parts([TAPS, merging(VETHS, "dict()")]),
    Parts([TAPS, merging(VETHS, RECURSE)]),
    Parts([TAPS, merging(VETHS, "dict(replace)+list(append)")]),
    Parts([stanza(False), merging(ON, "dict()")]),
    Parts([stanza(False), merging(BASE, "dict()")]),
    Parts([OFF, merging(BASE, "dict()")]),
    Parts([OFF, merging(BASE, "dict(replace)")]),
    Parts([BASE, merging(stanza(None), "dict(allow_delete)")]),
    Parts([ON, merging(BASE, "list()")]),
    merging(BASE, "list()"),
    merging(BASE, "dict"),
    merging(BASE, "dict()"),
    Parts([ON, Raw("#cloud-config\nsource_routing: {\n", "a document that is no YAML")]),
    patch({"op": "add", "path": "/source_routing", "value": True}),
    patch({"op": "replace", "path": "/source_routing", "value": True}),
    Parts([BASE, patch({"op": "replace", "path": "/source_routing/table_base", "value": 950})]),
    Parts([BASE, patch({"op": "remove", "path": "/source_routing"})]),
    Parts([patch({"op": "add", "path": "/source_routing/table_base", "value": 950}), TAPS]),
    Archive([BASE, TAPS]),
    Archive([BASE, Config(TAPS.body, "dict()")]),
    Archive([Config(ON.body, declared="text/plain")]),
    Archive([INCLUDE]),
    INCLUDE,
    Parts([BASE, INCLUDE]),
    Parts([INCLUDE, BASE]),
    Parts([Config(ON.body, declared="text/plain")]),
    Parts([Config(ON.body, declared="application/octet-stream")]),
    Parts([BASE, Config(TAPS.body, "dict()", "application/gzip")]),
    Raw("source_routing: true\n", "`source_routing: true` without the line `#cloud-config`"),
    Raw(
        "## template: jinja\n#cloud-config\nsource_routing: {{ v1.region == 'north' }}\n",
        "a Jinja template, rendered to `source_routing: True`",
    ),
]


class Judge:
    """A root's real cloud-init, asked about many cases at once."""

    def __init__(self, root: Overlay):
        self.root = root
        sources = root.upper / "var/tmp/sources/cc_source_routing"
        (root.upper / "var").mkdir(exist_ok=True)
        (root.upper / "var/tmp").mkdir(mode=0o1777, exist_ok=True)
        shutil.copytree(
            payload.CHECKOUT / "cc_source_routing",
            sources,
            ignore=shutil.ignore_patterns("__pycache__", "templates"),
        )
        root.write("var/tmp/handed.py", (HERE / "handed.py").read_text())
        root.write(INCLUDED.lstrip("/"), ON.text())

    def ask(self, cases: list[Case]) -> list[dict[str, Any]]:
        self.root.write("var/tmp/cases.json", json.dumps([case.as_sent() for case in cases]))
        told = self.root.must("python3 /var/tmp/handed.py")
        return json.loads(told.splitlines()[-1])


@pytest.fixture(params=SUITES, scope="module")
def answers(
    request: pytest.FixtureRequest, plain: Callable[[str], Path], scratch: Path
) -> Iterator[dict[str, list[tuple[Case, dict[str, Any]]]]]:
    """All cases with what a release's cloud-init says of them, asked in one go."""
    chance = random.Random(request.config.getoption("hypothesis_seed"))
    many = 400 if request.config.getoption("all") else 80
    groups = {
        "sources": SOURCES,
        "documents": [Case(user=one) for one in DOCUMENTS],
        "random": [
            *(Case(user=one) for text in ODD for one in (odd(text), Parts([odd(text), ON]))),
            *(Case(user=any_user_data(chance)) for _number in range(many)),
        ],
    }
    root = Overlay(plain(request.param), scratch / request.param)
    told = iter(Judge(root).ask([case for cases in groups.values() for case in cases]))
    yield {name: [(case, next(told)) for case in cases] for name, cases in groups.items()}
    shutil.rmtree(root.scratch)


BEGIN, END = "<!-- {}: by tests/images/test_merging.py -->\n", "<!-- end -->\n"


def outcome(handed: list[Any]) -> str:
    """What the module then does, by its own reading of what it is handed."""
    if not handed:
        return "nothing is asked: what an earlier boot has set up stays"
    if cloud._is_off(handed[0]):
        return "off"
    options = parse_stanza(handed[0])
    changed = [key for key in schema_defaults() if "." not in key and _differs(options, key)]
    return "on" + (", with its " + ", ".join(f"`{key}`" for key in changed) if changed else "")


def _differs(options: Stanza, key: str) -> bool:
    return getattr(options, key) != getattr(Stanza(), key)


def table(title: str, answers: list[tuple[Case, dict[str, Any]]]) -> str:
    """The rows of a table of the docs."""
    sources = title == "sources"
    names = ["image", "vendor-data", "user-data"] if sources else ["user-data"]
    rows = [[*names, "the module is handed", "so it is"], ["---"] * (len(names) + 2)]
    for case, answer in answers:
        vendor = [str(one) for one in (case.vendor, case.vendor2) if one]
        cells = ["; then ".join(map(str, case.image)), "; vendor_data2: ".join(vendor)]
        handed = answer["handed"]
        shown = f"`{flow(handed[0])}`" if handed else "nothing"
        rows.append([*(cells if sources else []), str(case.user or ""), shown, outcome(handed)])
    return "".join(f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in row)}|\n" for row in rows)


@pytest.mark.parametrize("title", ["sources", "documents"])
def test_the_docs_tell_what_cloud_init_hands_the_module(title: str, answers: dict) -> None:
    told = table(title, answers[title])
    begin = BEGIN.format(title)
    before, _, rest = DOCS.read_text().partition(begin)
    documented, _, after = rest.partition(END)
    if os.environ.get("SOURCE_ROUTING_UPDATE_DOCS") == "1":
        DOCS.write_text(before + begin + told + END + after)
        return
    assert documented.splitlines() == told.splitlines()


def test_status_knows_by_what_cloud_init_has_left_whether_anything_asks(answers: dict) -> None:
    for case, answer in answers["sources"] + answers["documents"]:
        assert answer["asked"] is bool(answer["handed"]), case


def test_validate_claims_of_user_data_just_what_cloud_init_makes_of_it(answers: dict) -> None:
    wrong, claims = [], 0
    asked = answers["documents"] + answers["random"]
    for case, answer in asked:
        claimed = answer["claimed"] or {"faults": "is empty"}
        if "faults" in claimed or claimed["unknown"] or claimed["kind"] != "user-data":
            continue
        claims += 1
        if claimed["handed"] != answer["handed"]:
            wrong.append(f"{case.user}\nclaimed {claimed}\nbut is   {answer['handed']}")
    assert not wrong, "\n\n".join(wrong)
    assert claims > len(asked) / 3


HOWS = [
    *("dict()", "dict(replace)", "dict(no_replace,recurse_array)+list(append)", "list()"),
    *("dict(recurse_list)+list(prepend)", "dict(recurse_str)+str(append)", "dict(allow_delete)"),
    *("dict(recurse_array)+list(no_replace)", "str()", "dict", "tuple()", "DICT(Replace)", ""),
    *("dict(recurse_list)+list(recurse_dict)", "list(append)+dict(recurse_array,recurse_str)"),
    [{"name": "dict", "settings": ["no_replace", "recurse_list"]}, {"name": "list"}],
    [{"name": "dict", "settings": ["recurse_list"]}, {"name": "list", "settings": ["append"]}],
    [{"name": "dict", "settings": "no_replace"}],
    *([["dict", "no_replace"], ["list", "append"]], [["dict"]], ["dict"], [], 7, {"dict": 1}),
]
VALUES = [
    *(True, False, True, {"enabled": False}, {"table_base": 900}, {"exclude": ["tap*"]}),
    *({"exclude": ["veth*"], "table_base": 700}, {"interfaces": {"ens4": {"table": 7}}}),
    *({"interfaces": {"ens4": {"on_link": True}, "ens5": {}}}, {"renderer": "none"}, {}, None),
    {"interfaces": {"ens4": {"routes": [{"to": "10.0.0.0/8", "via": "10.0.0.1"}]}}},
]
OPERATIONS = [
    *({"op": "add", "path": "/source_routing", "value": value} for value in VALUES),
    {"op": "remove", "path": "/source_routing"},
    {"op": "replace", "path": "/source_routing", "value": True},
    {"op": "replace", "path": "/source_routing/table_base", "value": 950},
    {"op": "add", "path": "/source_routing/exclude/-", "value": "wg*"},
    {"op": "test", "path": "/hostname", "value": "a"},
    {"op": "move", "from": "/kept", "path": "/source_routing"},
    {"op": "copy", "from": "/source_routing", "path": "/kept"},
]
TYPES = [
    *("text/cloud-config", "text/cloud-config", "text/cloud-config", "text/plain"),
    *("text/x-shellscript", "text/jinja2", "application/json", "text/cloud-boothook"),
    "application/gzip",
]


def any_user_data(chance: random.Random, deep: bool = True) -> Any:
    """One document, or a few of them in a multipart or an archive."""
    kind = chance.random()
    if deep and kind < 0.75:
        few = [any_user_data(chance, False) for _number in range(chance.randint(1, 4))]
        return Parts(few) if kind < 0.5 else Archive(few)
    if kind < 0.1:
        return odd(chance.choice(ODD), chance.choice(TYPES))
    if kind < 0.25:
        return patch(*chance.sample(OPERATIONS, chance.randint(1, 3)))
    body: dict[str, Any] = {}
    if chance.random() < 0.85:
        body["source_routing"] = chance.choice(VALUES)
    if chance.random() < 0.3:
        body[chance.choice(["hostname", "kept"])] = "a"
    if chance.random() < 0.5:
        body[chance.choice(["merge_how", "merge_type"])] = chance.choice(HOWS)
    merge_type = chance.choice([how for how in HOWS if isinstance(how, str)])
    declared = chance.choice(TYPES) if chance.random() < 0.3 else TYPES[0]
    return Config(body, merge_type if chance.random() < 0.2 else "", declared)


def odd(text: str, declared: str = "text/plain") -> Raw:
    return Raw(text, repr(text), declared)


ODD = [
    *("", "#!/bin/sh\nid\n", "#cloud-config\n", "#cloud-config\n[a]: 1\nsource_routing: true\n"),
    "#cloud-config\nx: &x {source_routing: {table_base: 800}}\n<<: *x\n",
    "#cloud-config\nx: &x {table_base: 800}\nsource_routing: {<<: *x, renderer: none}\n",
    "\n #Cloud-Config\nsource_routing: true\n",
    "#cloud-config-archive\n- {content: 'source_routing: true'}\n",
    "#cloud-config-archive\n"
    "- {type: 'Text/Cloud-Config; charset=utf-8', content: 'source_routing: true'}\n",
    "#cloud-config-archive\n"
    "- {content: !!binary c291cmNlX3JvdXRpbmc6IHRydWUK, type: text/cloud-config}\n",
    "#cloud-config-archive\n"
    "- {content: !!binary I2Nsb3VkLWNvbmZpZwpzb3VyY2Vfcm91dGluZzogdHJ1ZQo=}\n",
    "#cloud-config-jsonp\n{}\n",
    "#cloud-config\nsource_routing: &a {interfaces: {ens4: *a}}\n",
    f"#include\nfile://{INCLUDED}\n",
    "#cloud-config\nlaunch-index: 1\nsource_routing: true\n",
    "# cloud-config\nsource_routing: true\n",
    "source_routing: true\n",
    "#cloud-config\n- source_routing\n",
    "## template: jinja\n#cloud-config\nsource_routing: {table_base: 800}\n",
    "## template: jinja\n#!/bin/sh\n",
]
