"""An installed package carries all that the checkout has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as `pip install .` puts it, in a directory of its own."""
    target = tmp_path_factory.mktemp("installed")
    source = tmp_path_factory.mktemp("source") / "tree"
    # A copy, so that the build leaves nothing in the checkout; links stay links.
    left_out = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build")
    shutil.copytree(REPOSITORY, source, symlinks=True, ignore=left_out)
    argv = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile"]
    subprocess.run([*argv, "--target", str(target), str(source)], check=True)
    return target


def test_the_templates_and_the_schema_are_there(installed):
    package = installed / "cc_source_routing"
    assert (package / "stanza/stanza.schema.json").is_file()
    expected = sorted(path.name for path in (REPOSITORY / "templates").glob("*.j2"))
    assert sorted(path.name for path in (package / "templates").glob("*.j2")) == expected
    assert expected


def test_every_module_is_there(installed):
    def modules(root: Path) -> list[str]:
        found = (str(path.relative_to(root)) for path in root.rglob("*.py"))
        # Behind a link in the checkout, where rglob does not go.
        return sorted(path for path in found if not path.startswith("templates"))

    assert modules(installed / "cc_source_routing") == modules(REPOSITORY / "cc_source_routing")


def test_the_command_runs_from_there(installed, tmp_path):
    good = tmp_path / "user-data"
    good.write_text("#cloud-config\nsource_routing: true\n")
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    result = subprocess.run(
        [sys.executable, str(installed / "bin" / "source-routing"), "validate", str(good)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "valid" in result.stdout
