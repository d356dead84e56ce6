"""A clock that is set while we are at work, years back or forth: nothing depends on it.

What a process sees of the clock is faked in it; the kernel's own timers (of
sleep, flock and timeout, which the hooks use) count from when they are set.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from lab import Driver, Lab, pings, snapshot
from lab.command import REPOSITORY

pytestmark = pytest.mark.kernel

YEARS = 10 * 365 * 86400


def lease(dev: str, address: str, router: str) -> str:
    """What dhclient wrote a minute ago and holds for an hour."""
    expire = time.strftime("%w %Y/%m/%d %H:%M:%S", time.gmtime(time.time() + 3600))
    return (
        f'lease {{\n  interface "{dev}";\n  fixed-address {address};\n'
        f"  option subnet-mask 255.255.224.0;\n  option routers {router};\n  expire {expire};\n}}\n"
    )


@pytest.mark.parametrize("jump", [-YEARS, YEARS])
def test_a_gateway_by_lease_stays_when_the_clock_jumps(server, lab: Lab, jump: int):
    """Forwards, the lease looks expired; its client has not said so, and the address is there."""
    cloud, command = server(rp_filter=1)
    document = cloud.stanza(renderer="ifupdown", gateway_guess="never")
    del document["source_routing"]["interfaces"]["ens4"]["gateway4"]
    command.configure(document)
    told = command.root / "var/lib/dhcp/dhclient.ens4.leases"
    told.parent.mkdir(parents=True)
    told.write_text(lease("ens4", "10.13.96.161", "10.13.96.1"))
    with Driver(lab, "S") as driver:
        assert driver(*command.argv("apply")).code == 0
        before, files = snapshot(lab, "S"), command.files()
        assert "lease" in driver(*command.argv("status")).out
        for deed in ("check", "apply", "check"):
            done = driver.faulty("clock", 0, *command.argv(deed), number=jump)
            assert done.code == 0, done
        assert before.difference(snapshot(lab, "S")) == ""
        assert command.files() == files
    assert pings(lab, cloud.matrix()) == []


@pytest.mark.parametrize("date", [0, 2**31])
def test_files_of_another_time_are_as_good_as_those_of_today(server, lab: Lab, date: int):
    cloud, command = server()
    command.configure(cloud.stanza(renderer="ifupdown"))
    command.ok("apply")
    before, files = snapshot(lab, "S"), command.files()
    for path in command.root.rglob("*"):
        os.utime(path, (date, date))
    command.ok("check")
    assert command.ok("apply") == "Nothing to change: all is as planned.\n"
    assert before.difference(snapshot(lab, "S")) == ""
    assert command.files() == files


def test_the_time_since_the_boot_may_be_any(server, lab: Lab):
    """A time namespace: for a server that was resumed, months have gone in no time."""
    import sys

    _cloud, command = server()
    for deed in ("apply", "check"):
        later = ["unshare", "--time", "--fork", "--monotonic", "9999999", "--boottime", "9999999"]
        lab.run(
            "S",
            *later,
            sys.executable,
            "-m",
            "cc_source_routing",
            *command.argv(deed),
            env={"PYTHONPATH": str(REPOSITORY)},
        )
        command.ok("check")


ASKS_FOR_THE_TIME = re.compile(
    r"(?:^|[\s(`;])(?:date|hwclock)\s|\s-(?:newer\w*|nt|ot|[acm]min|[acm]time)\s"
)


def test_no_script_of_ours_compares_dates():
    """Two dates say which came first only while nobody sets the clock."""
    templates = Path(REPOSITORY, "cc_source_routing/templates").glob("*.j2")
    scripts = [*sorted(templates), Path(REPOSITORY, "image-build/systemd/second-nic")]
    assert len(scripts) > 3
    for script in scripts:
        for number, line in enumerate(script.read_text().splitlines(), 1):
            code = line.partition("# ")[0]
            assert not ASKS_FOR_THE_TIME.search(code), f"{script.name}:{number}: {line}"
