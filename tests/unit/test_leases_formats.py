"""The lease formats by their documents, and whatever else may stand in such a file."""

from __future__ import annotations

import json
import struct
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_source_routing.host.leases.dhclient import parse_dhclient
from cc_source_routing.host.leases.dhcpcd import classless_routes, parse_dhcpcd, parse_dhcpcd6
from cc_source_routing.host.leases.managers import parse_network_manager, parse_networkd
from cc_source_routing.model import Lease

DATA = Path(__file__).parent / "data" / "leases"
NOW = 1795387000.0
NAMES = ("ens4", "ens4.100", "ens5")
PATH = "/var/lib/dhcp/dhclient.ens4.leases"


def routes(lease: Lease) -> dict:
    return {str(route.to): str(route.via) for route in lease.classless_routes}


def dhclient(text: str, path: str = PATH):
    return parse_dhclient(text, path, NAMES, NOW)


def v4(*statements: str, head: str = "lease") -> str:
    body = "".join(f"  {statement};\n" for statement in statements)
    return f"{head} {{\n{body}}}\n"


BASE = ('interface "ens4"', "fixed-address 10.0.0.5", "option subnet-mask 255.255.255.0")


def one(*statements: str) -> Lease:
    (lease,) = dhclient(v4(*BASE, *statements))
    return lease


# -- dhclient ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expire", "valid"),
    [
        ("expire never", True),
        ("expire 0 2026/11/22 22:36:41", True),
        ("expire 0 2026/11/22 22:36:40", False),  # NOW, in UTC
        ("expire 0 2020/01/01 00:00:00", False),
        ("expire epoch 1795387001", True),
        ("expire epoch 1795386999; # Sun Nov 22 23:36:39 2026", False),
        ("expire soon", False),
        ("expire", False),
        ("expire 0 2027/13/01 00:00:00", False),
        ("expire 0 0000/01/01 00:00:00", False),
        ("expire 0 2027/01/01", False),
        ("renew 1 2020/01/01 00:00:00", True),  # no expire at all: BOOTP
    ],
)
def test_the_time_of_expiry_has_several_forms(expire, valid):
    assert bool(dhclient(v4(*BASE, expire))) is valid


def test_the_last_lease_of_an_interface_counts():
    text = v4(*BASE, "option routers 10.0.0.1") + v4(*BASE, "option routers 10.0.0.254")
    (lease,) = dhclient(text)
    assert lease.routers == (ip_address("10.0.0.254"),)


def test_one_file_may_hold_leases_of_several_interfaces():
    text = v4(*BASE) + v4('interface "ens5"', "fixed-address 10.1.0.5")
    assert [(lease.dev, str(lease.address)) for lease in dhclient(text)] == [
        ("ens4", "10.0.0.5/24"),
        ("ens5", "10.1.0.5/32"),
    ]


@pytest.mark.parametrize(
    ("path", "dev"),
    [
        ("/var/lib/dhcp/dhclient.ens4.leases", "ens4"),
        ("/var/lib/dhcp/dhclient.ens4.100.leases", "ens4.100"),
        ("/var/lib/dhclient/dhclient-0a1b-ens5.lease", "ens5"),
    ],
)
def test_a_lease_without_interface_is_that_of_the_files_name(path, dev):
    (lease,) = dhclient(v4("fixed-address 10.0.0.5"), path)
    assert lease.dev == dev


def test_a_lease_without_interface_in_a_file_without_one_is_nobodys():
    assert dhclient(v4("fixed-address 10.0.0.5"), "/var/lib/dhcp/dhclient.leases") == []


def test_a_lease_that_is_still_being_written_does_not_count():
    whole = v4(*BASE, "option routers 10.0.0.1")
    (lease,) = dhclient(whole + v4(*BASE, "option routers 10.0.0.254").rstrip().rstrip("}"))
    assert lease.routers == (ip_address("10.0.0.1"),)


