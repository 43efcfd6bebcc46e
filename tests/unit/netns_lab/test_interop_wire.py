"""What is checked in a capture and in what was written, when a scenario is over."""

from __future__ import annotations

import os
import struct
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from netns_lab.errors import LabError
from netns_lab.interop import wire
from netns_lab.interop.agreement import KernelSa
from netns_lab.pcap import Frame
from netns_lab.traffic import MARKER

MOON, SUN, ISP = "10.0.12.1", "10.0.23.3", "10.0.23.2"
KEY = bytes(range(36))
SPI, OTHER = "c0ffee01", "0badcafe"
SKF, SK = 53, 46


def ipv4(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    header = struct.pack("!BBHIBBH", 0x45, 0, 20 + len(payload), 0, 64, protocol, 0)
    return header + ip_address(source).packed + ip_address(destination).packed + payload


def frame(packet: bytes) -> Frame:
    return Frame(0.0, bytes(12) + b"\x08\x00" + packet)


def ike(source: str, exchange: int, *, first: int = SKF, port: int = 4500) -> Frame:
    message = bytes(range(1, 17)) + bytes([first, 0x20, exchange, 8]) + bytes(12)
    data = (bytes(4) if port == 4500 else b"") + message
    return frame(ipv4(source, SUN, 17, struct.pack("!HHHH", port, port, 8 + len(data), 0) + data))


def esp() -> Frame:
    """A packet from sun to where it believes moon to be, in UDP."""
    inner = ipv4("10.2.0.10", "10.1.0.10", 17, struct.pack("!HHHH", 7000, 7000, 73, 0) + MARKER)
    pad = -(len(inner) + 2) % 4
    plain = inner + bytes(range(1, pad + 1)) + bytes([pad, 4])
    spi, iv = int(SPI, 16), os.urandom(8)
    sealed = AESGCM(KEY[:32]).encrypt(KEY[32:] + iv, plain, struct.pack("!IQ", spi, 1))
    data = struct.pack("!II", spi, 1) + iv + sealed
    return frame(ipv4(SUN, ISP, 17, struct.pack("!HHHH", 4500, 4500, 8 + len(data), 0) + data))


def sa(destination: str, key: bytes = KEY, spi: str = SPI) -> KernelSa:
    return KernelSa(
        source=SUN,
        destination=destination,
        spi=spi,
        algorithm="rfc4106(gcm(aes))",
        key=key.hex(),
        icv_bits=128,
        esn=True,
    )


@pytest.fixture
def site(tmp_path: Path) -> Any:
    """moon's key log has the SA, under moon's own address."""
    for gateway in ("moon", "sun"):
        (tmp_path / gateway).mkdir()
        (tmp_path / gateway / "psk").write_text(f"{gateway} pre-shared key\n")
    (tmp_path / "moon" / "esp_sa").write_text(sa(MOON).esp_sa_row())
    return SimpleNamespace(
        esp_keys=lambda gateway: tmp_path / gateway / "esp_sa",
        folder=lambda gateway: tmp_path / gateway,
        recorded_keys=tuple,
    )


def test_fragments_are_counted_by_sender_and_exchange() -> None:
    frames = [
        ike(MOON, wire.IKE_AUTH),
        ike(MOON, wire.IKE_AUTH, port=500),
        ike(SUN, wire.IKE_INTERMEDIATE),
        ike(MOON, wire.IKE_AUTH, first=SK),
        esp(),
        Frame(0.0, b"too short"),
    ]
    found = wire.fragments(frames)
    assert found == {(MOON, wire.IKE_AUTH): 2, (SUN, wire.IKE_INTERMEDIATE): 1}


def test_an_sa_is_opened_though_the_ends_name_its_address_differently(site: Any) -> None:
    assert wire.check_decryption(site, [esp()], {SPI}, {SPI: sa(ISP)}, esn=True) == 1


def test_nothing_proven_is_no_proof(site: Any) -> None:
    with pytest.raises(LabError, match="0 of 0"):
        wire.check_decryption(site, [esp()], set(), {SPI: sa(ISP)}, esn=True)


def test_an_sa_without_a_packet_is_not_proven(site: Any) -> None:
    with pytest.raises(LabError, match="0 of 1"):
        wire.check_decryption(site, [], {SPI}, {SPI: sa(ISP)}, esn=True)


def test_a_key_that_one_end_lacks_or_that_differs_fails(site: Any) -> None:
    with pytest.raises(LabError, match="from the peer"):
        wire.check_decryption(site, [esp()], {SPI}, {}, esn=True)
    with pytest.raises(LabError, match="from us"):
        wire.check_decryption(site, [esp()], {OTHER}, {OTHER: sa(ISP, spi=OTHER)}, esn=True)
    with pytest.raises(LabError, match="different keys"):
        wire.check_decryption(site, [esp()], {SPI}, {SPI: sa(ISP, bytes(36))}, esn=True)


def test_plaintext_is_refused() -> None:
    wire.check_plaintext([esp()])
    inside = frame(ipv4("10.1.0.10", "10.2.0.10", 1, bytes(8)))
    with pytest.raises(LabError, match="1 packets in plaintext"):
        wire.check_plaintext([esp(), inside])


def test_key_bytes_in_a_log_are_found_and_not_told(site: Any, tmp_path: Path) -> None:
    logs = tmp_path / "log"
    logs.mkdir()
    (logs / "charon.log").write_text("nothing here\n")
    assert wire.check_traces(site, [logs]) == 3  # an ESP key and two pre-shared keys
    (logs / "charon.log").write_text(f"SK_ei {KEY[:32].hex()}\n")
    with pytest.raises(LabError, match=r"charon\.log \(hex\)") as raised:
        wire.check_traces(site, [logs])
    assert KEY[:32].hex() not in str(raised.value)


def test_a_search_without_files_is_no_search(site: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(LabError, match="0 files"):
        wire.check_traces(site, [tmp_path / "empty"])
