"""Which modules of the image builder decide what a baked tree is, so that none is forgotten."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

IMAGE_BUILD = Path(__file__).resolve().parents[2] / "image-build"
sys.path.insert(0, str(IMAGE_BUILD))

from imagebuild.payload import BAKING  # noqa: E402

# They run programs, keep what was built, tell how it goes; and roots have keys of
# their own, which go into those of baked trees.
NO_INPUT = {"cache", "command", "errors", "progress", "recipe", "roottree"}


def known_to(module: str) -> set[str]:
    tree = ast.parse((IMAGE_BUILD / f"imagebuild/{module}.py").read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {node.module} if node.module else {alias.name for alias in node.names}
    return found


def test_all_that_baking_uses_is_part_of_a_baked_trees_key():
    reached, left = set(), ["bake"]
    while left:
        module = left.pop()
        if module not in reached | NO_INPUT:
            reached.add(module)
            left += known_to(module)
    assert {f"{module}.py" for module in reached} <= set(BAKING)


def test_what_goes_into_the_image_is_part_of_it_too():
    assert {"examine.py", "firstboot.py"} <= set(BAKING)  # what they say decides what is cleaned
    registering = {"register.py", "inside.py", "modulelist.py", "schemafile.py", "wholefile.py"}
    assert registering <= set(BAKING)
