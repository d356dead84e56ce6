"""Fixtures of the kernel tests: a root directory and a server to run the command in."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab import Cloud, Lab, Nic, SourceRouting, seed_nics

ServerFactory = Callable[..., "tuple[Cloud, SourceRouting]"]


@pytest.fixture()
def root(tmp_path: Path) -> Path:
    """An empty tree that stands for / where files are concerned, with iproute2's own names."""
    made = tmp_path / "root"
    made.mkdir()
    shutil.copytree("/etc/iproute2", made / "etc/iproute2")
    return made


@pytest.fixture()
def served(server: ServerFactory) -> SourceRouting:
    """The command of a server with two NICs that has applied once."""
    _cloud, command = server()
    command.ok("apply")
    return command


@pytest.fixture()
def server(lab: Lab, root: Path) -> ServerFactory:
    """Build a cloud (two NICs unless told) and give the command its stanza, not yet applied."""

    def build(
        nics: tuple[Nic, ...] | None = None,
        stanza: dict[str, Any] | None = None,
        **options: Any,
    ) -> tuple[Cloud, SourceRouting]:
        cloud = Cloud(lab, nics or seed_nics(), **options).build()
        command = SourceRouting(lab, "S", root)
        command.configure(cloud.stanza(**(stanza or {})))
        return cloud, command

    return build
