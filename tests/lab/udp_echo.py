"""The two ends of a stream of UDP datagrams; each ends when its standard input closes.

``udp_echo.py server ADDRESS PORT`` echoes.  ``udp_echo.py sender ADDRESS PORT MS``
sends a numbered datagram every MS milliseconds and prints, as JSON, how many were sent
and came back, and the longest time without an answer.  It ends with datagrams that do
not count: once one of them is back, all others have come back or are lost.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import sys
import time

NUMBER = struct.Struct("!Q")
PATIENCE = 60.0  # seconds for the first answer and for the last ones
AGAIN = 0.2  # seconds between the last ones, more than packets can be reordered
FIRST, LAST = 0, (1 << 64) - 1  # their numbers


def _socket(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    # Only the network may lose a packet, not a full buffer of this program.
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option + 25, 1 << 23)  # SO_{RCV,SND}BUFFORCE
    return sock


def server(address: str, port: int) -> None:
    sock = _socket(address)
    sock.bind((address, port))
    print("ready", flush=True)
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _events in selector.select():
                if key.fileobj is sys.stdin:
                    return
                data, peer = sock.recvfrom(2048)
                try:
                    sock.sendto(data, peer)
                except OSError:
                    pass  # no route at the moment: counts as a lost packet


def sender(address: str, port: int, interval: float) -> None:
    sock, peer = _socket(address), (address, port)
    sock.setblocking(False)
    seen, sent, gap = set(), 0, 0.0
    # The first answer resolves neighbours; it is not part of the measurement.
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        _send(sock, peer, FIRST)
        time.sleep(0.05)
        if _receive(sock):
            break
    print("ready", flush=True)
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        following = last = time.monotonic()
        end = float("inf")
        while (now := time.monotonic()) < end and LAST not in seen:
            if end < float("inf") and len(seen) == sent:
                break
            if now >= following:
                if end == float("inf"):
                    sent += 1
                    _send(sock, peer, sent)
                else:
                    _send(sock, peer, LAST)
                following = max(following + interval, now)
            for key, _events in selector.select(max(0.0, following - time.monotonic())):
                if key.fileobj is sys.stdin:
                    selector.unregister(sys.stdin)
                    following = time.monotonic() + AGAIN
                    interval, end = AGAIN, following + PATIENCE
                elif numbers := _receive(sock) - {FIRST}:
                    now = time.monotonic()
                    gap, last = max(gap, now - last), now
                    seen |= numbers
    seen.discard(LAST)
    print(json.dumps({"sent": sent, "received": len(seen), "longest_gap_ms": gap * 1000}))


def _send(sock: socket.socket, peer: tuple[str, int], number: int) -> None:
    try:
        sock.sendto(NUMBER.pack(number), peer)
    except OSError:
        pass  # counted as sent, and lost


def _receive(sock: socket.socket) -> set:
    """The numbers of the datagrams that have come back."""
    found = set()
    while True:
        try:
            found.update(NUMBER.unpack(sock.recv(2048)))
        except OSError:
            return found


if __name__ == "__main__":
    if sys.argv[1] == "server":
        server(sys.argv[2], int(sys.argv[3]))
    else:
        sender(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]) / 1000)
