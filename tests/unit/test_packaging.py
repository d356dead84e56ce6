"""An installed package carries all that the checkout has."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cc_source_routing.render import units
from cc_source_routing.version import VERSION

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "image-build"))

from imagebuild import payload  # noqa: E402


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean copy, so that a build leaves nothing in the checkout; links stay links."""
    copy = tmp_path_factory.mktemp("source") / "tree"
    left_out = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build")
    shutil.copytree(REPOSITORY, copy, symlinks=True, ignore=left_out)
    return copy


@pytest.fixture(scope="module")
def installed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as `pip install .` puts it, in a directory of its own."""
    target = tmp_path_factory.mktemp("installed")
    argv = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile"]
    subprocess.run([*argv, "--target", str(target), str(source)], check=True)
    return target


@pytest.mark.parametrize("pattern", ["templates/*.j2", "systemd/*", "stanza/*.json", "py.typed"])
def test_what_the_modules_read_is_there(installed, pattern):
    def found(root: Path) -> list[str]:
        return sorted(path.name for path in (root / "cc_source_routing").glob(pattern))

    assert found(installed) == found(REPOSITORY)
    assert found(installed)


def test_every_module_is_there(installed):
    def modules(root: Path) -> list[str]:
        found = (str(path.relative_to(root)) for path in root.rglob("*.py"))
        # Behind a link in the checkout, where rglob does not go.
        return sorted(path for path in found if not path.startswith("templates"))

    assert modules(installed / "cc_source_routing") == modules(REPOSITORY / "cc_source_routing")


@pytest.fixture(scope="module")
def command(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of a virtual environment in which nothing but `pip install .` was done."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    pip = [str(environment / "bin/python"), "-m", "pip", "install", "-q", str(source)]
    subprocess.run(pip, check=True)
    return environment / "bin/source-routing"


def run(*argv: object, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [*map(str, argv)],
        cwd="/",
        env={**own, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_pip_installs_all_that_the_command_needs(command, tmp_path):
    good = tmp_path / "user-data"
    good.write_text("#cloud-config\nsource_routing: {renderer: none, table_base: 900}\n")
    validated = run(command, "validate", good)
    assert (validated.returncode, validated.stderr) == (0, "")
    assert "the stanza is valid" in validated.stdout
    (tmp_path / "root").mkdir()
    planned = run(command, "plan", "--root", tmp_path / "root", "--config", good, "--json")
    assert planned.returncode == 0, planned.stderr
    assert json.loads(planned.stdout)["pending_files"]
    assert list((tmp_path / "root").iterdir()) == []


def test_the_command_says_its_version(command):
    assert run(command, "--version").stdout == f"source-routing {VERSION}\n"


def test_what_was_copied_without_metadata_says_its_version(tmp_path):
    shutil.copytree(REPOSITORY / "cc_source_routing", tmp_path / "cc_source_routing")
    copied = run(sys.executable, "-m", "cc_source_routing", "--version", PYTHONPATH=str(tmp_path))
    assert copied.stdout == f"source-routing {VERSION}\n"


def test_images_have_the_units_where_an_apply_looks_for_them():
    shipped = payload.units()
    for name in units.NAMES:
        unit = REPOSITORY / "cc_source_routing/systemd" / name
        assert shipped[f"{units.SHIPPED_PATH}/{name}"].content == unit.read_bytes()
    wants = REPOSITORY / "cc_source_routing/systemd/wants.conf"
    # One in /etc, where pip's apply writes it, is in place of this one: systemd.unit(5).
    drop_in = units.WANTS_PATH.replace(units.UNITS_PATH, units.SHIPPED_PATH)
    assert shipped[drop_in].content == wants.read_bytes()
    assert f"{units.SHIPPED_PATH}/source-routing.timer" in shipped


def test_what_bakes_images_knows_the_version():
    assert payload.project().version == VERSION
