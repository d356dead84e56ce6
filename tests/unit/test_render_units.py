"""When systemd is told to read its unit files again."""

from __future__ import annotations

from cc_source_routing.render import units


def test_systemd_is_told_of_unit_files_that_are_gone_and_of_no_others():
    unit = "/etc/systemd/system/source-routing-link.socket"
    drop_in = "/etc/systemd/system/networking.service.d/50-source-routing.conf"
    assert units.after([unit, drop_in], ["/etc/source-routing/hook"]) == ()
    assert units.after([], [unit]) == (units.RELOAD,)
    assert units.after([], [drop_in]) == (units.RELOAD,)
