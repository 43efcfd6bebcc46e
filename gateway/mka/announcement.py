"""TLVs of an announcement (11.12): seven bits of type, nine of length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.mka.wire import Reader

_LENGTH_BITS: Final = 9
_LENGTH_MAX: Final = (1 << _LENGTH_BITS) - 1


@dataclass(frozen=True, slots=True)
class Tlv:
    type: int
    value: bytes


def encode_tlvs(tlvs: Sequence[Tlv]) -> bytes:
    """ValueError for a type above 127 or a value above 511 octets."""
    out = b""
    for tlv in tlvs:
        if tlv.type >> 7 or len(tlv.value) > _LENGTH_MAX:
            raise ValueError(f"TLV {tlv.type} of {len(tlv.value)} octets")
        out += (tlv.type << _LENGTH_BITS | len(tlv.value)).to_bytes(2, "big") + tlv.value
    return out


def decode_tlvs(data: bytes) -> tuple[Tlv, ...]:
    reader = Reader(data, "announcement")
    tlvs: list[Tlv] = []
    while reader.remaining:
        word = reader.u16()
        tlvs.append(Tlv(word >> _LENGTH_BITS, reader.octets(word & _LENGTH_MAX)))
    return tuple(tlvs)
