"""What the scripts of 0.1.0 noted in /run is ours to remove, and nothing else there is."""

from __future__ import annotations

from pathlib import Path

from cc_source_routing.render import units

from .roots import Root

NOTED = (
    *("link-event", "link-event.ours", "link-event.unsure", "router-event", "router-event.now"),
    *(
        "networkd-addresses",
        "networkd-written",
        "networkd-restless",
        "revived.ens4",
        "pending.ens4",
    ),
)
TODAYS = ("dhclient.ens4.leases", "lock", "look", "previous.json", "second-nic")


def test_they_are_owned_and_todays_are_not(tmp_path: Path) -> None:
    root = Root(tmp_path)
    for name in (*NOTED, *TODAYS):
        root.file(f"/run/source-routing/{name}")
    owned = units.owned(tmp_path)
    assert sorted(owned) == sorted(f"/run/source-routing/{name}" for name in NOTED)
