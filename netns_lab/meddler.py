"""Somebody at isp who changes, repeats and reflects IKE messages.

    python -m netns_lab.meddler forward                     in the kernel's place, until SIGTERM
                                [--flip EXCHANGE]
                                [--strip WHAT --in request|response]
    python -m netns_lab.meddler inject FILE.pcap            once: repeated, changed, reflected

``forward`` needs the host's own forwarding off (net.ipv4.ip_forward=0). Then every IPv4 packet
goes through this program. With ``--flip`` every IKE message of that exchange type arrives with
one bit changed, with ``--strip`` IKE_SA_INIT arrives with something done to it that
``rewrite`` knows. Stdlib only. UDP checksums are left out, as IPv4 allows (RFC 768).
"""

from __future__ import annotations

import argparse
import select
import signal
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from netns_lab import announce, pcap, proof, rewrite

_ETH_P_IP = 0x0800  # linux/if_ether.h
_PACKET_HOST = 0  # linux/if_packet.h: addressed to our MAC, so we are the next hop
_MTU_MAX = 65535
_UDP = 17
_IKE_PORTS = {500, 4500}
_NON_ESP_MARKER = bytes(4)  # RFC 3948 2.2
_EXCHANGE = 18  # offset of the exchange type in the IKE header, RFC 7296 3.1


def exchange_type(packet: bytes) -> int | None:
    """The exchange type of an IPv4 packet with an IKE message; None for anything else."""
    udp = (packet[0] & 0x0F) * 4
    if packet[9] != _UDP or len(packet) < udp + 8:
        return None
    ports = struct.unpack_from("!HH", packet, udp)
    if not _IKE_PORTS & set(ports):
        return None
    message = packet[udp + 8 :]
    if 4500 in ports:
        if message[:4] != _NON_ESP_MARKER:
            return None
        message = message[4:]
    return message[_EXCHANGE] if len(message) > _EXCHANGE else None


def without_checksum(packet: bytes) -> bytes:
    """A UDP packet without its checksum, which would have to follow every change."""
    if packet[9] != _UDP:
        return packet
    at = (packet[0] & 0x0F) * 4 + 6
    return packet[:at] + bytes(2) + packet[at + 2 :]


def stripped(packet: bytes, what: str, direction: rewrite.Direction) -> bytes | None:
    """The packet with ``what`` done to its IKE_SA_INIT message; None where that changes nothing."""
    if exchange_type(packet) is None:
        return None
    udp = (packet[0] & 0x0F) * 4
    start = udp + 8 + (4 if packet[udp + 8 : udp + 12] == _NON_ESP_MARKER else 0)
    message = rewrite.changed(packet[start:], what, direction)
    if message is None:
        return None
    # The kernel fills in the IP header's length and checksum (raw(7)).
    length = (start - udp + len(message)).to_bytes(2, "big")
    return packet[: udp + 4] + length + packet[udp + 6 : start] + message


def flipped(packet: bytes) -> bytes:
    """The packet with one bit of its last octet changed."""
    return packet[:-1] + bytes([packet[-1] ^ 0x01])


def reflected(packet: bytes) -> bytes:
    """The packet back to where it came from: addresses and ports exchanged."""
    udp = (packet[0] & 0x0F) * 4
    return b"".join(
        (
            packet[:12],
            packet[16:20],
            packet[12:16],
            packet[20:udp],
            packet[udp + 2 : udp + 4],
            packet[udp : udp + 2],
            packet[udp + 4 :],
        )
    )


class Sender:
    """Sends whole IPv4 packets, whatever source they claim."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

    def send(self, packet: bytes) -> None:
        packet = without_checksum(packet)
        self._socket.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))


Change = Callable[[bytes], bytes | None]
"""The packet as it goes on; None: as it came."""


def forward(change: Change) -> None:
    """Be the router until SIGTERM; tell on stdout how many messages were changed."""
    stopped: list[bool] = []

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopped.append(True)

    signal.signal(signal.SIGTERM, stop)
    sender, changed = Sender(), 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP)) as incoming:
        announce.ready()
        while not stopped:
            if not select.select([incoming], [], [], 0.2)[0]:
                continue
            packet, address = incoming.recvfrom(_MTU_MAX)
            if address[2] != _PACKET_HOST or len(packet) < 20:
                continue
            other = change(packet)
            changed += other is not None
            sender.send(packet if other is None else other)
    print(f"{changed} messages changed", flush=True)


def inject(file: Path) -> int:
    """Send every IKE message of a capture again, changed and reflected; how many there were."""
    sender = Sender()
    messages = [
        seen.raw
        for frame in pcap.read(file)
        if (seen := proof.ip_packet(frame.data)) is not None
        and seen.raw[0] >> 4 == 4
        and exchange_type(seen.raw) is not None
    ]
    for message in messages:
        for packet in (message, flipped(message), reflected(message)):
            sender.send(packet)
    return len(messages)


def _change(arguments: argparse.Namespace) -> Change:
    def change(packet: bytes) -> bytes | None:
        if arguments.strip is not None:
            return stripped(packet, arguments.strip, arguments.direction)
        return flipped(packet) if exchange_type(packet) == arguments.flip else None

    return change if arguments.flip is not None or arguments.strip is not None else lambda _: None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(required=True, dest="verb")
    verb = verbs.add_parser("forward")
    verb.add_argument("--flip", type=int, metavar="EXCHANGE")
    verb.add_argument("--strip", choices=rewrite.CHANGES)
    verb.add_argument("--in", dest="direction", choices=("request", "response"), default="request")
    verb = verbs.add_parser("inject")
    verb.add_argument("file", type=Path)
    arguments = parser.parse_args()
    if arguments.verb == "forward":
        forward(_change(arguments))
    else:
        print(inject(arguments.file))


if __name__ == "__main__":
    main()
