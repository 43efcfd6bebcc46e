"""What the meddler does to packets, octet by octet."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest

from netns_lab.meddler import exchange_type, flipped, reflected, without_checksum

IKE = bytes(16) + bytes([33, 0x20, 43, 0x08]) + bytes(8) + b"body"  # IKE_INTERMEDIATE


def packet(ports: tuple[int, int], data: bytes, protocol: int = 17) -> bytes:
    udp = struct.pack("!HHHH", *ports, 8 + len(data), 0xBEEF) + data
    header = struct.pack("!BBHIBBH", 0x45, 0, 20 + len(udp), 0, 64, protocol, 0)
    addresses = ip_address("10.0.12.1").packed + ip_address("10.0.23.3").packed
    return header + addresses + udp


@pytest.mark.parametrize(
    ("raw", "exchange"),
    [
        (packet((500, 500), IKE), 43),
        (packet((4500, 4500), bytes(4) + IKE), 43),
        (packet((4500, 4500), b"\xc0\xff\xee\x01" + IKE), None),  # ESP in UDP
        (packet((7000, 7000), IKE), None),
        (packet((500, 500), IKE, protocol=6), None),
        (packet((500, 500), b"\x01"), None),
    ],
)
def test_ike_messages_are_told_from_the_rest(raw: bytes, exchange: int | None) -> None:
    assert exchange_type(raw) == exchange


def test_one_bit_is_flipped() -> None:
    raw = packet((500, 500), IKE)
    changed = flipped(raw)
    difference = int.from_bytes(raw, "big") ^ int.from_bytes(changed, "big")
    assert difference.bit_count() == 1
    assert exchange_type(changed) == 43


def test_reflection_exchanges_addresses_and_ports_and_nothing_else() -> None:
    raw = packet((500, 4501), IKE)
    back = reflected(raw)
    assert (back[12:16], back[16:20]) == (raw[16:20], raw[12:16])
    assert struct.unpack_from("!HH", back, 20) == (4501, 500)
    assert reflected(back) == raw


def test_only_udp_loses_its_checksum() -> None:
    raw = packet((500, 500), IKE)
    assert without_checksum(raw)[26:28] == bytes(2)
    assert without_checksum(raw)[28:] == raw[28:]
    esp = packet((1, 2), IKE, protocol=50)
    assert without_checksum(esp) == esp
