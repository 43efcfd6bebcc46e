"""The orders in which Cascade looks at a bit string: as it is, shuffled, or a random part of it.

Both ends derive the same order from a public seed. Nothing depends on the version of a library's
random generator: tables come from SHAKE-128.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qkd_adapters.postprocessing.wire import Bits, Numbers, pack

Prefix = NDArray[np.int32]
"""Element m is the number of ones before position m; its lowest bit is the prefix parity."""


class Order(Protocol):
    """``length`` positions; a position holds a bit of the string, or a zero that is never wrong."""

    @property
    def length(self) -> int: ...

    def prefix(self, bits: Bits) -> Prefix: ...

    def indices(self, positions: Numbers) -> Numbers:
        """Numbers of the bits at ``positions``."""

    def positions(self, indices: Numbers) -> Numbers:
        """Where the bits ``indices`` are, rising or not; bits that have no place are left out."""


class Natural:
    """As it is."""

    def __init__(self, count: int) -> None:
        self.length = count

    def prefix(self, bits: Bits) -> Prefix:
        return _prefix(bits)

    def indices(self, positions: Numbers) -> Numbers:
        return positions

    def positions(self, indices: Numbers) -> Numbers:
        return indices


class Shuffled:
    """A pseudo-random permutation that is cheap in both directions.

    The string is laid out in rows of a square grid and filled up with zeros; every column is
    turned by its own random amount, then every row, and the grid is read by columns. Two bits of
    different columns so get independent places; two of the same column, different columns.
    """

    def __init__(self, count: int, seed: bytes) -> None:
        self._count = count
        self._columns = 1 << max(1, math.isqrt(max(count - 1, 1)).bit_length())
        self._rows = max(1, -(-count // self._columns))
        self.length = self._rows * self._columns
        # The remainder of 64 random bits is as good as uniform (bias below 2^-40).
        down = _words(seed + b"columns", self._columns) % np.uint64(self._rows)
        across = _words(seed + b"rows", self._rows) % np.uint64(self._columns)
        self._down = down.astype(np.int32)
        self._across = across.astype(np.int32)

    def prefix(self, bits: Bits) -> Prefix:
        filled = np.zeros(self.length, dtype=np.uint8)
        filled[: self._count] = bits
        new_column = np.arange(self._columns, dtype=np.int32)[:, None]
        column = (new_column - self._across[None, :]) & np.int32(self._columns - 1)
        row = np.arange(self._rows, dtype=np.int32)[None, :] - self._down[column]
        row += np.int32(self._rows) * (row < 0)
        return _prefix(np.take(filled, (row * np.int32(self._columns) + column).ravel()))

    def indices(self, positions: Numbers) -> Numbers:
        new_column, new_row = np.divmod(positions, self._rows)
        column = (new_column - self._across[new_row]) % self._columns
        row = (new_row - self._down[column]) % self._rows
        return row * self._columns + column

    def positions(self, indices: Numbers) -> Numbers:
        row, column = np.divmod(indices, self._columns)
        new_row = (row + self._down[column]) % self._rows
        new_column = (column + self._across[new_row]) % self._columns
        return new_column * self._rows + new_row


class Subset:
    """As it is, but for a random half of the bits that count as zero."""

    def __init__(self, count: int, seed: bytes) -> None:
        self.length = count
        octets = hashlib.shake_128(seed + b"subset").digest((count + 7) // 8)
        self._packed = np.frombuffer(octets, dtype=np.uint8)

    def parity(self, packed: NDArray[np.uint8]) -> int:
        """Of all bits that count, of a packed string."""
        return int(np.bitwise_count(self._packed & packed).sum(dtype=np.int64)) & 1

    def prefix(self, bits: Bits) -> Prefix:
        return _prefix(bits & self._mask())

    def indices(self, positions: Numbers) -> Numbers:
        return positions

    def positions(self, indices: Numbers) -> Numbers:
        counts = self._packed[indices >> 3] >> (7 - (indices & 7)).astype(np.uint8) & 1
        counted: Numbers = indices[counts == 1]
        return counted

    def _mask(self) -> Bits:
        return np.unpackbits(self._packed, count=self.length)


def packed_string(bits: Bits) -> NDArray[np.uint8]:
    return np.frombuffer(pack(bits), dtype=np.uint8)


def _prefix(bits: Bits) -> Prefix:
    out = np.zeros(len(bits) + 1, dtype=np.int32)
    np.cumsum(bits, dtype=np.int32, out=out[1:])
    return out


def _words(seed: bytes, count: int) -> NDArray[Any]:
    return np.frombuffer(hashlib.shake_128(seed).digest(8 * count), dtype="<u8")
