"""What builds images knows nothing of what boots them, and what runs in them stands alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

IMAGE_BUILD = Path(__file__).resolve().parents[2] / "image-build"
PACKAGE = IMAGE_BUILD / "imagebuild"
BUILDING = sorted(PACKAGE.glob("*.py"))
BOOTING = sorted((PACKAGE / "lab").glob("*.py"))
COMMANDS = sorted(
    path
    for path in IMAGE_BUILD.rglob("*")
    if path.is_file() and path.read_bytes().startswith(b"#!/usr/bin/env python3\n")
)
# The one command that boots what it has built.
BOOTS = {"demo"}
# They are copied into images, where they lie beside each other without a package.
IN_IMAGES = {"examine", "firstboot", "inside", "modulelist", "register", "schemafile", "wholefile"}


def imported(path: Path) -> set[str]:
    """Modules of the image builder that a file of it imports, as ``imagebuild.lab.qemu``."""
    found = set()
    package = (
        ["imagebuild", *path.relative_to(PACKAGE).parts[:-1]] if PACKAGE in path.parents else []
    )
    for node in running(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - (node.level - 1)] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.split(".")[0] in {"imagebuild", *IN_IMAGES}}


def running(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but what only a type checker reads."""
    yield tree
    only_typing = isinstance(tree, ast.If) and ast.unparse(tree.test) == "TYPE_CHECKING"
    for node in tree.orelse if only_typing else ast.iter_child_nodes(tree):
        yield from running(node)


def boots(path: Path) -> bool:
    return any(name.split(".")[:2] == ["imagebuild", "lab"] for name in imported(path))


def name_of(path: Path) -> str:
    return str(path.relative_to(IMAGE_BUILD))


def test_all_are_looked_at():
    assert {"bake", "build", "deb", "demo", "install-into", "verify"} <= set(map(name_of, COMMANDS))
    assert {path.stem for path in BUILDING} > IN_IMAGES
    assert all(map(boots, [path for path in BOOTING if path.stem in ("nspawn", "qemu")]))


@pytest.mark.parametrize("path", [*BUILDING, *COMMANDS], ids=name_of)
def test_what_builds_an_image_knows_nothing_of_booting_it(path: Path):
    assert boots(path) == (name_of(path) in BOOTS)


@pytest.mark.parametrize("name", sorted(IN_IMAGES))
def test_what_runs_in_images_imports_only_what_lies_beside_it(name: str):
    assert {module.split(".")[0] for module in imported(PACKAGE / f"{name}.py")} <= IN_IMAGES