@pytest.mark.parametrize(
    "option",
    [
        "option rfc3442-classless-static-routes 8,10,10,0,0,1,0,10,0,0,2",
        "option rfc3442-classless-static-routes 8, 10, 10, 0, 0, 1, 0, 10, 0, 0, 2",
        "option unknown-121 8:a:a:0:0:1:0:a:0:0:2",
        "option unknown-121 08:0a:0a:00:00:01:00:0a:00:00:02",
        "option classless-static-routes 8.10 10.0.0.1,0 10.0.0.2",
        "option ms-classless-static-routes 8,10,10,0,0,1,0,10,0,0,2",
    ],
)
def test_classless_routes_have_several_names_and_notations(option):
    lease = one(option, "option routers 10.0.0.99")
    assert routes(lease) == {"10.0.0.0/8": "10.0.0.1", "0.0.0.0/0": "10.0.0.2"}


def test_option_121_comes_before_microsofts():
    lease = one(
        "option ms-classless-static-routes 0,10,0,0,9",
        "option rfc3442-classless-static-routes 0,10,0,0,2",
    )
    assert routes(lease) == {"0.0.0.0/0": "10.0.0.2"}


def test_strings_and_comments_may_hold_anything():
    lease = one(
        'option domain-name "a; } lease { \\" x"',
        "# fixed-address 9.9.9.9; }\n option routers 10.0.0.1",
    )
    assert lease.routers == (ip_address("10.0.0.1"),)


def v6(*associations: str) -> str:
    return 'lease6 {\n  interface "ens4";\n' + "".join(associations) + "}\n"


def delegation(prefix: str, life: int = 0xFFFFFFFF) -> str:
    return (
        f"  ia-pd 01:02:03:04 {{\n    iaprefix {prefix} {{\n"
        f"      starts {int(NOW) - 100};\n      max-life {life};\n    }}\n  }}\n"
    )


def test_a_dhcpv6_lease_tells_what_it_delegates_with_or_without_an_address():
    address = "  ia-na 01:02:03:04 {\n    iaaddr fd00::5 {\n    }\n  }\n"
    (both,) = dhclient(v6(address, delegation("2001:db8:5::/64")))
    assert both.address == ip_interface("fd00::5/128")
    assert both.delegated == (ip_network("2001:db8:5::/64"),)
    (alone,) = dhclient(v6(delegation("2001:db8:5::/64"), delegation("2001:db8:6::/56", 50)))
    assert alone.address is None
    assert alone.delegated == (ip_network("2001:db8:5::/64"),)


@pytest.mark.parametrize(
    "prefix", ["::/0", "fe80::/64", "ff00::/8", "10.0.0.0/8", "x", "fd00::/999"]
)
def test_what_no_server_may_delegate_is_passed_over(prefix):
    assert dhclient(v6(delegation(prefix))) == []


def test_dhcpcd_writes_down_what_was_delegated():
    def option(code: int, body: bytes) -> bytes:
        return struct.pack("!HH", code, len(body)) + body

    def iaprefix(text: str, valid: int) -> bytes:
        network = ip_network(text)
        head = struct.pack("!IIB", valid, valid, network.prefixlen)
        return option(26, head + network.network_address.packed)

    body = bytes(12) + iaprefix("2001:db8:5::/64", 1000) + iaprefix("2001:db8:6::/64", 10)
    lease = parse_dhcpcd6(b"\x07\0\0\0" + option(25, body), "ens4", "x", NOW - 100, NOW)
    assert lease is not None and lease.address is None
    assert lease.delegated == (ip_network("2001:db8:5::/64"),)


@pytest.mark.parametrize("state", ["released", "abandoned"])
def test_a_dhcpv6_lease_that_was_given_up_is_over(state):
    bound = (DATA / "dhclient" / "bound6.leases").read_text()
    assert dhclient(bound)
    assert dhclient(bound.replace("option dhcp6.client-id", f"{state};\n  option x", 1)) == []


