"""Transforms and proposals as they stand in an SA payload (RFC 7296 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from gateway.ike.registry import ProtocolId
from gateway.ike.wire import Reader, syntax_error

_MORE_PROPOSALS: Final = 2  # RFC 7296 3.3.1
_MORE_TRANSFORMS: Final = 3  # RFC 7296 3.3.2
_KEY_LENGTH: Final = b"\x80\x0e"  # attribute type 14 in TV format, RFC 7296 3.3.5
_SPI_SIZES: Final[dict[int, tuple[int, ...]]] = {
    ProtocolId.IKE: (0, 8),
    ProtocolId.AH: (4,),
    ProtocolId.ESP: (4,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform:
    """One algorithm. ``type`` and ``id`` may be numbers we do not know."""

    type: int
    id: int
    key_length: int | None = None  # bits
    unknown_attributes: bytes = b""  # raw; with any, the transform cannot be chosen

    def encode(self, *, last: bool) -> bytes:
        attributes = self.unknown_attributes
        if self.key_length is not None:
            attributes = _KEY_LENGTH + self.key_length.to_bytes(2, "big") + attributes
        return b"".join(
            (
                bytes((0 if last else _MORE_TRANSFORMS, 0)),
                (8 + len(attributes)).to_bytes(2, "big"),
                bytes((self.type, 0)),
                self.id.to_bytes(2, "big"),
                attributes,
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One set of choices. ``spi`` is the sender's: empty, 8 (IKE) or 4 octets (ESP)."""

    number: int
    protocol: int
    spi: bytes = b""
    transforms: tuple[Transform, ...]

    def with_spi(self, spi: bytes) -> Proposal:
        """The same choices under another SPI."""
        return replace(self, spi=spi)

    def encode(self, *, last: bool) -> bytes:
        final = len(self.transforms) - 1
        transforms = b"".join(
            transform.encode(last=index == final) for index, transform in enumerate(self.transforms)
        )
        length = 8 + len(self.spi) + len(transforms)
        return b"".join(
            (
                bytes((0 if last else _MORE_PROPOSALS, 0)),
                length.to_bytes(2, "big"),
                bytes((self.number, self.protocol, len(self.spi), len(self.transforms))),
                self.spi,
                transforms,
            )
        )


def encode_proposals(proposals: Sequence[Proposal]) -> bytes:
    """The body of an SA payload."""
    final = len(proposals) - 1
    return b"".join(
        proposal.encode(last=index == final) for index, proposal in enumerate(proposals)
    )


def decode_proposals(body: bytes) -> tuple[Proposal, ...]:
    """The proposals of an SA payload's body, at least one."""
    reader = Reader(body, "SA payload")
    proposals: list[Proposal] = []
    more = True
    while more:
        marker = reader.u8()
        if marker not in (0, _MORE_PROPOSALS):
            raise syntax_error(f"proposal begins with {marker}")
        more = marker == _MORE_PROPOSALS
        reader.u8()
        length = reader.u16()
        proposal = _decode_proposal(reader.octets(length - 4))
        # RFC 7296 3.3.1: each number is one more than the one before.
        if proposals and proposal.number != proposals[-1].number + 1:
            raise syntax_error("proposals are not numbered in order")
        proposals.append(proposal)
    reader.finish()
    return tuple(proposals)


def _decode_proposal(body: bytes) -> Proposal:
    reader = Reader(body, "proposal")
    number, protocol, spi_size, count = reader.octets(4)
    if protocol in _SPI_SIZES and spi_size not in _SPI_SIZES[protocol]:
        raise syntax_error(f"proposal for protocol {protocol} has an SPI of {spi_size} octets")
    spi = reader.octets(spi_size)
    transforms = tuple(_decode_transform(reader, last=left == 1) for left in range(count, 0, -1))
    reader.finish()
    return Proposal(number=number, protocol=protocol, spi=spi, transforms=transforms)


def _decode_transform(reader: Reader, *, last: bool) -> Transform:
    marker = reader.u8()
    if marker != (0 if last else _MORE_TRANSFORMS):
        raise syntax_error("proposal: transforms do not match their count")
    reader.u8()
    length = reader.u16()
    body = reader.octets(length - 4)
    if len(body) < 4:
        raise syntax_error("transform ends early")
    kind, identifier = body[0], int.from_bytes(body[2:4], "big")
    attributes = body[4:]
    if not attributes:
        return Transform(type=kind, id=identifier)
    if len(attributes) == 4 and attributes[:2] == _KEY_LENGTH:
        bits = int.from_bytes(attributes[2:], "big")
        return Transform(type=kind, id=identifier, key_length=bits)
    _check_attributes(attributes)
    return Transform(type=kind, id=identifier, unknown_attributes=attributes)


def _check_attributes(attributes: bytes) -> None:
    """Walk TV and TLV attributes (RFC 7296 3.3.5) to their exact end."""
    reader = Reader(attributes, "transform attribute")
    while reader.remaining:
        kind = reader.u16()
        value = reader.u16()
        if not kind & 0x8000:  # TLV: ``value`` was the length
            reader.octets(value)
