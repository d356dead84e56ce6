"""Validate the strings of a stanza: interface names, MAC addresses, globs, IP addresses.

Strings of a stanza are untrusted.  A name that passes is safe in rt_tables, in a
file name and, quoted, in a shell script.  Each `..._fault` returns a phrase that
continues the key ("is not ..."), or "" if the string is valid.  Pure; does not
depend on the stanza.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Optional

from ..model import IPAddress, IPNetwork

# The kernel's dev_valid_name (net/core/dev.c) accepts 1..15 bytes without '/',
# ':' and white space, except "." and "..".  Only a harmless subset is accepted here.
INTERFACE_NAME_MAX = 15
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*\Z")
_UNSAFE_CHARS = re.compile(r"[^A-Za-z0-9_.@+-]")
_SAFE_NAME_GLOB = re.compile(r"[A-Za-z0-9_*?\[][A-Za-z0-9_.@+*?!\[\]-]*\Z")
_SAFE_GLOB = re.compile(r"[A-Za-z0-9_.*?\[][A-Za-z0-9_.@+:*?!\[\]-]*\Z")
GLOB_MAX = ID_MAX = 64

# Words that iproute2 reads as a built-in table or as several tables (rtnl_rttable_a2n,
# iproute_list); and strings that strtoul reads as a number.
RESERVED_TABLE_NAMES = frozenset(("all", "cache", "default", "local", "main", "unspec"))
_NUMBER = re.compile(r"(0[xX][0-9A-Fa-f]+|[0-9]+)\Z")

_MAC = re.compile(r"[0-9A-Fa-f]{2}(([:-])[0-9A-Fa-f]{2})(\2[0-9A-Fa-f]{2}){4}\Z")

_SHOWN_CHARS = 40


def shown(value: Any) -> str:
    """Format a value for a message: ASCII, one line, short."""
    if isinstance(value, str):
        if len(value) <= _SHOWN_CHARS:
            return ascii(value)
        return f"{ascii(value[:_SHOWN_CHARS])}... ({len(value)} characters)"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    # str() of an int with more than 4300 digits raises ValueError.
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a number of more than 20 digits"
    if isinstance(value, (int, float)):
        return str(value)
    return f"a {type(value).__name__}"


def one_line(error: object) -> str:
    """The text of an error that was not written for our users: ASCII, one line, short."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.encode("ascii", "backslashreplace").decode("ascii")[:200]


# -- names -----------------------------------------------------------------------


def id_fault(text: str) -> str:
    """Why `text` cannot be the key of an entry under ``interfaces``."""
    if not text:
        return "is an empty name"
    if len(text) > ID_MAX:
        return f"is {len(text)} characters long; a name has at most {INTERFACE_NAME_MAX}"
    if not _SAFE_NAME.match(text):
        return _charset_fault(text)
    return ""


def interface_name_fault(name: str) -> str:
    """Why `name` cannot be a managed interface, which also names its routing table."""
    fault = id_fault(name)
    if fault:
        return fault
    if len(name) > INTERFACE_NAME_MAX:
        return (
            f"is {len(name)} characters long; "
            f"an interface's name has at most {INTERFACE_NAME_MAX} (use match)"
        )
    return table_name_fault(name)


def table_name_fault(name: str) -> str:
    """Why `name` cannot name a routing table in rt_tables."""
    if name in RESERVED_TABLE_NAMES:
        return f"cannot name a routing table: {name!r} is a word of ip-route(8)"
    if _NUMBER.match(name):
        return f"cannot name a routing table: ip would read {shown(name)} as a number"
    return ""


def _charset_fault(text: str) -> str:
    bad = sorted(set(_UNSAFE_CHARS.findall(text)))
    if not bad:
        return f"cannot name an interface: it begins with {text[0]!r}"
    listed = ", ".join(ascii(char) for char in bad[:3]) + (" and more" if len(bad) > 3 else "")
    return f"cannot name an interface: it has {listed} (letters, digits and _ . @ + - are taken)"


# -- globs and MAC addresses ---------------------------------------------------------


def name_glob_fault(text: str) -> str:
    """Why `text` cannot be ``match.name``."""
    if not is_glob(text):
        return _mac_as_name(text) or interface_name_fault(text)
    return _glob_fault(text, _SAFE_NAME_GLOB, "a name with * ? [ ] has letters, digits, _ . @ + -")


def exclude_glob_fault(text: str) -> str:
    """Why `text` cannot be in ``exclude``: a name, a MAC address or a glob for either."""
    return _glob_fault(
        text, _SAFE_GLOB, "names and MAC addresses have letters, digits, _ . @ + - : and * ? [ ]"
    )


def is_glob(text: str) -> bool:
    return any(char in text for char in "*?[")


def _glob_fault(text: str, safe: "re.Pattern[str]", allowed: str) -> str:
    if not text:
        return "is empty"
    if len(text) > GLOB_MAX:
        return f"is {len(text)} characters long; at most {GLOB_MAX} are taken"
    if not safe.match(text):
        return f"is {shown(text)}, which matches no interface ({allowed})"
    return ""


def _mac_as_name(text: str) -> str:
    return f"is a MAC address; write macaddress: '{text}'" if _MAC.match(text) else ""


def normal_mac(text: str) -> str | None:
    """`text` in lower case with colons, or None if it is not a MAC address."""
    return text.lower().replace("-", ":") if _MAC.match(text) else None