# -- option 121 ---------------------------------------------------------------------


def test_on_link_routes_alone_hide_the_routers_as_a_client_has_to():
    lease = one("option rfc3442-classless-static-routes 8,10,0,0,0,0", "option routers 10.0.0.1")
    assert (lease.routers, lease.classless_routes) == ((), ())


def test_on_link_routes_beside_a_default_are_left_out():
    lease = one("option rfc3442-classless-static-routes 32,10,0,0,1,0,0,0,0,0,10,0,0,1")
    assert routes(lease) == {"0.0.0.0/0": "10.0.0.1"}


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b"", 0),
        (b"\x00\x0a\x00\x00\x01", 1),
        (b"\x00\x0a\x00\x00", 0),
        (b"\x21\x0a\x00\x00\x01\x0a\x00\x00\x01", 0),  # 33 bits
        (b"\x00\x0a\x00\x00\x01\x18\x0a", 1),
    ],
)
def test_what_comes_before_a_malformed_entry_counts(data, count):
    assert len(classless_routes(data)) == count


@given(
    st.lists(st.tuples(st.ip_addresses(v=4), st.integers(0, 32), st.ip_addresses(v=4)), max_size=12)
)
def test_option_121_is_the_inverse_of_its_encoding(entries):
    data = b""
    expected = []
    for address, length, gateway in entries:
        net = ip_network(f"{address}/{length}", strict=False)
        data += bytes((length,)) + net.network_address.packed[: (length + 7) // 8] + gateway.packed
        expected.append((net.network_address, length, gateway))
    assert classless_routes(data) == expected


# -- dhcpcd -----------------------------------------------------------------------------


def option(code: int, data: bytes) -> bytes:
    return bytes((code, len(data))) + data


def bootp(*options: bytes, yiaddr: str = "10.0.0.5", ciaddr: str = "0.0.0.0", **fields) -> bytes:
    head = struct.pack("!BBBBIHH", 2, 1, 6, 0, 7, 0, 0)
    head += IPv4Address(ciaddr).packed + IPv4Address(yiaddr).packed + bytes(8 + 16)
    head += fields.get("sname", b"").ljust(64, b"\0") + fields.get("file", b"").ljust(128, b"\0")
    return head + fields.get("cookie", b"\x63\x82\x53\x63") + b"".join(options) + b"\xff"


def dhcpcd(data: bytes, mtime: float = NOW) -> Lease | None:
    return parse_dhcpcd(data, "ens4", "/var/lib/dhcpcd/ens4.lease", mtime, NOW)


MASK = option(1, b"\xff\xff\xff\x00")
ROUTER = option(3, b"\x0a\x00\x00\x01")
ACK = option(53, b"\x05")


def test_a_bootp_reply_is_a_lease_for_ever():
    lease = dhcpcd(bootp(MASK, ROUTER), mtime=0)
    assert lease.address == ip_interface("10.0.0.5/24")
    assert lease.routers == (ip_address("10.0.0.1"),)


def test_the_lease_time_counts_from_the_files_date():
    packet = bootp(ACK, MASK, option(51, struct.pack("!I", 100)))
    assert dhcpcd(packet, NOW - 99)
    assert dhcpcd(packet, NOW - 100) is None
    assert dhcpcd(bootp(ACK, option(51, b"\xff" * 4)), mtime=0)


@pytest.mark.parametrize("kind", [1, 2, 4, 6, 7])
def test_only_an_acknowledgement_is_a_lease(kind):
    assert dhcpcd(bootp(option(53, bytes((kind,))), MASK)) is None


def test_an_option_in_pieces_and_one_in_the_file_and_sname_fields_are_read():
    packet = bootp(
        ACK,
        option(52, b"\x03"),
        option(121, b"\x00\x0a\x00"),
        option(121, b"\x00\x02"),
        file=option(3, b"\x0a\x00\x00\x01") + b"\xff",
        sname=b"\x00" + MASK + b"\xff",
    )
    lease = dhcpcd(packet)
    assert lease.address == ip_interface("10.0.0.5/24")
    assert lease.routers == (ip_address("10.0.0.1"),)
    assert routes(lease) == {"0.0.0.0/0": "10.0.0.2"}


def test_microsofts_number_counts_where_121_is_not_there():
    assert routes(dhcpcd(bootp(ACK, option(249, b"\x00\x0a\x00\x00\x02")))) == {
        "0.0.0.0/0": "10.0.0.2"
    }


def test_without_a_mask_the_address_has_that_of_its_class():
    assert dhcpcd(bootp(ACK)).address == ip_interface("10.0.0.5/8")
    assert dhcpcd(bootp(ACK, yiaddr="0.0.0.0", ciaddr="192.0.2.5")).address == ip_interface(
        "192.0.2.5/24"
    )


@pytest.mark.parametrize("length", [0, 1, 200, 239])
def test_a_packet_cut_short_is_none(length):
    assert dhcpcd(bootp(ACK, MASK)[:length]) is None


def test_a_packet_without_an_address_is_none():
    assert dhcpcd(bootp(ACK, yiaddr="0.0.0.0")) is None


# -- systemd-networkd ---------------------------------------------------------------------


def networkd(text: str) -> Lease | None:
    return parse_networkd(text, "ens4", "/run/systemd/netif/leases/2")


def test_before_250_routes_with_a_default_are_classless_and_others_may_be_option_33():
    text = "ADDRESS=10.0.0.5\nNETMASK=255.255.255.0\nROUTER=10.0.0.1\nROUTES="
    lease = networkd(text + "10.9.0.0/16,10.0.0.9 0.0.0.0/0,10.0.0.2\n")
    assert routes(lease) == {"10.9.0.0/16": "10.0.0.9", "0.0.0.0/0": "10.0.0.2"}
    lease = networkd(text + "10.9.0.0/16,10.0.0.9\n")
    assert (lease.routers, lease.classless_routes) == ((ip_address("10.0.0.1"),), ())


def test_the_json_of_development_versions_tells_the_same():
    doc = {
        "Address": [10, 0, 0, 5],
        "AddressString": "10.0.0.5",
        "Netmask": [255, 255, 255, 0],
        "Router": [[10, 0, 0, 1]],
        "Lifetime": "2h",
        "Classless_Routes": [
            {
                "Destination": [0, 0, 0, 0],
                "Gateway": [10, 0, 0, 2],
                "DestinationPrefixLength": 0,
            }
        ],
    }
    lease = networkd(json.dumps(doc))
    assert lease.address == ip_interface("10.0.0.5/24")
    assert lease.routers == (ip_address("10.0.0.1"),)
    assert routes(lease) == {"0.0.0.0/0": "10.0.0.2"}


@pytest.mark.parametrize(
    "text", ["", "ADDRESS=\n", "ADDRESS=::1\n", "NETMASK=255.0.0.0\n", "{", "{}", "[]", '{"a":1e9}']
)
def test_a_networkd_file_without_an_address_is_none(text):
    assert networkd(text) is None


# -- NetworkManager -----------------------------------------------------------------------


def network_manager(*lines: str):
    text = "[device]\nmanaged=true\n\n[dhcp4]\n" + "".join(f"dhcp4.{line}\n" for line in lines)
    return parse_network_manager(text, "ens4", "/run/NetworkManager/devices/2", NOW)


def test_network_managers_other_clients_write_their_own_notation():
    for value in ("0 10 0 0 2", "0,10,0,0,2"):
        (lease,) = network_manager(
            "ip_address=10.0.0.5",
            "subnet_mask=255.255.255.0",
            f"rfc3442_classless_static_routes={value}",
        )
        assert routes(lease) == {"0.0.0.0/0": "10.0.0.2"}


def test_a_device_without_dhcp_has_no_lease():
    assert network_manager() == ()
    assert parse_network_manager("[device]\nmanaged=false\n", "ens4", "x", NOW) == ()


def test_a_value_of_another_group_is_not_taken():
    text = "[other]\ndhcp4.ip_address=10.0.0.5\n"
    assert parse_network_manager(text, "ens4", "x", NOW) == ()


# -- anything at all ------------------------------------------------------------------------

REAL_TEXTS = [
    path.read_text()
    for path in sorted(DATA.rglob("*"))
    if path.is_file() and path.parent.name != "dhcpcd"
]
REAL_PACKETS = [path.read_bytes() for path in sorted((DATA / "dhcpcd").iterdir())]
FRAGMENTS = st.sampled_from(
    [
        *("lease", "lease6", "{", "}", ";", ",", '"', "\\", "#", "\n", " ", "=", "[", "]", "."),
        *("interface", '"ens4"', "fixed-address", "10.0.0.5", "option", "routers", "subnet-mask"),
        *("rfc3442-classless-static-routes", "unknown-121", "expire", "never", "epoch", "0", "33"),
        *("ia-na", "iaaddr", "2001:db8::5", "starts", "max-life", "99999999999999999", "0a:0b"),
        *("ADDRESS", "NETMASK", "ROUTER", "CLASSLESS_ROUTES", "10.0.0.0/8,10.0.0.1", "dhcp4"),
        *("dhcp4.ip_address", "dhcp4.routers", "dhcp4.expiry", '{"Address":[10,0,0,5]}', "١"),
    ]
)
TEXTS = st.text(max_size=200) | st.lists(FRAGMENTS | st.text(max_size=5), max_size=60).map(" ".join)


def sound(lease: Lease | None) -> bool:
    return lease is None or (
        lease.address is not None
        and lease.address.version == lease.family
        and all(ip is not None and not ip.is_unspecified for ip in lease.routers)
        and all(not route.via.is_unspecified for route in lease.classless_routes)
    )


def every_text_parser(text: str):
    yield from dhclient(text)
    yield networkd(text)
    yield from parse_network_manager(text, "ens4", "x", NOW)


@given(TEXTS)
def test_any_text_gives_sound_leases_never_an_exception(text):
    assert all(map(sound, every_text_parser(text)))


@given(st.sampled_from(REAL_TEXTS), st.integers(0, 4000), st.integers(0, 40), TEXTS)
def test_a_real_file_with_a_damaged_place_is_survived(text, start, length, damage):
    start %= len(text) + 1
    assert all(map(sound, every_text_parser(text[:start] + damage + text[start + length :])))


@given(st.binary(max_size=600))
def test_any_bytes_are_survived(data):
    for parse in (parse_dhcpcd, parse_dhcpcd6):
        assert sound(parse(data, "ens4", "x", NOW, NOW))
        assert sound(parse(bytes(240) + data, "ens4", "x", NOW, NOW))
    assert all(map(sound, every_text_parser(data.decode("utf-8", "replace"))))


@given(st.sampled_from(REAL_PACKETS), st.integers(0, 400), st.binary(max_size=8))
def test_a_real_packet_with_a_damaged_place_is_survived(packet, start, damage):
    start %= len(packet) + 1
    for data in (packet[:start] + damage + packet[start + len(damage) :], packet[:start]):
        for parse in (parse_dhcpcd, parse_dhcpcd6):
            assert sound(parse(data, "ens4", "x", NOW, NOW))


@given(st.binary(max_size=300))
def test_any_options_are_survived(data):
    assert sound(dhcpcd(bootp(ACK, data)))
    assert sound(parse_dhcpcd6(b"\x07\0\0\0" + data, "ens4", "x", NOW, NOW))
