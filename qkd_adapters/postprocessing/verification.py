"""Do both ends hold the same bits? A 64-bit universal hash says so, or that they do not.

The bits, 15 octets at a time, are the coefficients of a polynomial over GF(2^127 - 1) that is
evaluated at a random point; a random affine map and truncation to 64 bits follow. Two different
strings of n bits have the same hash with probability at most (n / 120 + 1) / 2^127 + 2^-64 (1 +
2^-62), less than 2^-63 for every block we allow. Seed and hash are public and chosen after the
bits are fixed; the 64 bits of the hash count as leaked and are not padded, for that pays once.
"""

from __future__ import annotations

from qkd_adapters.postprocessing.wire import Bits, pack

PRIME = 2**127 - 1
SEED_OCTETS = 48
HASH_BITS = 64
EPSILON = 2.0**-63  # what a caller may rely on
_PIECE = 15  # octets: below the prime


def digest(bits: Bits, seed: bytes) -> bytes:
    """8 octets. ``seed``: ``SEED_OCTETS`` random ones."""
    if len(seed) != SEED_OCTETS:
        raise ValueError(f"a seed has {SEED_OCTETS} octets")
    point, factor, shift = (int.from_bytes(seed[at : at + 16], "big") % PRIME for at in (0, 16, 32))
    value = _polynomial(pack(bits) + len(bits).to_bytes(8, "big"), point)
    short: int = (factor * value + shift) % PRIME % 2**HASH_BITS
    return short.to_bytes(HASH_BITS // 8, "big")


def _polynomial(data: bytes, point: int) -> int:
    value = 1
    for at in range(0, len(data), _PIECE):
        value = (value * point + int.from_bytes(data[at : at + _PIECE], "big")) % PRIME
    return value
