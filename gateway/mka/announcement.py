"""TLVs of an announcement (11.12): seven bits of type, nine of length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.mka.errors import malformed
from gateway.mka.registry import AnnouncementType
from gateway.mka.wire import Reader

_LENGTH_BITS: Final = 9
_LENGTH_MAX: Final = (1 << _LENGTH_BITS) - 1
_SUITE_SIZE: Final = 10  # Figure 11-22: capability (2) and cipher suite (8)


@dataclass(frozen=True, slots=True)
class Tlv:
    type: int
    value: bytes

    def cipher_suites(self) -> tuple[tuple[int, int], ...]:
        """Capability and number of each suite that is announced. MkpduError where it cannot be."""
        if self.type != AnnouncementType.CIPHER_SUITES or len(self.value) % _SUITE_SIZE:
            raise malformed(f"no list of cipher suites: TLV {self.type}")
        reader = Reader(self.value, "cipher suites TLV")
        found: list[tuple[int, int]] = []
        while reader.remaining:
            found.append((reader.u16() & 3, reader.u64()))
        return tuple(found)


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
