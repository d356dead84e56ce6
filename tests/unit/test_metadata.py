"""What cloud-init left on disk, or holds, tells the ports; in which order it is believed."""

from __future__ import annotations

import json
import os
import tempfile
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_source_routing.host.metadata.read import (
    METADATA_PATH,
    metadata_from_datasource,
    metadata_to_json,
    read_metadata,
)
from cc_source_routing.model import Metadata, MetadataPort, MetadataRoute

DATA = Path(__file__).parent / "data" / "metadata"
TWO_STATIC = json.loads((DATA / "network_data" / "two-static.json").read_text())
V1 = json.loads((DATA / "network_config" / "v1-two-static.json").read_text())
MACS = ("fa:16:3e:fc:45:9d", "fa:16:3e:2b:e7:89")

SENSITIVE = "/run/cloud-init/instance-data-sensitive.json"
WORLD_READABLE = "/run/cloud-init/instance-data.json"
CONFIG = "/var/lib/cloud/instances/i-1/network-config.json"
SEED = "/var/lib/cloud/seed/config_drive/openstack/latest/network_data.json"


def put(root: Path, path: str, content) -> Path:
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(content if isinstance(content, str) else json.dumps(content))
    return target


def port(mac: str) -> dict:
    """A network_data.json with one port."""
    return {"links": [{"id": "a", "type": "phy", "ethernet_mac_address": mac}], "networks": []}


def instance_data(network_json) -> dict:
    return {"ds": {"_doc": "...", "meta_data": {}, "network_json": network_json}, "v1": {}}


def macs(metadata: Metadata):
    return tuple(port.mac for port in metadata.ports)


# -- on disk -----------------------------------------------------------------


def test_an_empty_root_tells_nothing_and_warns_of_nothing(tmp_path):
    assert read_metadata(tmp_path) == Metadata()


@pytest.mark.parametrize("path", [SENSITIVE, WORLD_READABLE])
def test_the_instance_data_holds_network_data_json(tmp_path, path):
    put(tmp_path, path, instance_data(TWO_STATIC))
    told = read_metadata(tmp_path)
    assert macs(told) == MACS
    assert {port.source for port in told.ports} == {path}
    assert told.warnings == ()


@pytest.mark.parametrize("none", [None, "_unset", "redacted for non-root user", [], 7, {}])
def test_a_cloud_without_network_data_is_unknown(tmp_path, none):
    put(tmp_path, SENSITIVE, instance_data(none))
    assert read_metadata(tmp_path) == Metadata()


def test_the_configuration_is_found_through_clouds_absolute_links(tmp_path):
    put(tmp_path, CONFIG, V1)
    (tmp_path / "var/lib/cloud/instance").symlink_to("/var/lib/cloud/instances/i-1")
    (tmp_path / "run/cloud-init").mkdir(parents=True)
    (tmp_path / "run/cloud-init/network-config.json").symlink_to(
        "/var/lib/cloud/instance/network-config.json"
    )
    told = read_metadata(tmp_path)
    assert macs(told) == MACS
    assert told.ports[0].source == "/run/cloud-init/network-config.json"


def test_on_later_boots_the_link_in_run_is_gone_and_the_file_is_still_found(tmp_path):
    put(tmp_path, CONFIG, V1)
    (tmp_path / "var/lib/cloud/instance").symlink_to("/var/lib/cloud/instances/i-1")
    told = read_metadata(tmp_path)
    assert [port.name for port in told.ports] == ["ens3", "ens4"]
    assert told.ports[1].source == "/var/lib/cloud/instance/network-config.json"


def test_before_the_local_stage_the_seed_of_a_config_drive_is_read(tmp_path):
    put(tmp_path, SEED, TWO_STATIC)
    assert macs(read_metadata(tmp_path)) == MACS


def test_no_link_leads_out_of_the_root(tmp_path):
    outside = put(tmp_path, "/outside/network-config.json", V1)
    root = tmp_path / "root"
    (root / "run/cloud-init").mkdir(parents=True)
    (root / "run/cloud-init/network-config.json").symlink_to(outside)
    (root / "run/cloud-init/instance-data.json").symlink_to("../../../outside/data.json")
    assert read_metadata(root) == Metadata()


