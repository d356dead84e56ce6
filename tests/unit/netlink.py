"""Netlink messages as bytes, and a kernel that answers dumps with them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from cc_source_routing.kernel import messages, rtnl
from cc_source_routing.model import Link, Route


def framed(kind: int, body: bytes, flags: int = 0, sequence: int = 0, port: int = 0) -> bytes:
    text = struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, port) + body
    return text + b"\0" * (-len(text) % 4)


def body_of(kind: int, fields: "dict[str, Any]") -> bytes:
    """What follows the netlink header of a message with these fields."""
    message = MarshalRtnl().msg_map[kind]()
    message.update(fields)
    message.encode()
    return bytes(message.data[16:])


def route_body(route: Route, links: Sequence[Link] = (), **fields: int) -> bytes:
    index = next((link.ifindex for link in links if link.name == route.dev), 0)
    request = messages.route_request(route, index)
    return body_of(messages.RTM_NEWROUTE, {**request, **fields})


class Answering:
    """A socket on which a kernel with some links and routes answers dumps."""

    def __init__(self, links: Sequence[Link], routes: Iterable[Route]):
        names = [{"index": one.ifindex, "attrs": [("IFLA_IFNAME", one.name)]} for one in links]
        self.bodies = {
            messages.RTM_GETLINK: [body_of(messages.RTM_NEWLINK, name) for name in names],
            messages.RTM_GETROUTE: [route_body(route, links) for route in routes],
        }
        self.marshal = MarshalRtnl()
        self.dumps = 0  # of routes, so far
        self.interrupted = 0  # the next so many dumps are not whole
        self._ready: "list[bytes]" = []

    def put(self, request: Any, kind: int, _flags: int, msg_seq: int) -> None:
        self.dumps += kind == messages.RTM_GETROUTE
        family = request["family"]
        bodies = [body for body in self.bodies[kind] if family in (None, 0, body[0])]
        flags = rtnl.NLM_F_MULTI | (rtnl.NLM_F_DUMP_INTR if self.interrupted else 0)
        self.interrupted = max(0, self.interrupted - 1)
        answer = kind - 2  # RTM_NEW... of RTM_GET...
        self._ready = [framed(answer, body, flags, msg_seq) for body in bodies]
        self._ready.append(framed(rtnl.NLMSG_DONE, bytes(4), flags, msg_seq))

    def recv(self, _size: int, _flags: int = 0) -> bytes:
        """At most three messages at once."""
        datagram, self._ready = b"".join(self._ready[:3]), self._ready[3:]
        return datagram

    def setsockopt(self, *_option: Any) -> None:
        pass

    def close(self) -> None:
        pass
