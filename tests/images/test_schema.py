"""cloud-init's own schema, taught our stanza: good ones pass, bad ones are marked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from imagebuild import payload

from .conftest import SUITES
from .overlay import Overlay

pytestmark = pytest.mark.daemon

EXAMPLES = sorted((payload.CHECKOUT / "examples").glob("*.yaml"))
SCHEMA = "usr/lib/python3/dist-packages/cloudinit/config/schemas/schema-cloud-config-v1.json"
INSTALL = f'"{payload.CHECKOUT}/image-build/install-into" "$ROOT"'

# One fault per stanza, in lines of their own: 22.4 cannot mark what is in a flow mapping.
BAD = {
    "tabel_base: 500": "'tabel_base' was unexpected",
    "renderer: sysvinit": "'sysvinit' is not one of",
    "rule_priority: often": "'often' is not of type 'integer'",
    "interfaces:\n    ens4:\n      gatewy4: 10.0.0.1": "'gatewy4' was unexpected",
}


@pytest.fixture(params=SUITES)
def root(
    request: pytest.FixtureRequest,
    plain: Callable[[str], Path],
    overlay: Callable[[Path], Overlay],
) -> Overlay:
    return overlay(plain(request.param))


def test_cloud_init_accepts_each_example_and_marks_the_bad_ones(root: Overlay) -> None:
    before = json.loads(root.read(SCHEMA))
    done = root.host(INSTALL)
    assert done.returncode == 0, done.stderr
    assert EXAMPLES
    for number, example in enumerate(EXAMPLES):
        root.write(f"var/tmp/good{number}.yaml", example.read_text())
    for number, stanza in enumerate(BAD):
        root.write(f"var/tmp/bad{number}.yaml", f"#cloud-config\nsource_routing:\n  {stanza}\n")
    # One shell for all: entering the root is what takes time.
    told = root.must(
        "for file in /var/tmp/good*.yaml; do cloud-init schema --config-file $file; done\n"
        f"for i in $(seq 0 {len(BAD) - 1}); do\n"
        "    echo == $i\n"
        "    ! cloud-init schema --config-file /var/tmp/bad$i.yaml >/dev/null 2>&1\n"
        # Its exit code differs between releases.
        "    cloud-init schema --annotate --config-file /var/tmp/bad$i.yaml 2>&1 || :\n"
        "done"
    )
    parts = told.split("== ")[1:]
    for (stanza, fault), part in zip(BAD.items(), parts):
        assert fault in part, f"{stanza}: {part}"
        assert "# E1" in part, f"{stanza} is not marked: {part}"
    # All that was known is still known.
    after = json.loads(root.read(SCHEMA))
    assert set(before["$defs"]) == set(after["$defs"]) - {"cc_source_routing"}
    assert after["allOf"][:-1] == before["allOf"]
    if "properties" in before:
        assert set(after["properties"]) - set(before["properties"]) == {"source_routing"}


def test_dpkg_finds_nothing_to_complain_of_and_a_rerun_writes_nothing(root: Overlay) -> None:
    assert root.host(INSTALL).returncode == 0
    assert root.must("dpkg --verify cloud-init") == ""
    written = (root.upper / SCHEMA).stat().st_mtime_ns
    assert root.must("/usr/lib/source-routing/register") == ""
    assert (root.upper / SCHEMA).stat().st_mtime_ns == written
    root.must("/usr/lib/source-routing/register --remove")
    assert root.must("dpkg --verify cloud-init; dpkg-divert --list | grep source || true") == ""
    assert json.loads(root.read(SCHEMA)) == json.loads((root.lower / SCHEMA).read_text())


def test_a_registration_that_was_cut_off_is_completed_by_the_next(
    plain: Callable[[str], Path], overlay: Callable[[Path], Overlay]
) -> None:
    root = overlay(plain("bookworm"))
    assert root.host(INSTALL).returncode == 0
    # The diversion was lost, or not made yet.
    root.must(f"dpkg-divert --quiet --package source-routing --no-rename --remove /{SCHEMA}")
    root.must("/usr/lib/source-routing/register")
    assert root.must("dpkg --verify cloud-init") == ""
    # Someone else's tool put the original back under its name.
    root.must(f"cp /{SCHEMA}.distrib /{SCHEMA}")
    assert "wrote" in root.must("/usr/lib/source-routing/register")
    assert root.must("/usr/lib/source-routing/register --check") == ""


def test_a_schema_of_an_unknown_shape_is_left_alone_and_told(
    plain: Callable[[str], Path], overlay: Callable[[Path], Overlay]
) -> None:
    root = overlay(plain("bookworm"))
    root.write(SCHEMA, '{"$schema": "of tomorrow"}\n')
    done = root.host(INSTALL)
    assert done.returncode == 1
    assert "cloud-init's schema is not of the known shape" in done.stderr
    assert "Traceback" not in done.stderr
    assert root.read(SCHEMA) == '{"$schema": "of tomorrow"}\n'
    assert not (root.upper / "usr/bin/source-routing").exists()