def test_what_is_believed_first_wins_and_says_so(tmp_path):
    places = [
        (SENSITIVE, instance_data(port("02:00:00:00:00:01"))),
        (WORLD_READABLE, instance_data(port("02:00:00:00:00:02"))),
        (SEED, port("02:00:00:00:00:03")),
        (
            METADATA_PATH,
            metadata_to_json(Metadata((MetadataPort(mac="02:00:00:00:00:04", source="x"),))),
        ),
    ]
    for path, content in places:
        put(tmp_path, path, content)
    for number, (path, _) in enumerate(places, 1):
        told = read_metadata(tmp_path)
        assert macs(told) == (f"02:00:00:00:00:0{number}",)
        assert path in told.ports[0].source
        (tmp_path / path.lstrip("/")).unlink()
    assert read_metadata(tmp_path) == Metadata()


def configured(mac: str, gateway: str) -> dict:
    """A network config with one port of two-static.json's first subnet."""
    subnet = {"type": "static", "address": "162.253.43.134/24", "gateway": gateway}
    return {"version": 1, "config": [{"type": "physical", "mac_address": mac, "subnets": [subnet]}]}


def test_what_is_configured_beats_what_the_cloud_says(tmp_path):
    """As with a network config in cloud.cfg.d, which overrides the datasource's."""
    put(tmp_path, SENSITIVE, instance_data(TWO_STATIC))
    put(
        tmp_path,
        "/var/lib/cloud/instance/network-config.json",
        configured(MACS[0], "162.253.43.254"),
    )
    first, second = read_metadata(tmp_path).ports
    assert [str(route.via) for route in first.routes if route.to.prefixlen == 0] == [
        "162.253.43.254"
    ]
    # It may have been plugged in since.
    assert second.mac == MACS[1] and SENSITIVE in second.source


def test_a_configuration_made_of_what_the_cloud_says_knows_as_much(tmp_path):
    isolated = {
        "links": [{"id": "a", "type": "phy", "ethernet_mac_address": MACS[1]}],
        "networks": [
            {"link": "a", "type": "ipv4", "ip_address": "10.9.0.5", "netmask": "255.255.255.0"}
        ],
    }
    put(tmp_path, SENSITIVE, instance_data(isolated))
    subnet = {"type": "static", "address": "10.9.0.5/24"}
    config = {"type": "physical", "mac_address": MACS[1], "subnets": [subnet]}
    put(
        tmp_path,
        "/var/lib/cloud/instance/network-config.json",
        {"version": 1, "config": [config]},
    )
    (found,) = read_metadata(tmp_path).ports
    assert found.complete
    subnet["address"] = "10.9.0.6/24"
    put(
        tmp_path,
        "/var/lib/cloud/instance/network-config.json",
        {"version": 1, "config": [config]},
    )
    assert not read_metadata(tmp_path).ports[0].complete


DISABLED = {"network": {"config": "disabled"}}


@pytest.mark.parametrize("where", ["merged_system_cfg", "merged_cfg", "datasource", "cmdline"])
def test_where_cloud_init_leaves_the_network_alone_nobody_has_told_anything(tmp_path, where):
    put(tmp_path, SENSITIVE, {**instance_data(TWO_STATIC), where: DISABLED})
    put(tmp_path, "/var/lib/cloud/instance/network-config.json", V1)
    put(
        tmp_path,
        METADATA_PATH,
        metadata_to_json(Metadata((MetadataPort(mac=MACS[0], source="x"),))),
    )
    if where == "cmdline":
        put(tmp_path, "/proc/cmdline", "root=/dev/vda1 network-config=disabled quiet\n")
    config = DISABLED if where == "datasource" else {}
    datasource = SimpleNamespace(network_json=TWO_STATIC, sys_cfg=config)
    assert read_metadata(tmp_path, datasource) == Metadata()


