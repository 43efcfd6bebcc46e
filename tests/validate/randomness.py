"""Four of NIST SP 800-22's tests: enough to notice a key that is none, no proof."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint8]


def p_values(bits: Bits) -> dict[str, float]:
    return {
        "frequency": frequency(bits),
        "block frequency": block_frequency(bits, 1000),
        "runs": runs(bits),
        "serial": serial(bits, 5),
    }


def frequency(bits: Bits) -> float:
    """Section 2.1."""
    total = 2 * int(bits.sum()) - len(bits)
    return math.erfc(abs(total) / math.sqrt(2 * len(bits)))


def block_frequency(bits: Bits, size: int) -> float:
    """Section 2.2; chi-square with many degrees of freedom by Wilson and Hilferty."""
    blocks = len(bits) // size
    shares = bits[: blocks * size].reshape(blocks, size).mean(axis=1)
    return _chi_square(float(4 * size * ((shares - 0.5) ** 2).sum()), blocks)


def runs(bits: Bits) -> float:
    """Section 2.3."""
    n, share = len(bits), float(bits.mean())
    seen = int((bits[1:] != bits[:-1]).sum()) + 1
    spread = 2 * share * (1 - share)
    return math.erfc(abs(seen - n * spread) / (math.sqrt(2 * n) * spread))


def serial(bits: Bits, length: int) -> float:
    """Section 2.11, the first of its two values."""
    value = _psi(bits, length) - _psi(bits, length - 1)
    return _chi_square(value, 2 ** (length - 1))


def _psi(bits: Bits, length: int) -> float:
    around = np.concatenate((bits, bits[: length - 1])).astype(np.int64)
    words = sum(around[at : at + len(bits)] << at for at in range(length))
    counts = np.bincount(words, minlength=2**length).astype(float)
    return float(2**length / len(bits) * (counts**2).sum() - len(bits))


def _chi_square(value: float, degrees: int) -> float:
    """Upper tail, Wilson-Hilferty approximation (good to a few per cent of p for our degrees)."""
    spread = 2 / (9 * degrees)
    z = ((value / degrees) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return math.erfc(z / math.sqrt(2)) / 2
