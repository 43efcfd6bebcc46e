"""What a capture proves: kinds of packets, and decryption with keys both ends claim."""

from __future__ import annotations

import os
import struct
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from netns_lab import pcap, proof
from netns_lab.errors import LabError
from netns_lab.traffic import MARKER

MOON, SUN = "10.0.12.1", "10.0.23.3"
ALICE, BOB = "10.1.0.10", "10.2.0.10"
KEY = bytes(range(36))
SPI = 0xC0FFEE01


def ipv4(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    header = struct.pack("!BBHIBBH", 0x45, 0, 20 + len(payload), 0, 64, protocol, 0)
    return header + ip_address(source).packed + ip_address(destination).packed + payload


def udp(source: int, destination: int, data: bytes) -> bytes:
    return struct.pack("!HHHH", source, destination, 8 + len(data), 0) + data


def ethernet(packet: bytes, ethertype: int = 0x0800) -> bytes:
    return bytes(12) + struct.pack("!H", ethertype) + packet


def esp(inner: bytes, *, key: bytes = KEY, spi: int = SPI, number: int = 1) -> bytes:
    """RFC 4303 with RFC 4106 and 64-bit sequence numbers, made without scapy."""
    pad = -(len(inner) + 2) % 4
    plain = inner + bytes(range(1, pad + 1)) + bytes([pad, 4])
    iv = os.urandom(8)
    aad = struct.pack("!IQ", spi, number)  # SPI, then the whole extended sequence number
    sealed = AESGCM(key[:32]).encrypt(key[32:] + iv, plain, aad)
    return struct.pack("!II", spi, number) + iv + sealed


INNER = ipv4(ALICE, BOB, 17, udp(7000, 7000, MARKER))


def frame(packet: bytes) -> pcap.Frame:
    return pcap.Frame(0.0, ethernet(packet))


ESP = frame(ipv4(MOON, SUN, 50, esp(INNER)))
ESP_IN_UDP = frame(ipv4(MOON, SUN, 17, udp(4500, 4500, esp(INNER))))


@pytest.mark.parametrize(
    ("packet", "kind"),
    [
        (ESP, "esp"),
        (ESP_IN_UDP, "esp"),
        (frame(ipv4(MOON, SUN, 17, udp(500, 500, b"\x01" * 28))), "ike"),
        (frame(ipv4(MOON, SUN, 17, udp(4500, 4500, bytes(4) + b"\x01" * 28))), "ike"),
        (frame(ipv4(MOON, SUN, 17, udp(4500, 4500, b"\xff"))), "keepalive"),
        (frame(INNER), "plaintext"),
        (frame(ipv4(BOB, SUN, 1, b"ping")), "plaintext"),
        (frame(ipv4(MOON, SUN, 4, INNER)), "plaintext"),  # tunnelled, not encrypted
        (frame(ipv4(MOON, SUN, 6, b"tcp")), "other"),
        (pcap.Frame(0.0, ethernet(bytes(28), 0x0806)), "arp"),
    ],
)
def test_kinds(packet: pcap.Frame, kind: str) -> None:
    assert proof.kind(packet.data) == kind


def test_plaintext_is_counted_and_always_reported() -> None:
    assert proof.count_kinds([ESP])["plaintext"] == 0
    assert proof.count_kinds([ESP, frame(INNER)]) == {"plaintext": 1, "esp": 1}


def keys(key: bytes = KEY) -> dict[tuple[proof.IpAddress, int], proof.EspKey]:
    return {(ip_address(SUN), SPI): proof.EspKey(ip_address(SUN), SPI, key)}


@pytest.mark.parametrize("packet", [ESP, ESP_IN_UDP])
def test_scapy_decrypts_with_the_key(packet: pcap.Frame) -> None:
    seen = proof.decrypt([packet, packet], keys())
    assert seen.proven
    assert (seen.sas_seen, seen.decrypted) == (1, 1)


@pytest.mark.parametrize(
    "known",
    [keys(bytes(36)), {}, keys(KEY[:32] + bytes(4))],
    ids=["another key", "no key", "another salt"],
)
def test_nothing_is_proven_without_the_right_key(
    known: dict[tuple[proof.IpAddress, int], proof.EspKey],
) -> None:
    seen = proof.decrypt([ESP], known)
    assert not seen.proven
    assert f"{SPI:08x}" in seen.failed[0]


def test_nothing_is_proven_by_no_packets_or_by_a_foreign_inner_packet() -> None:
    assert not proof.decrypt([], keys()).proven
    foreign = frame(ipv4(MOON, SUN, 50, esp(ipv4("192.0.2.1", "192.0.2.2", 17, b"x" * 12))))
    assert not proof.decrypt([foreign], keys()).proven


def key_log(path: Path, key: bytes) -> Path:
    row = f'"IPv4","{MOON}","{SUN}","0x{SPI:08x}","AES-GCM with 16 octet ICV [RFC4106]"'
    path.write_text(f'{row},"0x{key.hex()}","NULL",""\n')
    return path


def test_both_gateways_must_claim_the_same_key(tmp_path: Path) -> None:
    moon, sun = key_log(tmp_path / "moon", KEY), key_log(tmp_path / "sun", KEY)
    assert proof.agreed_keys([moon, sun]) == keys()
    assert KEY.hex() not in repr(proof.agreed_keys([moon, sun]))
    key_log(sun, bytes(36))
    with pytest.raises(LabError, match=f"{SPI:08x}"):
        proof.agreed_keys([moon, sun])


def test_a_key_only_one_claims_is_no_proof(tmp_path: Path) -> None:
    moon = key_log(tmp_path / "moon", KEY)
    (tmp_path / "sun").touch()
    assert proof.agreed_keys([moon, tmp_path / "sun"]) == {}


def test_a_capture_is_read_as_written_and_a_torn_end_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    with path.open("wb") as file:
        pcap.write_header(file)
        pcap.write_frame(file, 1_500_000_000, b"first")
        pcap.write_frame(file, 2_000_000_000, b"second")
    assert list(pcap.read(path)) == [pcap.Frame(1.5, b"first"), pcap.Frame(2.0, b"second")]
    path.write_bytes(path.read_bytes()[:-1])
    assert [each.data for each in pcap.read(path)] == [b"first"]


def test_scapy_reads_our_captures(tmp_path: Path) -> None:
    from scapy.utils import rdpcap

    with (tmp_path / "x.pcap").open("wb") as file:
        pcap.write_header(file)
        pcap.write_frame(file, 1_500_000_000, ESP.data)
    (packet,) = rdpcap(str(tmp_path / "x.pcap"))
    assert bytes(packet) == ESP.data
