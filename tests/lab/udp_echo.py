"""The two ends of a stream of UDP datagrams; each ends when its standard input closes.

``udp_echo.py server ADDRESS PORT`` echoes.  ``udp_echo.py sender ADDRESS PORT MS``
sends a numbered datagram each MS milliseconds and prints, as JSON, how many
were sent and came back and the longest time without an answer.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import sys
import time

NUMBER = struct.Struct("!Q")
GRACE = 1.5  # seconds for stragglers


def _socket(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    # Only the network may lose a packet, not a full buffer of ours.
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
                    pass  # no route just now: that is a lost packet, as it should count


def sender(address: str, port: int, interval: float) -> None:
    sock, peer = _socket(address), (address, port)
    sock.setblocking(False)
    seen, sent, gap = set(), 0, 0.0
    # The first answer resolves neighbours; it is not part of the measurement.
    deadline = time.monotonic() + 10
    while True:
        if time.monotonic() > deadline:
            break
        _send(sock, peer, 0)
        time.sleep(0.05)
        if _receive(sock, set()):
            break
    time.sleep(0.05)
    _receive(sock, set())
    print("ready", flush=True)
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        following = last = time.monotonic()
        end = float("inf")
        while time.monotonic() < end and not (end < float("inf") and len(seen) == sent):
            now = time.monotonic()
            if end == float("inf") and now >= following:
                sent += 1
                _send(sock, peer, sent)
                following = max(following + interval, now)
            wait = 0.05 if end < float("inf") else max(0.0, following - time.monotonic())
            for key, _events in selector.select(wait):
                if key.fileobj is sys.stdin:
                    selector.unregister(sys.stdin)
                    end = time.monotonic() + GRACE
                elif _receive(sock, seen):
                    now = time.monotonic()
                    gap, last = max(gap, now - last), now
    print(json.dumps({"sent": sent, "received": len(seen), "longest_gap_ms": gap * 1000}))


def _send(sock: socket.socket, peer: tuple[str, int], number: int) -> None:
    try:
        sock.sendto(NUMBER.pack(number), peer)
    except OSError:
        pass  # counted as sent, and lost


def _receive(sock: socket.socket, seen: set) -> bool:
    got = False
    while True:
        try:
            (number,) = NUMBER.unpack(sock.recv(2048))
        except OSError:
            return got
        if number:
            seen.add(number)
        got = True


if __name__ == "__main__":
    if sys.argv[1] == "server":
        server(sys.argv[2], int(sys.argv[3]))
    else:
        sender(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]) / 1000)
