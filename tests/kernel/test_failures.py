"""What goes wrong in the middle, and what nobody should have written: nothing is half done."""

from __future__ import annotations

import pytest
from lab import Driver, Lab, SourceRouting, pings, rules_without_a_default, snapshot
from sizes import FAULT_STEPS

pytestmark = pytest.mark.kernel


def _refused(document: dict) -> dict:
    """A route that is well formed and that only the kernel refuses: via the host itself."""
    document["source_routing"]["interfaces"]["ens4"]["routes"] = [
        {"to": "203.0.113.0/24", "via": "162.253.43.134", "on_link": True}
    ]
    return document


def test_what_the_kernel_refuses_is_taken_back_whole(server, lab: Lab):
    cloud, command = server()
    before = snapshot(lab, "S")
    command.configure(_refused(cloud.stanza()))
    result = command.run("apply")
    assert result.code == 1, result
    assert "203.0.113.0/24" in result.err
    assert "Traceback" not in result.err
    assert before.difference(snapshot(lab, "S")) == ""
    assert not (command.root / "etc/source-routing/stanza.json").exists()


def test_a_failed_change_leaves_the_working_state_working(server, lab: Lab):
    cloud, command = server(rp_filter=1)
    command.ok("apply")
    before, files = snapshot(lab, "S"), command.files()
    command.configure(_refused(cloud.stanza(rule_priority=7000, table_base=800)))
    assert command.run("apply").code == 1
    assert before.difference(snapshot(lab, "S")) == ""
    assert command.files() == files
    assert pings(lab, cloud.matrix()) == []


@FAULT_STEPS
def test_killed_before_any_operation_no_rule_looks_into_an_empty_table(server, lab: Lab, step: int):
    """Old state, new state or a table without a rule; and the next apply puts it right."""
    _cloud, command = server()
    with Driver(lab, "S") as driver:
        for die_at in range(0, 200, step):
            killed = driver.faulty("kernel", die_at, *command.argv("apply"))
            assert killed.code in (0, -9), killed
            assert rules_without_a_default(lab, "S") == []
            assert driver(*command.argv("apply")).code == 0
            assert driver(*command.argv("check")).code == 0
            assert driver(*command.argv("remove")).code == 0
            if killed.code == 0:
                break
    assert die_at > 20


@FAULT_STEPS
def test_killed_before_any_operation_of_a_change_every_address_goes_on_answering(
    server, lab: Lab, step: int
):
    """From one plan to another, with other tables, priorities and gateways."""
    cloud, command = server(rp_filter=1)
    old, new = cloud.stanza(), cloud.stanza(rule_priority=7000, table_base=800)
    with Driver(lab, "S") as driver:
        for die_at in range(0, 200, step):
            command.configure(old)
            assert driver(*command.argv("apply")).code == 0
            command.configure(new)
            killed = driver.faulty("kernel", die_at, *command.argv("apply"))
            assert killed.code in (0, -9), killed
            assert rules_without_a_default(lab, "S") == []
            assert pings(lab, cloud.matrix()) == [], f"killed before operation {die_at}"
            assert driver(*command.argv("apply")).code == 0
            assert driver(*command.argv("check")).code == 0
            if killed.code == 0:
                break
    assert die_at > 20


@FAULT_STEPS
def test_killed_in_the_middle_of_a_remove_the_next_one_finishes(server, lab: Lab, step: int):
    _cloud, command = server()
    before = snapshot(lab, "S")
    with Driver(lab, "S") as driver:
        for die_at in range(0, 200, step):
            assert driver(*command.argv("apply")).code == 0
            killed = driver.faulty("kernel", die_at, *command.argv("remove"))
            assert rules_without_a_default(lab, "S") == []
            assert driver(*command.argv("remove")).code == 0
            if killed.code == 0:
                break
    assert die_at > 20
    assert before.difference(snapshot(lab, "S")) == ""


