"""ISC dhclient's lease files (dhclient.leases(5)).  Pure.

The file is a log: dhclient appends each new lease, so the last one of an interface counts, even if
it has ended.  On release dhclient appends the lease once more, with ``expire`` set to now (IPv4) or
with ``released;`` (IPv6).  Times are UTC, or ``epoch SECONDS`` with ``db-time-format local``, or
``never``.

Option 121 has the name that dhclient.conf gives it: Debian uses
``rfc3442-classless-static-routes``, an array of octets; Red Hat's dhclient uses
``classless-static-routes`` with destinations and addresses; without a declaration it is
``unknown-121``, octets in hexadecimal.

dhclient-script sets routes only together with an address: a renewal of the same address with
another gateway leaves table main unchanged.  So the gateways of earlier leases matter as well: a
default through one of them is left over from the script.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from ...model import IPAddress, IPInterface, IPNetwork, Lease, MetadataRoute
from ...text.addresses import gateway_address, interface, ip_address
from .dhcpcd import LeaseRoutes, classless_routes, delegated_prefix, lease_routes, usable_routes

_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"|[{};]|#[^\n]*|[^\s{};,"#]+')
_TIME = re.compile(r"(\d{4})/(\d{1,2})/(\d{1,2}) (\d{1,2}):(\d{1,2}):(\d{1,2})", re.ASCII)
_MAX_DEPTH = 16
_CLASSLESS = (
    "rfc3442-classless-static-routes",
    "classless-static-routes",
    "unknown-121",
    "ms-classless-static-routes",
    "unknown-249",
)


@dataclass
class _Block:
    head: list[str]
    statements: list[list[str]] = field(default_factory=list)
    blocks: list[_Block] = field(default_factory=list)

    def first(self, *words: str) -> list[str] | None:
        """The words after `words` in the first statement that begins with them; else None."""
        for statement in self.statements:
            if statement[: len(words)] == list(words):
                return statement[len(words) :]
        return None

    def number(self, word: str) -> int | None:
        value = self.first(word)
        return int(value[0]) if value and re.fullmatch(r"[0-9]{1,12}", value[0]) else None


def parse_dhclient(text: str, path: str, names: Collection[str], now: float) -> list[Lease]:
    """The valid leases in a file, at most one for each interface and family.

    `names` are the existing interfaces.  A lease without an interface belongs to the one in the
    file's name (``dhclient.IFACE.leases``, ``dhclient-UUID-IFACE.lease``).
    """
    last = {(dev, family): block for dev, family, block in _lease_blocks(text, path, names)}
    found = []
    for (dev, family), block in last.items():
        lease = _lease4(block, dev, path, now) if family == 4 else _lease6(block, dev, path, now)
        if lease is not None:
            found.append(lease)
    return found


def dhclient_gateways(text: str, path: str, names: Collection[str]) -> dict[str, set[IPAddress]]:
    """All IPv4 gateways that any lease in a file has named, by interface."""
    found: dict[str, set[IPAddress]] = {}
    for dev, family, block in _lease_blocks(text, path, names):
        if family == 4:
            routers, routes = _gateways(block)
            found.setdefault(dev, set()).update(lease_gateways(routers, routes))
    return found


def lease_gateways(
    routers: tuple[IPAddress, ...], routes: tuple[MetadataRoute, ...]
) -> set[IPAddress]:
    return {*routers, *(route.via for route in routes if route.to.prefixlen == 0)}


def _lease_blocks(
    text: str, path: str, names: Collection[str]
) -> Iterator[tuple[str, int, _Block]]:
    for block in _top_blocks(text):
        if block.head not in (["lease"], ["lease6"]):
            continue  # for example a DHCP server's leases, which have an address there
        declared = block.first("interface")
        dev = declared[0].strip('"') if declared else _name_in(path, names)
        if dev in names:
            yield dev, 6 if block.head == ["lease6"] else 4, block


def _name_in(path: str, names: Collection[str]) -> str:
    stem = path.rpartition("/")[2].rpartition(".")[0]
    fitting = [name for name in names if re.search(r"[.-]" + re.escape(name) + "$", stem)]
    return max(fitting, key=len, default="")


def _top_blocks(text: str) -> Iterator[_Block]:
    """The complete outermost ``head { ... }``; one cut off at the end is still being written."""
    stack: list[_Block] = []
    words: list[str] = []
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token[0] == "#":
            continue
        if token == "{":
            if len(stack) >= _MAX_DEPTH:
                return
            block = _Block(words)
            if stack:
                stack[-1].blocks.append(block)
            stack.append(block)
            words = []
        elif token == "}":
            words = []
            if stack:
                closed = stack.pop()
                if not stack:
                    yield closed
        elif token == ";":
            if words and stack:
                stack[-1].statements.append(words)
            words = []
        else:
            words.append(token)


def _lease4(block: _Block, dev: str, path: str, now: float) -> Lease | None:
    fixed = block.first("fixed-address")
    expire = block.first("expire")
    if not fixed or (expire is not None and _expired(expire, now)):
        return None
    mask = block.first("option", "subnet-mask")
    address = interface(fixed[0], mask[0] if mask else 32)
    if address is None or address.version != 4:
        return None
    routers, routes = _gateways(block)
    return Lease(dev, 4, address, routers, routes, client="dhclient", path=path)


def _gateways(block: _Block) -> LeaseRoutes:
    routers = tuple(gateway_address(ip) for ip in block.first("option", "routers") or ())
    return lease_routes(routers, _classless(block))


def _lease6(block: _Block, dev: str, path: str, now: float) -> Lease | None:
    if block.first("released") is not None or block.first("abandoned") is not None:
        return None
    addresses: list[IPInterface] = []
    delegated: list[IPNetwork] = []
    for association in block.blocks:
        for entry in association.blocks:
            if len(entry.head) < 2 or not _is_alive(entry, now):
                continue
            kinds = (association.head[:1], entry.head[:1])
            if kinds in ((["ia-na"], ["iaaddr"]), (["ia-ta"], ["iaaddr"])):
                address = interface(entry.head[1], 128)
                if address is not None and address.version == 6:
                    addresses.append(address)
            elif kinds == (["ia-pd"], ["iaprefix"]):
                whole = interface(entry.head[1], 128)
                if whole is not None and isinstance(whole.ip, IPv6Address):
                    prefix = delegated_prefix(whole.ip, whole.network.prefixlen)
                    delegated += [prefix] if prefix is not None else []
    if not addresses and not delegated:
        return None
    address = addresses[0] if addresses else None
    return Lease(dev, 6, address, client="dhclient", path=path, delegated=tuple(delegated))


def _is_alive(entry: _Block, now: float) -> bool:
    starts, life = entry.number("starts"), entry.number("max-life")
    return starts is None or life is None or life == 0xFFFFFFFF or starts + life > now


def _expired(words: list[str], now: float) -> bool:
    """Whether an ``expire`` has passed; one that cannot be parsed counts as passed."""
    if words[:1] == ["never"]:
        return False
    if words[:1] == ["epoch"] and len(words) > 1 and re.fullmatch(r"[0-9]{1,12}", words[1]):
        return int(words[1]) <= now
    match = _TIME.fullmatch(" ".join(words[1:3]))  # words[0] is the day of the week
    if match is None:
        return True
    try:
        return calendar.timegm((*map(int, match.groups()), 0, 0, 0)) <= now
    except ValueError:  # the month does not exist
        return True


def _classless(block: _Block) -> tuple[tuple[MetadataRoute, ...], bool]:
    for option in _CLASSLESS:
        words = block.first("option", option)
        if words is not None:
            return usable_routes(_route_list(words)), True
    return (), False


def _route_list(words: list[str]) -> list[tuple[IPv4Address, int, IPv4Address]]:
    if any("." in word for word in words):
        return _descriptors(words)
    base = 16 if any(":" in word for word in words) else 10
    octets = bytearray()
    for number in ":".join(words).split(":"):
        if not re.fullmatch(r"[0-9a-fA-F]{1,3}" if base == 16 else r"[0-9]{1,3}", number):
            break
        value = int(number, base)
        if value > 255:
            break
        octets.append(value)
    return classless_routes(bytes(octets))


def _descriptors(words: list[str]) -> list[tuple[IPv4Address, int, IPv4Address]]:
    """``24.10.1.2 10.0.0.1``: width and significant octets, then the router."""
    found = []
    for descriptor, router in zip(words[::2], words[1::2]):
        numbers = descriptor.split(".")
        gateway = ip_address(router)
        if len(numbers) > 5 or not all(re.fullmatch(r"[0-9]{1,3}", n) for n in numbers):
            break
        width, *octets = map(int, numbers)
        if width > 32 or max(octets, default=0) > 255 or not isinstance(gateway, IPv4Address):
            break
        found.append((IPv4Address(bytes(octets[:4]).ljust(4, b"\0")), width, gateway))
    return found
