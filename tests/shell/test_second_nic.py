"""The package's script that looks whether a second NIC has come: it asks seldom."""

from __future__ import annotations

from pathlib import Path

import pytest

from cc_source_routing.host.second_nic import WAITING_PATH
from cc_source_routing.model import ConfigFile

from .sandbox import SHELLS, Sandbox

pytestmark = pytest.mark.kernel

SCRIPT = Path(__file__).resolve().parents[2] / "image-build/systemd/second-nic"
APPLY = ["source-routing apply --again"]
# Of a kind that each kernel has; what is behind a NIC does not matter.
LINKS = {
    "one": ("ip link add ens3 type ifb", []),
    "two": ("ip link add ens3 type ifb; ip link add ens4 type ifb", APPLY),
    "a bridge of containers": (
        "ip link add ens3 type ifb; ip link add docker0 type bridge; "
        "ip link add veth7 type veth peer name veth8; "
        "ip link set veth7 master docker0; ip link set veth8 master docker0",
        [],
    ),
    "a tunnel": ("ip link add ens3 type ifb; ip tuntap add tun0 mode tun", []),
}


def look(box: Sandbox, shell: str, links: str) -> list[str]:
    """How `source-routing` was called by the script, among these links."""
    caller = box.caller("exec 3</dev/null", f"exec {shell} {SCRIPT}")
    run = box.run(caller, f"mount -t sysfs sysfs /sys\n{links}\n")
    assert (run.code, run.err) == (0, ""), run
    return [call for call in run.calls if not call.startswith("sleep ")]


@pytest.fixture()
def box(tmp_path: Path) -> Sandbox:
    sandbox = Sandbox(tmp_path, [ConfigFile(WAITING_PATH, "true\n")])
    sandbox.mock("sleep")
    return sandbox


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("links", LINKS)
def test_only_a_second_nic_is_a_reason_to_plan(box: Sandbox, shell: str, links: str) -> None:
    script, expected = LINKS[links]
    assert look(box, shell, script) == expected
    assert look(box, shell, script) == [], "the same links are not asked about again"


def test_nothing_is_planned_where_nobody_waits(box: Sandbox) -> None:
    (box.root / WAITING_PATH.lstrip("/")).unlink()
    assert look(box, "dash", LINKS["two"][0]) == []
