"""The directions in which modules may know each other, and what an import costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "cc_source_routing"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "templates" not in path.parts)
# Modules of the pure core: no I/O, no kernel, no cloud-init.
PURE = {
    "cloudmerge",
    "cloudparts",
    "diff",
    "errors",
    "fitting",
    "gateway",
    "hostindex",
    "marks",
    "meaning",
    "model",
    "planner",
    "prefixes",
    "priorities",
    "report",
    "rules",
    "selection",
    "stringchecks",
    "tables",
    "wire",
    "wire_events",
}
IMPURE_LIBRARIES = {"socket", "subprocess", "os", "cloudinit", "pyroute2", "shutil", "urllib"}


def imported(path: Path, top_level_only: bool = False):
    """Names of imported modules; ours as their bare module names."""
    found = set()
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                found.add((node.module or "").split(".")[0])
            elif node.module:
                found.add("." + node.module.split(".")[0])
            else:
                found.update("." + alias.name for alias in node.names)
    return found


def name_of(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_netlink_edge_imports_pyroute2(path):
    if path.name != "netlink.py":
        assert "pyroute2" not in imported(path)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_edge_runs_commands(path):
    if path.name != "commands.py":
        assert "subprocess" not in imported(path)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_needs_cloud_init(path):
    assert "cloudinit" not in imported(path)


@pytest.mark.parametrize("name", sorted(PURE))
def test_the_core_does_no_io(name):
    assert not imported(PACKAGE / f"{name}.py") & IMPURE_LIBRARIES


@pytest.mark.parametrize("name", sorted(PURE - {"report"}))
def test_the_core_knows_only_the_core(name):
    own = {module[1:] for module in imported(PACKAGE / f"{name}.py") if module.startswith(".")}
    assert own <= PURE


def test_netlink_is_imported_only_where_it_is_used():
    """pyroute2 costs a quarter of a second: never at the import of anything else."""
    for path in MODULES:
        assert ".netlink" not in imported(path, top_level_only=True), path.name


def test_nothing_is_called_schema():
    """cloud-init takes such an attribute for its own schema and drops the whole stage."""
    import cc_source_routing

    assert not hasattr(cc_source_routing, "schema")
    assert not (PACKAGE / "schema.py").exists() and not (PACKAGE / "schema").exists()


def test_importing_the_package_needs_the_standard_library_alone():
    code = "import sys, cc_source_routing; print(*sorted(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(result.stdout.split())
    assert not loaded & {"pyroute2", "jinja2", "jsonschema", "yaml", "cloudinit", "logging"}
