"""Syndromes of sparse codes, and finding a string from its syndrome and a soft guess (one way).

Quasi-cyclic codes with three ones per column: the parity-check matrix is made of circulants of
size ``count // COLUMNS`` at places and shifts that SHAKE-128 draws, so that any number of bits and
any length of syndrome has its code and both ends know it. Decoded by belief propagation.

Used where the corrector must say nothing about its own bits (CV-QKD: what it says counts as leak,
too), which rules out Cascade's questions.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkd_adapters.postprocessing.wire import Bits

COLUMNS = 64  # of circulants: a syndrome's length is a multiple of 1/64 of the string's
WEIGHT = 3
MAX_ITERATIONS = 120
_LARGEST = np.float32(25.0)  # log-likelihood beyond which nothing changes

Floats = NDArray[np.float32]


class _Code:
    """``neighbours``: bits of each check, filled up with a bit number that is none.

    ``edges``: where in ``neighbours`` each bit is.
    """

    def __init__(self, rows: int, size: int) -> None:
        count, checks = COLUMNS * size, rows * size
        check = np.empty((count, WEIGHT), dtype=np.int64)
        within = np.arange(size)
        for column, places in enumerate(_places(rows)):
            shifts = _words(b"shift", rows, column, WEIGHT) % np.uint64(size)
            for slot, (row, shift) in enumerate(zip(places, shifts.astype(np.int64), strict=True)):
                check[column * size + within, slot] = row * size + (within + shift) % size
        flat = check.ravel()
        order = np.argsort(flat, kind="stable")
        degrees = np.bincount(flat, minlength=checks)
        width = int(degrees.max())
        starts = np.concatenate(([0], np.cumsum(degrees)[:-1]))
        slot_of = np.arange(len(flat)) - starts[flat[order]]
        place = flat[order] * width + slot_of
        neighbours = np.full(checks * width, count, dtype=np.int32)
        neighbours[place] = order // WEIGHT
        edges = np.empty(len(flat), dtype=np.int32)
        edges[order] = place
        self.count = count
        self.neighbours = neighbours.reshape(checks, width)
        self.edges = edges.reshape(count, WEIGHT)

    def syndrome(self, bits: Bits) -> Bits:
        filled = np.append(bits, np.uint8(0))
        found: Bits = np.bitwise_xor.reduce(filled[self.neighbours], axis=1)
        return found


def length(count: int) -> int:
    """How many of ``count`` bits a code can take: the rest is to be left out."""
    return count - count % COLUMNS


def syndrome(bits: Bits, rows: int) -> Bits:
    """``rows / COLUMNS`` as many bits. ``bits``: a multiple of COLUMNS of them; 3 <= ``rows``."""
    return _code(rows, len(bits) // COLUMNS).syndrome(bits)


def decode(likelihood: Floats, wanted: Bits) -> Bits | None:
    """The string with that syndrome; None where belief propagation finds none.

    ``likelihood``: ln P(0) / P(1) per bit.
    """
    code = _code(len(wanted) * COLUMNS // len(likelihood), len(likelihood) // COLUMNS)
    prior = np.clip(likelihood, -_LARGEST, _LARGEST).astype(np.float32)
    sign = (1 - 2 * wanted.astype(np.float32))[:, None]
    messages = np.zeros(code.neighbours.shape, dtype=np.float32)
    total = np.empty(code.count + 1, dtype=np.float32)
    total[-1] = np.inf  # the bit that is none: surely zero
    for _ in range(MAX_ITERATIONS):
        total[:-1] = prior + messages.ravel()[code.edges].sum(axis=1)
        hard = (total[:-1] < 0).astype(np.uint8)
        if np.array_equal(code.syndrome(hard), wanted):
            return hard
        messages = _checks(total[code.neighbours] - messages, sign)
    return None


def _checks(incoming: Floats, sign: Floats) -> Floats:
    """Sum-product rule: tanh(out / 2) = product of tanh(in / 2) over the other bits."""
    half = np.tanh(np.clip(incoming, -_LARGEST, _LARGEST) * np.float32(0.5))
    half = np.where(np.abs(half) < np.float32(1e-7), np.float32(1e-7), half)
    logs = np.log(np.abs(half))
    others = np.exp(np.minimum(logs.sum(axis=1, keepdims=True) - logs, np.float32(-1e-7)))
    negative = np.signbit(half)
    parity = 1 - 2 * (negative.sum(axis=1, keepdims=True) & 1).astype(np.float32)
    signs = parity * np.where(negative, np.float32(-1), np.float32(1)) * sign
    out: Floats = (signs * 2 * np.arctanh(others)).astype(np.float32)
    return out


@lru_cache(maxsize=8)
def _code(rows: int, size: int) -> _Code:
    if not WEIGHT <= rows <= COLUMNS or size < 1:
        raise ValueError(f"no code with {rows} of {COLUMNS} rows of circulants of {size}")
    return _Code(rows, size)


def _places(rows: int) -> list[list[int]]:
    """Rows of the circulants of every column: all different, every row equally often."""
    ranks = np.argsort(_words(b"place", rows, 0, COLUMNS * WEIGHT), kind="stable")
    drawn = (ranks % rows).reshape(COLUMNS, WEIGHT)
    places = []
    for some in drawn.tolist():
        column: list[int] = []
        for row in some:
            free = row
            while free in column:
                free = (free + 1) % rows
            column.append(free)
        places.append(column)
    return places


def _words(label: bytes, rows: int, column: int, count: int) -> NDArray[Any]:
    seed = b"qsgw ldpc\x00" + label + bytes((rows, column))
    return np.frombuffer(hashlib.shake_128(seed).digest(8 * count), dtype="<u8")
