"""Privacy amplification: (identity | random Toeplitz matrix) over GF(2) times the bits, exactly.

n bits become l: the first l are added to the Toeplitz matrix times the other n - l. Row i of that
matrix is ``seed[i + n - l - 1 - j]`` for bit j, so that the product is part of a convolution. It is
computed over the integers with floating-point transforms of pieces and taken modulo 2. The pieces
are small enough that rounding errors stay many orders below 1/2, and every result is checked to
lie within 1/4 of an integer.

The family is universal_2: strings that differ behind the first l collide with probability 2^-l over
the seed (Krawczyk, CRYPTO '94), others never. So the leftover hash lemma applies without loss, and
the seed is l bits shorter than that of a full Toeplitz matrix (Hayashi, IEEE Trans. Inf. Theory 57,
3989).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qkd_adapters.postprocessing.errors import PostprocessingError
from qkd_adapters.postprocessing.wire import Bits

MARGIN = 0.25
_SMALLEST, _LARGEST = 1 << 10, 1 << 18  # bits in a piece: transforms that fit the cache
_PIECES = 8


def seed_bits(count: int) -> int:
    """Random bits needed to hash ``count`` bits, to whatever length."""
    return count - 1


def hash_key(bits: Bits, seed: Bits, length: int) -> Bits:
    """``length`` bits. ``seed``: ``seed_bits(len(bits))`` of them, public, fresh."""
    if not 0 < length <= len(bits) or len(seed) != seed_bits(len(bits)):
        raise ValueError(f"no hash of {len(bits)} bits to {length}, seed of {len(seed)}")
    first, rest = bits[:length], bits[length:]
    return first ^ _product(rest, seed, length) if len(rest) else first.copy()


def _product(bits: Bits, seed: Bits, length: int) -> Bits:
    count = len(bits)
    piece = _piece(count)
    columns, rows = -(-count // piece), -(-length // piece)
    spectra = _spectra(bits, piece, columns)
    sums = np.zeros((rows, piece + 1), dtype=np.complex128)
    term = np.empty(piece + 1, dtype=np.complex128)
    # One stretch of seed serves every pair of pieces whose distance is the same.
    for distance in range(1 - columns, rows):
        stretch = np.fft.rfft(_stretch(seed, (distance - 1) * piece + count, 2 * piece))
        for row in range(max(0, distance), min(rows, columns + distance)):
            np.multiply(stretch, spectra[row - distance], out=term)
            sums[row] += term
    product = np.fft.irfft(sums, n=2 * piece, axis=1)[:, piece - 1 : 2 * piece - 1]
    out = _round(product).ravel()[:length]
    for secret in (spectra, sums, term, product):
        secret[...] = 0
    return out


def _piece(count: int) -> int:
    piece = _SMALLEST
    while piece < _LARGEST and piece * _PIECES < count:
        piece *= 2
    return piece


def _spectra(bits: Bits, piece: int, columns: int) -> NDArray[np.complex128]:
    filled = np.zeros((columns, 2 * piece))
    for column in range(columns):
        part = bits[column * piece : (column + 1) * piece]
        filled[column, : len(part)] = part
    spectra = np.fft.rfft(filled, axis=1)
    filled[...] = 0
    return spectra


def _stretch(seed: Bits, start: int, count: int) -> NDArray[np.float64]:
    """``seed[start : start + count]`` with zeros where there is none."""
    out = np.zeros(count)
    first, last = max(0, start), min(len(seed), start + count)
    if first < last:
        out[first - start : last - start] = seed[first:last]
    return out


def _round(product: NDArray[np.float64]) -> Bits:
    whole = np.rint(product)
    margin = float(np.abs(product - whole).max(initial=0.0))
    if margin >= MARGIN:
        raise PostprocessingError(f"rounding error {margin:.2g} in privacy amplification")
    return whole.astype(np.int32).astype(np.uint8) & np.uint8(1)