def mac_fault(text: str) -> str:
    """Why `text` cannot be the MAC address of a NIC (IEEE 802: individual, not zero)."""
    mac = normal_mac(text)
    if mac is None:
        return f"is {shown(text)}, not a MAC address such as 'fa:16:3e:2b:e7:89'"
    if int(mac[:2], 16) & 1:
        return f"is {mac}, a broadcast or multicast address, which no NIC has"
    if mac == "00:00:00:00:00:00":
        return "is the zero address, which no NIC has"
    return ""


# -- IP addresses ----------------------------------------------------------------------

Checked = tuple[Optional[IPAddress], str]
_ADDRESS_MAX = 64
_LEADING_ZERO = re.compile(r"([0-9]+\.)*0[0-9]")


def gateway(text: str, version: int = 0) -> Checked:
    """Parse a router's address; (None, fault) if invalid.  `version` 0 accepts both families."""
    wanted = f"an IPv{version} address" if version else "an IP address"
    if len(text) > _ADDRESS_MAX:
        return None, f"is {shown(text)}, not {wanted}"
    if "/" in text:
        address = gateway(text.split("/", 1)[0], version)[0]
        hint = f": {address}" if address else ""
        return None, f"is {shown(text)}, a prefix; a router is one address{hint}"
    if "%" in text:
        return None, f"is {shown(text)}; leave out the zone after %, the interface is known"
    try:
        address = _address(text)
    except ValueError:
        return None, f"is {shown(text)}, not {wanted}{_octal_hint(text)}"
    if version and address.version != version:
        other = f"; write gateway{address.version}" if version else ""
        return None, f"is {address}, an IPv{address.version} address{other}"
    kind = _unusable(address)
    return (None, f"is {address}, {kind}; no router has that") if kind else (address, "")


def _unusable(address: IPAddress) -> str:
    if address.is_unspecified:
        return "the unspecified address"
    if address.is_loopback:
        return "a loopback address"
    if address.is_multicast:
        return "a multicast address"
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return f"the IPv6 form of {mapped}" if mapped else ""
    if address == IPv4Address("255.255.255.255"):
        return "the broadcast address"
    if address.packed[0] == 0:
        return "an address of 0.0.0.0/8"
    return "a reserved address" if address.is_reserved else ""


def edge_of(address: IPAddress, network: IPNetwork) -> str:
    """Name `address` if it is the network or broadcast address of an IPv4 `network`; else "".

    RFC 3021 exempts /31.  IPv6 has no broadcast, and its network address is the
    subnet-router anycast address (RFC 4291).
    """
    if address.version != 4 or network.version != 4 or network.prefixlen >= 31:
        return ""
    if address == network.network_address:
        return f"the network address of {network}"
    if address == network.broadcast_address:
        return f"the broadcast address of {network}"
    return ""


def source_prefix(text: str) -> tuple[IPNetwork | None, str]:
    """Parse a prefix of source addresses; returns (prefix, fault) like `destination`."""
    if text == "default":
        return None, "is default, which is everybody's; name the prefix of this NIC"
    network, fault = destination(text)
    if network is not None and not fault and network.prefixlen < 8:
        return network, f"is {network}, which is more than one cloud has; name this NIC's prefix"
    return network, fault


def destination(text: str) -> tuple[IPNetwork | None, str]:
    """Parse a destination prefix; returns (prefix, fault).  A bare address is a /32 or /128.

    If the intention is clear despite a fault, the prefix is returned too, so that
    other faults of the route can be reported with it.
    """
    wanted = "not a prefix such as 10.0.0.0/8"
    if text == "default":
        return None, "is default, which is told by gateway4 or gateway6"
    if len(text) > _ADDRESS_MAX or "%" in text:
        return None, f"is {shown(text)}, {wanted}"
    head, slash, length = text.partition("/")
    try:
        address = _address(head)
        if not slash:
            return _usable(ip_network(address))
        network = ip_network(f"{head}/{length}", strict=False)
    except ValueError:
        return None, f"is {shown(text)}, {wanted}{_octal_hint(head)}"
    # Netmasks, and lengths such as "+8" or "08" that other programs reject.
    if length != str(network.prefixlen):
        return network, f"is {shown(text)}; write the prefix length: {network}"
    if network.network_address != address:
        alone = ip_network(address)
        return network, f"is {text}, which has host bits set; write {network} or {alone}"
    return _usable(network)


def _usable(network: IPNetwork) -> tuple[IPNetwork | None, str]:
    if network.prefixlen == 0:
        return None, f"is {network}, a default, which is told by gateway{network.version}"
    if network.network_address.is_loopback:
        return None, f"is {network}, a loopback prefix, which no NIC has"
    if network.network_address.is_multicast:
        return None, f"is {network}, a multicast prefix; these routes are for replies to hosts"
    if isinstance(network.network_address, IPv6Address) and network.network_address.ipv4_mapped:
        return None, f"is {network}, the IPv6 form of IPv4 addresses"
    return network, ""


def _address(text: str) -> IPAddress:
    # Leading zeros are octal to inet_aton(3), and were decimal to Python before 3.9.5.
    if _octal_hint(text):
        raise ValueError(text)
    return ip_address(text)


def _octal_hint(text: str) -> str:
    return " (no leading zeros)" if _LEADING_ZERO.match(text) else ""
