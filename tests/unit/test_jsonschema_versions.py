"""Each jsonschema that a served distribution ships, and PyPI's newest, gives the same sentences."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from releases import cached

from .test_stanza_faults import BAD, faults_of

REPOSITORY = Path(__file__).resolve().parents[2]
# Ubuntu 22.04 and EL 9, bookworm, trixie, PyPI.
VERSIONS = ("3.2.0", "4.10.3", "4.19.2", "4.26.0")


@pytest.mark.parametrize("version", VERSIONS)
def test_each_bad_stanza_is_reported_alike_with(version: str):
    program = (
        "import importlib.metadata, json\n"
        "from tests.unit.test_stanza_faults import BAD, faults_of\n"
        "found = {name: [str(fault) for fault in faults_of(BAD[name][0])] for name in BAD}\n"
        "print(json.dumps([importlib.metadata.version('jsonschema'), found]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{cached('jsonschema', version)}:{REPOSITORY}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    used, found = json.loads(done.stdout)
    assert used == version
    assert found == {name: [str(fault) for fault in faults_of(BAD[name][0])] for name in BAD}
