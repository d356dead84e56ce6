"""Every pyroute2 that a served distribution ships, and PyPI's newest, does the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lab import Ping, pings, snapshot
from lab.command import REPOSITORY

pytestmark = pytest.mark.kernel

# jammy and EL9, the last 0.6, bookworm, trixie, sid, PyPI.
VERSIONS = ("0.5.14", "0.6.13", "0.7.2", "0.7.7", "0.8.1", "0.9.7")


def cached(version: str) -> Path:
    """That release in a directory of its own, fetched once."""
    default = Path.home() / ".cache/source-routing"
    target = Path(os.environ.get("SOURCE_ROUTING_CACHE", default)) / f"pyroute2-{version}"
    if not (target / "pyroute2").is_dir():
        argv = [sys.executable, "-m", "pip", "install", "-q", "--target", str(target)]
        subprocess.run([*argv, f"pyroute2=={version}"], check=True)
    return target


@pytest.mark.parametrize("version", VERSIONS)
def test_apply_check_and_remove_with(version, lab, server):
    cloud, command = server(rp_filter=1)
    before = snapshot(lab, "S")
    environment = {"PYTHONPATH": f"{cached(version)}:{REPOSITORY}"}

    def run(*argv: str) -> str:
        program = (
            "import pyroute2, sys; from cc_source_routing.cli.main import main; sys.exit(main())"
        )
        done = lab.run(
            "S", sys.executable, "-c", program, *command.argv(*argv), env=environment, timeout=60
        )
        return done.stdout

    assert " changes; ens3 by 162.253.43.1 " in run("apply")
    assert "Nothing to change" in run("apply")
    run("check")
    wanted = [Ping("R", ip) for family in (4, 6) for _nic, ip in cloud.addresses(family)]
    assert pings(lab, wanted) == []
    run("remove")
    assert before.difference(snapshot(lab, "S")) == ""
