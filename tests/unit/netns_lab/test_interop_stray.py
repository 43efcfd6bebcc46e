"""IKE_SA_INIT requests that nobody goes on with, made of one that was captured."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

from netns_lab import proof
from netns_lab.interop import stray
from netns_lab.pcap import Frame

MOON, SUN = IPv4Address("10.0.12.1"), IPv4Address("10.0.23.3")
REQUEST, RESPONSE = 0x08, 0x20
SA, NOTIFY = 33, 41
IKE_AUTH = 35
COOKIE, OTHER = 16390, 14


def frame(
    source: IPv4Address,
    target: IPv4Address,
    *,
    flags: int,
    first: int = SA,
    exchange: int = 34,
    notify: int = 0,
) -> Frame:
    body = struct.pack("!BBHBBH", 0, 0, 8, 0, 0, notify)
    ike = bytes(range(1, 9)) + bytes(8) + bytes([first, 0x20, exchange, flags]) + bytes(8) + body
    udp = struct.pack("!HHHH", 500, 500, 8 + len(ike), 0xBEEF) + ike
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0)
    data = bytes(12) + b"\x08\x00" + ip + source.packed + target.packed + udp
    return Frame(0.0, data)


def test_first_request_for_the_target_is_found_and_nothing_else() -> None:
    frames = [
        Frame(0.0, b"too short"),
        frame(SUN, MOON, flags=REQUEST),
        frame(MOON, SUN, flags=RESPONSE),
        frame(MOON, SUN, flags=REQUEST, exchange=IKE_AUTH),
    ]
    assert stray.request_to(SUN, frames) is None
    found = stray.request_to(SUN, [*frames, frame(MOON, SUN, flags=REQUEST)])
    assert found is not None
    assert (found.source, found.destination) == (MOON, SUN)


def test_copy_differs_in_the_spi_and_the_checksum_only() -> None:
    packet = stray.request_to(SUN, [frame(MOON, SUN, flags=REQUEST)])
    assert packet is not None
    copy = stray.with_spi(packet, b"\xaa" * 8)
    again = proof.ip_packet(bytes(12) + b"\x08\x00" + copy)
    assert again is not None
    message = stray.sa_init(again)
    assert message is not None
    assert message[:8] == b"\xaa" * 8
    assert message[8:] == (stray.sa_init(packet) or b"")[8:]
    assert again.payload[6:8] == bytes(2)
    assert len(copy) == len(packet.raw)


def test_cookies_are_counted_and_other_notifies_are_not() -> None:
    frames = [
        frame(SUN, MOON, flags=RESPONSE, first=NOTIFY, notify=COOKIE),
        frame(SUN, MOON, flags=RESPONSE, first=NOTIFY, notify=OTHER),
        frame(SUN, MOON, flags=REQUEST, first=NOTIFY, notify=COOKIE),  # sent back: no answer
        frame(SUN, MOON, flags=RESPONSE, first=SA),
    ]
    assert stray.cookies_asked(frames) == 1


def test_an_ike_sa_begun_counts_once_and_answers_do_not() -> None:
    request = frame(MOON, SUN, flags=REQUEST)
    assert stray.attempts([request, request, frame(SUN, MOON, flags=RESPONSE)]) == 1
    assert stray.attempts([frame(SUN, MOON, flags=RESPONSE)]) == 0
