"""The Python behind a cloud-init is read off its first lines, however they are written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "image-build"))

from imagebuild import home  # noqa: E402

LONG = "/opt/" + "a-long-name/" * 12 + "bin/python3.11"


@pytest.mark.parametrize(
    ("text", "python"),
    [
        ("#!/usr/bin/python3\nimport re\n", "/usr/bin/python3"),
        ("#! /usr/bin/python3\n", "/usr/bin/python3"),
        ("#!/usr/bin/python3 -sP\n", "/usr/bin/python3"),
        ("#!/opt/cloud-init/bin/python\n", "/opt/cloud-init/bin/python"),
        ("#!/usr/bin/env python3\n", "python3"),
        ("#!/usr/bin/env -S PYTHONSAFEPATH=1 python3 -I\n", "python3"),
        # As pip writes it where the kernel would cut the first line off.
        (f"#!/bin/sh\n'''exec' {LONG} \"$0\" \"$@\"\n' '''\nimport re\n", LONG),
        ('#!/bin/sh\n\'\'\'exec\' "/opt/a b/bin/python3" "$0" "$@"\n', "/opt/a b/bin/python3"),
        ("#!/bin/sh\nexit 0\n", None),
        ("#!/usr/bin/env\n", None),
        ("#!\n", None),
        ("\x7fELF\n#!/usr/bin/python3\n", None),
        ("", None),
    ],
)
def test_the_interpreter_is(text: str, python: str | None) -> None:
    assert home.interpreter(text) == python


@pytest.mark.parametrize(
    ("line", "program"),
    [
        ("python3", "python3"),
        ("-S python3 -P", "python3"),
        ("-Spython3 -s", "python3"),
        ("-vS /usr/libexec/platform-python -s", "/usr/libexec/platform-python"),
        ("--split-string=python3 -I", "python3"),
        ("-i -S LC_ALL=C python3", "python3"),
    ],
)
def test_the_python_behind_env_is_found_whatever_its_options(line: str, program: str) -> None:
    assert home.interpreter(f"#!/usr/bin/env {line}\n") == program


def _installed(root: Path, site: str, python: str) -> Path:
    (root / site).mkdir(parents=True)
    library = root / "usr/lib/source-routing"
    library.mkdir(parents=True, exist_ok=True)
    (library / "register").write_text(f"#!{python}\n")
    return (root / site).resolve()


@pytest.mark.parametrize(
    ("site", "python"),
    [
        ("usr/lib/python3/dist-packages", "/usr/bin/python3"),
        ("usr/lib/python3.12/site-packages", "/usr/bin/python3.12"),
        ("usr/local/lib/python3.13/dist-packages", "/usr/bin/python3"),
        ("opt/cloud-init/lib/python3.13/site-packages", "/opt/cloud-init/bin/python3"),
        ("opt/a[b]/lib64/python3.13/site-packages", "/opt/a[b]/bin/python3"),
    ],
)
def test_what_was_installed_is_looked_for_where_it_is(
    site: str, python: str, tmp_path: Path
) -> None:
    assert _installed(tmp_path, site, python) in home.sites(tmp_path)


def test_nothing_outside_of_the_root_is_looked_at(tmp_path: Path) -> None:
    outside = tmp_path / "outside/lib/python3.13/site-packages"
    outside.mkdir(parents=True)
    root = tmp_path / "root"
    _installed(root, "usr/lib/python3/dist-packages", f"{tmp_path}/outside/bin/python3")
    (root / "usr/local").symlink_to(tmp_path / "outside")
    assert outside.resolve() not in home.sites(root)
