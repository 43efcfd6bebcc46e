"""The IKE header and messages without encryption."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given

from gateway.ike.errors import ProtocolError
from gateway.ike.message import (
    HEADER_SIZE,
    Header,
    decode_message,
    encode_message,
    parse_header,
)
from gateway.ike.payloads import NoncePayload, NotifyPayload, Payload
from gateway.ike.registry import ExchangeType, NotifyType
from tests.support.ike_strategies import chains, headers

HEADER = Header(
    spi_i=bytes.fromhex("0102030405060708"),
    spi_r=bytes(8),
    exchange=ExchangeType.IKE_SA_INIT,
    message_id=0,
    initiator=True,
    response=False,
)
OCTETS = "0102030405060708 0000000000000000 28202208 00000000 0000003000000014" + "55" * 16


def test_octets() -> None:
    message = encode_message(HEADER, [NoncePayload(data=b"\x55" * 16)])
    assert message == bytes.fromhex(OCTETS)
    decoded = decode_message(message)
    assert decoded.payloads == (NoncePayload(data=b"\x55" * 16),)
    assert decoded.header == dataclasses.replace(HEADER, next_payload=40, length=48)


@pytest.mark.parametrize(
    ("initiator", "response", "flags"),
    [(True, False, 0x08), (False, True, 0x20), (True, True, 0x28), (False, False, 0)],
)
def test_flags(*, initiator: bool, response: bool, flags: int) -> None:
    header = dataclasses.replace(HEADER, initiator=initiator, response=response)
    octets = header.encode(0, HEADER_SIZE)
    assert octets[19] == flags
    parsed = parse_header(octets)
    assert (parsed.initiator, parsed.response) == (initiator, response)


def test_reserved_flags_and_the_minor_version_are_ignored() -> None:
    octets = bytearray(HEADER.encode(0, HEADER_SIZE))
    octets[17] = 0x21
    octets[19] |= 0xC7 | 0x10
    assert parse_header(bytes(octets)) == parse_header(HEADER.encode(0, HEADER_SIZE))


@given(headers, chains)
def test_round_trip(header: Header, payloads: tuple[Payload, ...]) -> None:
    octets = encode_message(header, payloads)
    message = decode_message(octets)
    assert message.payloads == payloads
    assert dataclasses.replace(message.header, next_payload=0, length=0) == header
    assert encode_message(message.header, message.payloads) == octets


@pytest.mark.parametrize("size", [0, 1, HEADER_SIZE - 1])
def test_too_short(size: int) -> None:
    with pytest.raises(ProtocolError, match=f"{size} octets"):
        parse_header(bytes.fromhex(OCTETS)[:size])


@pytest.mark.parametrize("change", [-1, 1])
def test_the_length_must_be_that_of_the_datagram(change: int) -> None:
    octets = bytearray.fromhex(OCTETS)
    octets[27] += change
    with pytest.raises(ProtocolError, match="48 octets") as caught:
        parse_header(bytes(octets))
    assert caught.value.notify is NotifyType.INVALID_SYNTAX


@pytest.mark.parametrize("version", [0x10, 0x30, 0x00])
def test_another_major_version(version: int) -> None:
    octets = bytearray.fromhex(OCTETS)
    octets[17] = version
    with pytest.raises(ProtocolError) as caught:
        parse_header(bytes(octets))
    assert caught.value.notify is NotifyType.INVALID_MAJOR_VERSION


def test_an_initiators_spi_is_never_zero() -> None:
    with pytest.raises(ProtocolError, match="zero"):
        parse_header(bytes(8) + bytes.fromhex(OCTETS)[8:])


def test_a_header_alone_is_a_message_without_payloads() -> None:
    assert decode_message(HEADER.encode(0, HEADER_SIZE)).payloads == ()


def test_errors_in_payloads_surface() -> None:
    octets = bytearray(encode_message(HEADER, [NotifyPayload(type=16435)]))
    octets[31] += 1
    with pytest.raises(ProtocolError):
        decode_message(bytes(octets))
