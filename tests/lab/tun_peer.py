"""The far end of a VPN: create a tun device and answer echo requests for its own addresses.

``tun_peer.py NAME ADDRESS...`` prints ``ready`` when the device exists, and holds it
until its standard input closes.  Packets to any other address are lost, as in a tunnel
that is not meant to carry them.
"""

from __future__ import annotations

import fcntl
import os
import selectors
import struct
import sys
from ipaddress import ip_address

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h


def answer(packet: bytes, mine: set[bytes]) -> bytes:
    """The echo reply to an echo request; b"" for any other packet.

    Swapping the addresses changes no checksum; the ICMP checksum is corrected for the
    changed type.
    """
    if packet[0] >> 4 == 4:
        head = (packet[0] & 15) * 4
        if packet[16:20] not in mine or packet[9] != 1 or packet[head] != 8:
            return b""
        swapped = packet[:12] + packet[16:20] + packet[12:16] + packet[20:head]
        reply, difference = 0, 0x0800
    else:
        head = 40
        if packet[24:40] not in mine or packet[6] != 58 or packet[head] != 128:
            return b""
        swapped = packet[:8] + packet[24:40] + packet[8:24]
        reply, difference = 129, -0x0100
    (checksum,) = struct.unpack_from("!H", packet, head + 2)
    checksum += difference
    checksum = (checksum - 1) & 0xFFFF if checksum < 0 else (checksum & 0xFFFF) + (checksum >> 16)
    body = bytes((reply, packet[head + 1])) + struct.pack("!H", checksum) + packet[head + 4 :]
    return swapped + body


def main(name: str, *addresses: str) -> None:
    mine = {ip_address(address).packed for address in addresses}
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH14x", name.encode(), IFF_TUN | IFF_NO_PI))
    print("ready", flush=True)
    with selectors.DefaultSelector() as selector:
        selector.register(tun, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _events in selector.select():
                if key.fileobj is sys.stdin:
                    return
                reply = answer(os.read(tun, 65536), mine)
                if reply:
                    os.write(tun, reply)


if __name__ == "__main__":
    main(*sys.argv[1:])
