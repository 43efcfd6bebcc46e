"""Privacy amplification: a random Toeplitz matrix over GF(2) times the corrected bits, exactly.

Row i of the matrix is ``seed[i + n - 1 - j]`` for bit j, so that the product is a part of the
convolution of seed and bits. It is computed over the integers with floating-point transforms of
pieces and taken modulo 2. The pieces are small enough that rounding errors stay many orders below
1/2, and every result is checked to lie within 1/4 of an integer.

A Toeplitz matrix with uniformly random seed is a universal_2 family: the leftover hash lemma
applies with no loss (Krawczyk, CRYPTO '94).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qkd_adapters.postprocessing.errors import PostprocessingError
from qkd_adapters.postprocessing.wire import Bits

MARGIN = 0.25
_SMALLEST, _LARGEST = 1 << 10, 1 << 18  # bits in a piece: transforms that fit the cache
_PIECES = 16


def seed_bits(count: int, length: int) -> int:
    """Random bits needed to hash ``count`` bits to ``length``."""
    return count + length - 1


def hash_key(bits: Bits, seed: Bits, length: int) -> Bits:
    """``length`` bits. ``seed``: ``seed_bits(len(bits), length)`` of them, public, fresh."""
    count = len(bits)
    if not 0 < length <= count or len(seed) != seed_bits(count, length):
        raise ValueError(f"cannot hash {count} bits to {length} with a seed of {len(seed)}")
    piece = _piece(count)
    columns, rows = -(-count // piece), -(-length // piece)
    spectra = _spectra(bits, piece, columns)
    sums = np.zeros((rows, piece + 1), dtype=np.complex128)
    # One stretch of seed serves every pair of pieces whose distance is the same.
    for distance in range(1 - columns, rows):
        stretch = np.fft.rfft(_stretch(seed, (distance - 1) * piece + count, 2 * piece))
        for row in range(max(0, distance), min(rows, columns + distance)):
            sums[row] += stretch * spectra[row - distance]
    product = np.fft.irfft(sums, n=2 * piece, axis=1)[:, piece - 1 : 2 * piece - 1]
    out = _round(product).ravel()[:length]
    for secret in (spectra, sums, product):
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
    return (whole.astype(np.int64) & 1).astype(np.uint8)
