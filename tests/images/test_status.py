"""What cloud-init says of a first boot with our stanza in user-data, release by release."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from imagebuild import command
from imagebuild.lab import network, nspawn

from lab import demand  # isort: skip

from ..boot.story import first_boot
from .conftest import SID

pytestmark = pytest.mark.boot

# A mapping: each key has to pass the schema, not only the one on top.
STANZA = "#cloud-config\nsource_routing:\n  gateway_guess: verify\n  exclude: ['docker*']\n"
WRONG = "#cloud-config\nsource_routing:\n  gateway_gues: verify\n"


@pytest.fixture(autouse=True)
def _needs() -> None:
    lacking = command.missing({**network.PROGRAMS, **nspawn.PROGRAMS})
    demand([f"{name} (package {deb})" for name, deb in lacking.items()])


@pytest.mark.parametrize("suite", ["trixie", SID])
def test_a_first_boot_with_the_stanza_is_done_without_any_error(
    suite: str, baked: Callable[[str], Path], scratch: Path
) -> None:
    with first_boot(baked(suite), STANZA, scratch) as server:
        told = server.boot.status
        assert server.boot.status_code == 0, told
        assert told["status"] == "done" and told["extended_status"] == "done", told
        assert told["errors"] == []
        assert told["recoverable_errors"] == {}
        assert server.comes_to_answer_everywhere() == server.expected(only_first_nic=False)


def test_a_wrong_stanza_is_told_by_cloud_init_itself(
    baked: Callable[[str], Path], scratch: Path
) -> None:
    with first_boot(baked("trixie"), WRONG, scratch) as server:
        assert server.boot.status["extended_status"].startswith("degraded")
        assert "gateway_gues" in str(
            server.guest.run(["cloud-init", "schema", "--system"]).stderr
        ) + str(server.boot.status)
