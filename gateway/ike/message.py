"""The IKE header (RFC 7296 3.1) and messages without encryption."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.ike.errors import ProtocolError
from gateway.ike.payloads import Payload, decode_chain, encode_chain
from gateway.ike.registry import NotifyType
from gateway.ike.wire import syntax_error

HEADER_SIZE: Final = 28  # octets
SPI_SIZE: Final = 8
NO_SPI: Final = bytes(SPI_SIZE)
_LAYOUT: Final = struct.Struct(">8s8sBBBBII")
_VERSION: Final = 0x20
_MAJOR_VERSION: Final = 2
_FLAG_INITIATOR: Final = 0x08
_FLAG_RESPONSE: Final = 0x20


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """``exchange`` is an ExchangeType, or a number we do not know."""

    spi_i: bytes
    spi_r: bytes
    exchange: int
    message_id: int
    initiator: bool  # the sender is the original initiator of the IKE SA
    response: bool
    next_payload: int = 0  # set by whoever encodes
    length: int = 0  # octets of the whole message; set by whoever encodes

    def encode(self, next_payload: int, length: int) -> bytes:
        """The 28 octets, for a message of ``length`` octets in all."""
        flags = _FLAG_INITIATOR * self.initiator | _FLAG_RESPONSE * self.response
        return _LAYOUT.pack(
            self.spi_i,
            self.spi_r,
            next_payload,
            _VERSION,
            self.exchange,
            flags,
            self.message_id,
            length,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message that travels without encryption, as in IKE_SA_INIT."""

    header: Header
    payloads: tuple[Payload, ...]


def foreign_header(data: bytes) -> Header | None:
    """The header of a message of another major version, as far as it can be answered.

    None where it is too short, a response, or older: only a higher version is told ours
    (RFC 7296 2.5).
    """
    if len(data) < HEADER_SIZE:
        return None
    spi_i, spi_r, _, version, exchange, flags, message_id, _ = _LAYOUT.unpack_from(data)
    if version >> 4 <= _MAJOR_VERSION or flags & _FLAG_RESPONSE:
        return None
    return Header(
        spi_i=spi_i,
        spi_r=spi_r,
        exchange=exchange,
        message_id=message_id,
        initiator=bool(flags & _FLAG_INITIATOR),
        response=False,
    )


def parse_header(data: bytes) -> Header:
    """The header of a datagram (after the non-ESP marker).

    ProtocolError(INVALID_MAJOR_VERSION) for versions above 2, (INVALID_SYNTAX) otherwise.
    """
    if len(data) < HEADER_SIZE:
        raise syntax_error(f"message of {len(data)} octets")
    spi_i, spi_r, next_payload, version, exchange, flags, message_id, length = _LAYOUT.unpack_from(
        data
    )
    if version >> 4 != _MAJOR_VERSION:  # the minor version is ignored, RFC 7296 2.5
        raise ProtocolError(
            NotifyType.INVALID_MAJOR_VERSION, f"version {version >> 4}", bytes((_VERSION,))
        )
    if length != len(data):
        raise syntax_error(f"length says {length}, message has {len(data)} octets")
    if spi_i == NO_SPI:  # RFC 7296 3.1
        raise syntax_error("initiator's SPI is zero")
    return Header(
        spi_i=spi_i,
        spi_r=spi_r,
        exchange=exchange,
        message_id=message_id,
        initiator=bool(flags & _FLAG_INITIATOR),
        response=bool(flags & _FLAG_RESPONSE),
        next_payload=next_payload,
        length=length,
    )


def encode_message(header: Header, payloads: Sequence[Payload]) -> bytes:
    """A message without encryption. ``header``'s next_payload and length are not used."""
    first, chain = encode_chain(payloads)
    return header.encode(first, HEADER_SIZE + len(chain)) + chain


def decode_message(data: bytes, header: Header | None = None) -> Message:
    """Header and payloads of a message without encryption. ProtocolError if malformed.

    ``header``: the result of ``parse_header``, where it is already at hand.
    """
    header = header or parse_header(data)
    return Message(header=header, payloads=decode_chain(header.next_payload, data[HEADER_SIZE:]))