def test_an_event_that_was_under_way_does_not_bring_back_what_was_removed(server, lab: Lab):
    """Hooks apply again what was applied before; by hand one applies whatever was."""
    _cloud, command = server()
    before = snapshot(lab, "S")
    with Driver(lab, "S") as driver:
        assert driver(*command.argv("apply")).code == 0
        command.configure(None)
        again = driver(*command.argv("apply", "--again"))
        assert (again.code, again.out) == (0, "Nothing to change: all is as planned.\n")
        assert driver(*command.argv("remove")).code == 0
        late = driver(*command.argv("apply", "--again"))
        assert (late.code, late.out) == (0, "")
        assert late.err == "source-routing: nothing has been applied here, nothing to do\n"
    assert before.difference(snapshot(lab, "S")) == ""


def test_without_the_right_to_change_the_network_it_says_so_and_changes_nothing(
    server, lab: Lab, root
):
    """A container without CAP_NET_ADMIN: EPERM for the first operation."""
    import sys

    from lab.command import REPOSITORY

    _cloud, command = server()
    before = snapshot(lab, "S")
    done = lab.run(
        "S",
        "setpriv",
        "--bounding-set=-net_admin",
        "--inh-caps=-net_admin",
        sys.executable,
        "-m",
        "cc_source_routing",
        *command.argv("apply"),
        check=False,
        env={"PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    assert "permitted" in done.stderr.lower()
    assert before.difference(snapshot(lab, "S")) == ""


HUGE = "e" * 300


def ens4(keys: bytes) -> bytes:
    """A stanza whose entry for ens4 has these keys."""
    return b"source_routing: {interfaces: {ens4: {" + keys + b"}}}"


BAD: dict[str, bytes] = {
    "a list": b"source_routing: [1, 2]",
    "a string": b"source_routing: please",
    "a number": b"source_routing: 7",
    "an unknown key": b"source_routing: {tabel_base: 500}",
    "a wrong type of a key": b"source_routing: {table_base: five}",
    "a float for an integer": b"source_routing: {table_base: 500.5}",
    "a boolean for an integer": b"source_routing: {rule_priority: true}",
    "a reserved table base": b"source_routing: {table_base: 254}",
    "a negative table base": b"source_routing: {table_base: -1}",
    "a priority of zero": b"source_routing: {rule_priority: 0}",
    "a priority after main": b"source_routing: {rule_priority: 32766}",
    "an unknown renderer": b"source_routing: {renderer: systemd}",
    "a renderer with a path": b'source_routing: {renderer: "../../../tmp/x"}',
    "an unknown family": b"source_routing: {families: [ipv5]}",
    "no family at all": b"source_routing: {families: []}",
    "a family that is no list": b"source_routing: {families: ipv4}",
    "an unknown guess": b"source_routing: {gateway_guess: maybe}",
    "an unknown rp_filter": b"source_routing: {rp_filter: 3}",
    "published ports as text": b'source_routing: {published_ports: "yes"}',
    "exclude as a string": b'source_routing: {exclude: "tap*"}',
    "a hostile exclude": b'source_routing: {exclude: ["tap*; reboot"]}',
    "interfaces as a list": b"source_routing: {interfaces: [ens4]}",
    "a hostile name": b'source_routing: {interfaces: {"ens4; reboot": {}}}',
    "a name with a newline": b'source_routing: {interfaces: {"ens4\\nreboot": {}}}',
    "a name with a command": b'source_routing: {interfaces: {"$(reboot)": {}}}',
    "a name with a path": b'source_routing: {interfaces: {"../etc/passwd": {}}}',
    "a name of 300 characters": f"source_routing: {{interfaces: {{{HUGE}: {{}}}}}}".encode(),
    "an empty name": b'source_routing: {interfaces: {"": {}}}',
    "a hostile MAC": b'source_routing: {interfaces: {x: {match: {macaddress: "a; reboot"}}}}',
    "a MAC that is short": b'source_routing: {interfaces: {x: {match: {macaddress: "fa:16"}}}}',
    "a gateway that is none": ens4(b"gateway4: router"),
    "a gateway with a prefix": ens4(b"gateway4: 10.13.96.1/19"),
    "a gateway of the other family": ens4(b'gateway4: "fd00::1"'),
    "a gateway elsewhere": ens4(b"gateway4: 192.0.2.1"),
    "the own address as gateway": ens4(b"gateway4: 10.13.96.161"),
    "table main": ens4(b"table: 254"),
    "table zero": ens4(b"table: 0"),
    "one table twice": b"source_routing: {interfaces: {ens3: {table: 7}, ens4: {table: 7}}}",
    "a route without a destination": ens4(b"routes: [{via: 10.13.96.1}]"),
    "a route with host bits": ens4(b"routes: [{to: 10.1.2.3/8, via: 10.13.96.1}]"),
    "a route that mixes families": ens4(b'routes: [{to: "fd01::/16", via: 10.13.96.1}]'),
    "a route via elsewhere": ens4(b"routes: [{to: 10.1.0.0/16, via: 192.0.2.1}]"),
    "two entries for one NIC": ens4(b"}, x: {match: {name: ens4}"),
    "one entry for two NICs": b'source_routing: {interfaces: {x: {match: {name: "ens*"}}}}',
    "duplicate keys": b"source_routing: {table_base: 500, table_base: 600}",
    "duplicate documents of ours": b"source_routing: true\nsource_routing: false\n",
    "a tab for indentation": b"source_routing:\n\tenabled: true\n",
    "an open bracket": b"source_routing: {interfaces: {ens4: {",
    "bytes that are no UTF-8": b"source_routing: {exclude: [\xff\xfe]}",
    "a Python object": b"source_routing: !!python/object/apply:os.system [reboot]",
    "a NUL": b"source_routing: {exclude: [a\x00b]}",
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """One server for the whole table of bad input, since none of it may change anything."""
    from lab import Cloud, demand, missing_for_lab, seed_nics

    demand(missing_for_lab())
    root = tmp_path_factory.mktemp("bad") / "root"
    root.mkdir()
    with Lab() as lab:
        Cloud(lab, seed_nics(), container=False, hosts=False).build()
        command = SourceRouting(lab, "S", root)
        with Driver(lab, "S") as driver:
            yield lab, command, driver


@pytest.mark.parametrize("what", BAD)
def test_bad_input_ends_with_two_and_changes_nothing(prepared, what: str):
    lab, command, driver = prepared
    command.config = command.root.parent / "bad.yaml"
    command.config.write_bytes(b"#cloud-config\n" + BAD[what])
    before, files = snapshot(lab, "S"), command.files()
    result = driver(*command.argv("apply"))
    assert result.code == 2, result
    lines = result.err.splitlines()
    assert lines
    assert all(line.startswith("source-routing: ") for line in lines), result
    assert len(result.err) < 4000
    assert before.difference(snapshot(lab, "S")) == ""
    assert command.files() == files


def test_every_fault_is_told_at_once_on_a_line_of_its_own(prepared):
    _lab, command, driver = prepared
    command.configure(
        {
            "source_routing": {
                "table_base": -1,
                "renderer": "none of these",
                "interfaces": {"ens4": {"gateway4": "router", "table": 254}},
            }
        }
    )
    result = driver(*command.argv("apply"))
    assert result.code == 2
    for key in ("table_base", "renderer", "interfaces.ens4.gateway4", "interfaces.ens4.table"):
        assert any(f" {key}" in line for line in result.err.splitlines()), (key, result.err)


@pytest.mark.parametrize(
    "argv", [[], ["frobnicate"], ["apply", "--frob"], ["explain", "--from", "x"], ["render"]]
)
def test_wrong_use_ends_with_two(prepared, argv: list[str]):
    _lab, command, driver = prepared
    command.config = None
    result = driver(*command.argv(*argv))
    assert result.code == 2, result
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("content", "code"), [(None, 2), (b"", 2), (b"#cloud-config\nhostname: web1\n", 0)]
)
def test_a_config_that_is_missing_or_empty_is_not_taken_for_an_order_to_remove(
    prepared, content, code
):
    lab, command, _driver = prepared
    command.config = command.root.parent / "other.yaml"
    command.config.unlink(missing_ok=True)
    if content is not None:
        command.config.write_bytes(content)
    before = snapshot(lab, "S")
    result = command.run("apply")
    assert result.code == code, result
    assert "Traceback" not in result.err
    assert before.difference(snapshot(lab, "S")) == ""
