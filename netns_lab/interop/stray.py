"""Sends IKE_SA_INIT requests that nobody goes on with, as if a gateway had sent them.

    python -m netns_lab.interop.stray --capture isp.pcap --to 10.0.23.3 --count 3

Copies of a request in the capture, each with an SPI of its own: the gateway asked answers,
keeps a half-open IKE SA for each, and may come to ask for cookies (RFC 7296 2.6). IPv4 only.
"""

from __future__ import annotations

import argparse
import os
import socket
import struct
import sys
from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path

from netns_lab import pcap, proof

_IKE_PORT = 500
_UDP_HEADER = 8
_HEADER = 28  # RFC 7296 3.1
_IKE_SA_INIT = 34
_RESPONSE = 0x20
_NOTIFY, _COOKIE = 41, 16390  # RFC 7296 3.2, 3.10.1


def sa_init(packet: proof.IpPacket) -> bytes | None:
    """The IKE_SA_INIT message in ``packet``, if that is what it is."""
    if packet.protocol != socket.IPPROTO_UDP or len(packet.payload) < _UDP_HEADER + _HEADER:
        return None
    ports = struct.unpack_from("!HH", packet.payload)
    message = packet.payload[_UDP_HEADER:]
    return message if _IKE_PORT in ports and message[18] == _IKE_SA_INIT else None


def request_to(target: IPv4Address, frames: Iterable[pcap.Frame]) -> proof.IpPacket | None:
    """The first request for ``target`` in a capture."""
    for frame in frames:
        packet = proof.ip_packet(frame.data)
        message = sa_init(packet) if packet is not None else None
        asks = message is not None and not message[19] & _RESPONSE
        if packet is not None and asks and packet.destination == target:
            return packet
    return None


def cookies_asked(frames: Iterable[pcap.Frame]) -> int:
    """How many answers in a capture ask for a cookie and nothing else."""
    count = 0
    for frame in frames:
        packet = proof.ip_packet(frame.data)
        message = sa_init(packet) if packet is not None else None
        if message and message[19] & _RESPONSE and message[16] == _NOTIFY:
            count += struct.unpack_from("!H", message, _HEADER + 6)[0] == _COOKIE
    return count


def attempts(frames: Iterable[pcap.Frame]) -> int:
    """How many IKE SAs were begun in a capture; a request that is repeated counts once."""
    spis = set()
    for frame in frames:
        packet = proof.ip_packet(frame.data)
        message = sa_init(packet) if packet is not None else None
        if message and not message[19] & _RESPONSE:
            spis.add(message[:8])
    return len(spis)


def with_spi(packet: proof.IpPacket, spi: bytes) -> bytes:
    """``packet`` with another initiator's SPI in its IKE message."""
    at = len(packet.raw) - len(packet.payload) + _UDP_HEADER
    data = bytearray(packet.raw)
    data[at : at + len(spi)] = spi
    struct.pack_into("!H", data, at - 2, 0)  # no UDP checksum (RFC 768)
    return bytes(data)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--capture", type=Path, required=True)
    parser.add_argument("--to", type=IPv4Address, required=True)
    parser.add_argument("--count", type=int, required=True)
    arguments = parser.parse_args()
    packet = request_to(arguments.to, pcap.read(arguments.capture))
    if packet is None:
        print(f"no IKE_SA_INIT for {arguments.to} in {arguments.capture}", file=sys.stderr)
        return 1
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        for _ in range(arguments.count):
            sock.sendto(with_spi(packet, os.urandom(8)), (str(arguments.to), 0))
    return 0


if __name__ == "__main__":
    sys.exit(main())
