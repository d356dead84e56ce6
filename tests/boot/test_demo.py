"""The README's first command, as a user runs it, in its quick form."""

from __future__ import annotations

import re

import pytest
from imagebuild import payload
from imagebuild.command import attempt

pytestmark = pytest.mark.boot

DEMO = payload.CHECKOUT / "image-build/demo"
ROW = re.compile(r"^(\S+)  +(answers|silent)  +(answers|silent)$", re.MULTILINE)


def test_it_shows_the_second_nic_dead_without_the_stanza_and_alive_with_it() -> None:
    done = attempt([DEMO, "--container"], timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = {address: (without, served) for address, without, served in ROW.findall(done.stdout)}
    assert shown["162.253.43.134"] == ("answers", "answers")
    assert shown["10.13.96.161"] == ("silent", "answers")
    assert {served for _without, served in shown.values()} == {"answers"}
    assert "$ source-routing status\nNIC " in done.stdout