def test_the_datasource_at_hand_comes_before_all_files(tmp_path):
    put(tmp_path, SENSITIVE, instance_data(port("02:00:00:00:00:01")))
    datasource = SimpleNamespace(network_json=port("02:00:00:00:00:09"))
    assert macs(read_metadata(tmp_path, datasource)) == ("02:00:00:00:00:09",)


def test_a_datasource_that_knows_nothing_leaves_it_to_the_files(tmp_path):
    put(tmp_path, SENSITIVE, instance_data(port("02:00:00:00:00:01")))
    assert macs(read_metadata(tmp_path, SimpleNamespace(network_json=None))) == (
        "02:00:00:00:00:01",
    )


@pytest.mark.parametrize("content", ["", "{", "\x00", "[" * 100_000, '"\\ud800', "NaN", "1" * 5000])
def test_a_file_that_is_no_document_is_said_and_the_next_one_read(tmp_path, content):
    put(tmp_path, SENSITIVE, content)
    put(tmp_path, WORLD_READABLE, instance_data(TWO_STATIC))
    told = read_metadata(tmp_path)
    assert macs(told) == MACS
    assert all(SENSITIVE in warning and "\n" not in warning for warning in told.warnings)


def test_bytes_that_are_no_text_are_said(tmp_path):
    put(tmp_path, SENSITIVE, "").write_bytes(b"\xff\xfe\xfd{}")
    (warning,) = read_metadata(tmp_path).warnings
    assert SENSITIVE in warning


def test_a_huge_file_is_refused(tmp_path):
    put(tmp_path, SENSITIVE, json.dumps(instance_data(TWO_STATIC)) + " " * (4 * 1024 * 1024))
    told = read_metadata(tmp_path)
    assert told.ports == ()
    assert told.warnings == (f"{SENSITIVE} has more than 4194304 bytes; ignored",)


def test_a_pipe_a_directory_and_a_link_that_goes_round_do_not_hang_us(tmp_path):
    folder = tmp_path / "run/cloud-init"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "instance-data-sensitive.json")
    (folder / "instance-data.json").mkdir()
    (folder / "network-config.json").symlink_to("network-config.json")
    told = read_metadata(tmp_path)
    assert told.ports == ()
    assert [w.split(" ")[0] for w in told.warnings] == [
        SENSITIVE,
        WORLD_READABLE,
        "/run/cloud-init/network-config.json",
    ]


def test_the_pickle_is_never_touched(tmp_path):
    pickled = put(tmp_path, "/var/lib/cloud/instance/obj.pkl", "cos\nsystem\n(S'false'\ntR.")
    pickled.chmod(0)
    os.utime(pickled, (1, 1))
    assert read_metadata(tmp_path) == Metadata()
    assert pickled.stat().st_atime == 1


# -- the datasource ------------------------------------------------------------


class OpenStackLike:
    """cloud-init's shape: class defaults, instance data, a property that may raise."""

    network_json = "_unset"
    _network_config = "_unset"

    @property
    def network_config(self):
        raise AssertionError("the property crawls or converts; it is not to be asked")


def test_an_openstack_datasource_tells_without_its_property_being_asked():
    datasource = OpenStackLike()
    datasource.network_json = TWO_STATIC
    told = metadata_from_datasource(datasource)
    assert macs(told) == MACS
    assert told.ports[0].source == "network_data.json"


def test_a_datasource_that_has_not_crawled_is_unknown_and_not_made_to_crawl():
    assert metadata_from_datasource(OpenStackLike()) == Metadata()


def test_other_datasources_tell_by_the_configuration_that_they_hold():
    datasource = OpenStackLike()
    datasource._network_config = V1
    told = metadata_from_datasource(datasource)
    assert macs(told) == MACS
    assert told.ports[0].source == "cloud-init network config v1"


def test_a_plain_network_config_attribute_counts():
    assert macs(metadata_from_datasource(SimpleNamespace(network_config=V1))) == MACS


