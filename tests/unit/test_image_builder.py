"""The image builder's own decisions: what is built anew, what goes, what is told of it."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

IMAGE_BUILD = Path(__file__).resolve().parents[2] / "image-build"
sys.path.insert(0, str(IMAGE_BUILD))

from imagebuild import cache, provenance  # noqa: E402
from imagebuild.progress import Silent  # noqa: E402
from imagebuild.provenance import Contents  # noqa: E402


@pytest.fixture
def build() -> ModuleType:
    """The command `build`, whose file has no suffix."""
    loader = importlib.machinery.SourceFileLoader("build_command", str(IMAGE_BUILD / "build"))
    spec = importlib.util.spec_from_loader("build_command", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_a_refreshed_image_and_what_is_told_of_it_are_of_one_tree(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[tuple[str, bool]] = []

    def making(name: str) -> Any:
        def make(*_args: object, refresh: bool = False, **_options: object) -> Path:
            made.append((name, refresh))
            (tmp_path / name).write_text(name)
            return tmp_path / name

        return make

    monkeypatch.setattr(build.command, "missing", lambda _programs: {})
    monkeypatch.setattr(build.bake, "disk_image", making("disk"))
    monkeypatch.setattr(build.bake, "baked_root", making("tree"))
    arguments = Namespace(
        suite="bookworm",
        variant="ifupdown",
        no_kernel=False,
        without_module=False,
        default_stanza=None,
        format="qcow2",
        uncompressed=True,
        output=tmp_path / "out.qcow2",
        refresh=True,
    )
    assert build._build(arguments, Silent()) == (tmp_path / "out.qcow2", tmp_path / "tree")
    # The disk's maker refreshes the tree below it; that tree is then the cached one.
    assert made == [("disk", True), ("tree", False)]


def test_only_others_of_the_same_family_are_forgotten(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SOURCE_ROUTING_CACHE", str(tmp_path))
    old = f"baked-bookworm-ifupdown-{'0' * 12}"
    others = (
        f"baked-bookworm-ifupdown-default-{'0' * 12}",
        f"baked-bookworm-ifupdown-nokernel-{'0' * 12}",
        f"root-bookworm-ifupdown-{'0' * 12}",
    )
    for name in (old, *others):
        (tmp_path / name).mkdir()
    kept = cache.remembered("baked-bookworm-ifupdown", "1" * 12, lambda path: path.mkdir())
    found = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert found == {kept.name, *others}


@pytest.mark.parametrize("module", [True, False])
def test_an_image_without_the_module_does_not_claim_to_have_it(module: bool) -> None:
    held = Contents({"ID": "debian", "VERSION_ID": "13"}, "deb", (), "x86_64")
    told = provenance.spdx(Path("image.qcow2"), held, "0" * 64, module)
    names = [package["SPDXID"] for package in told["packages"]]
    assert ("SPDXRef-source-routing" in names) is module
    contained = [entry["relatedSpdxElement"] for entry in told["relationships"]]
    assert ("SPDXRef-source-routing" in contained) is module