def test_attributes_made_up_on_demand_are_not_asked_for():
    class Answering:
        def __getattr__(self, name):
            raise RuntimeError("asked for " + name)

    assert metadata_from_datasource(Answering()) == Metadata()
    for nothing in (None, 7, "text", object()):
        assert metadata_from_datasource(nothing) == Metadata()


# -- kept for later --------------------------------------------------------------

ADDRESSES = st.builds(
    lambda ip, n: ip_interface(f"{ip}/{min(n, ip.max_prefixlen)}"),
    st.ip_addresses().filter(lambda ip: not (ip.is_unspecified or ip.is_multicast)),
    st.integers(0, 128),
)


def _hop(ip) -> bool:
    return not (ip.is_unspecified or ip.is_multicast or ip.is_loopback)


ROUTES = st.integers(0, 1).flatmap(
    lambda six: st.builds(
        lambda ip, n, via: MetadataRoute(ip_network(f"{ip}/{n}", strict=False), via),
        st.ip_addresses(v=6 if six else 4),
        st.integers(0, 128 if six else 32),
        st.ip_addresses(v=6 if six else 4).filter(_hop),
    )
)
PORTS = st.builds(
    lambda number, name, addresses, routes: MetadataPort(
        mac=f"02:00:00:00:00:{number:02x}",
        name=name,
        addresses=tuple(dict.fromkeys(addresses)),
        routes=tuple(dict.fromkeys(routes)),
        source=METADATA_PATH,
    ),
    st.integers(0, 255),
    st.from_regex(r"[a-z][a-z0-9.]{0,14}", fullmatch=True) | st.just(""),
    st.lists(ADDRESSES, max_size=4),
    st.lists(ROUTES, max_size=4),
)


def kept(text: str) -> Metadata:
    """What is known of a root in which only the saved metadata is left."""
    with tempfile.TemporaryDirectory() as root:
        put(Path(root), METADATA_PATH, text)
        return read_metadata(Path(root))


@given(st.lists(PORTS, max_size=5, unique_by=lambda port: port.mac))
def test_what_is_saved_comes_back_as_it_was(ports):
    saved = metadata_to_json(Metadata(tuple(ports), ("said already",)))
    assert kept(saved) == Metadata(tuple(ports))


def test_saving_again_what_was_read_from_the_saved_file_changes_nothing(tmp_path):
    first = metadata_to_json(metadata_from_datasource(SimpleNamespace(network_json=TWO_STATIC)))
    put(tmp_path, METADATA_PATH, first)
    told = read_metadata(tmp_path)
    assert told.ports[0].source == METADATA_PATH
    assert told.ports[0].addresses[0] == ip_interface("162.253.43.134/24")
    assert told.ports[0].routes[0].via == ip_address("162.253.43.1")
    assert metadata_to_json(told) == first


def test_what_is_saved_does_not_depend_on_where_it_was_read():
    """cloud-init's object at first boot, its file from then on: one and the same text."""
    ports = (MetadataPort(mac="02:00:00:00:00:01", source=source) for source in ("one", "two"))
    assert len({metadata_to_json(Metadata((port,))) for port in ports}) == 1


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from(["default", "0.0.0.0", "10.0.0.1/8", "fa:16:3e:2b:e7:89", "ens4", "x\ny"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=6)
            | st.sampled_from(
                ["version", "ports", "mac", "name", "addresses", "routes", "to", "via"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(JSON, st.lists(JSON, max_size=3))
def test_any_saved_document_gives_ports_or_warnings_never_an_exception(doc, ports):
    for document in (doc, {"version": 1, "ports": ports}):
        told = kept(json.dumps(document))
        assert isinstance(told, Metadata)
        assert all(port.mac or port.name for port in told.ports)


@given(st.text())
def test_any_saved_text_is_survived(text):
    assert isinstance(kept(text), Metadata)


@given(JSON)
def test_any_datasource_value_is_survived(value):
    datasource = SimpleNamespace(network_json=value, _network_config=value)
    assert isinstance(metadata_from_datasource(datasource), Metadata)
