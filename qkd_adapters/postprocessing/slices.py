"""Gaussian values cut into bits, and what the other end's value says about them.

Sliced error correction (Van Assche, Cardinal, Cerf, IEEE Trans. Inf. Theory 50, 394): a value is
normalised, the axis cut into 2^m intervals of equal width, and the bits of the interval's number,
lowest first, are the slices. Each is guessed from the other end's value and the slices before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkd_adapters.postprocessing.wire import Bits

_RANGE = 3.2  # standard deviations to either side that the inner borders span
_TINY = 1e-12
_POINTS = 60  # of the quadrature over the other end's value

Reals = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slicer:
    """``slope``, ``noise``: y = slope x + z with Var z = noise; ``spread``: variance of y."""

    count: int  # of slices
    slope: float
    noise: float
    spread: float

    def cut(self, values: Reals) -> list[Bits]:
        """Slices of the values, lowest first."""
        number = np.searchsorted(self._borders(), values / math.sqrt(self.spread))
        return [((number >> place) & 1).astype(np.uint8) for place in range(self.count)]

    def likelihood(self, sent: Reals, done: Sequence[Bits]) -> NDArray[np.float32]:
        """ln P(0) / P(1) of the next slice, given the sent values and the slices before."""
        zero, one = self._split(self._intervals(sent), done)
        return np.log((zero + _TINY) / (one + _TINY)).astype(np.float32)

    def uncertainties(self) -> list[float]:
        """Entropy of each slice given the sent value and the slices before, bits per value.

        For a Gaussian sent value; both ends compute the same from public numbers.
        """
        nodes, weights = np.polynomial.hermite_e.hermegauss(_POINTS)
        variance = max(self.spread - self.noise, 0.0)
        scaled = nodes * math.sqrt(variance) / self.slope if self.slope > 0 else nodes
        table = self._intervals(scaled)
        weights /= weights.sum()
        entropies = [
            float(weights @ _entropy(_group(table, place))) for place in range(self.count + 1)
        ]
        return [b - a for a, b in pairwise(entropies)]

    def _borders(self) -> Reals:
        return np.linspace(-_RANGE, _RANGE, 2**self.count - 1)

    def _intervals(self, sent: Reals) -> Reals:
        """Probability of every interval (columns) for every sent value (rows)."""
        scale = math.sqrt(self.noise)
        borders = self._borders() * math.sqrt(self.spread)
        below = _normal((borders[None, :] - self.slope * sent[:, None]) / scale)
        filled = np.concatenate((np.zeros((len(sent), 1)), below, np.ones((len(sent), 1))), axis=1)
        return np.diff(filled, axis=1)

    def _split(self, table: Reals, done: Sequence[Bits]) -> tuple[Reals, Reals]:
        """Probabilities of the next slice's 0 and 1, together with the slices that are known."""
        known = np.zeros(len(table), dtype=np.int64)
        for place, bits in enumerate(done):
            known |= bits.astype(np.int64) << place
        grouped = _group(table, len(done) + 1)
        rows = np.arange(len(table))
        return grouped[rows, known], grouped[rows, known | (1 << len(done))]


def entropy_of(parts: Sequence[Bits]) -> float:
    """Empirical entropy of sliced values, bits per value."""
    number = np.zeros(len(parts[0]), dtype=np.int64)
    for place, bits in enumerate(parts):
        number |= bits.astype(np.int64) << place
    shares = np.bincount(number) / max(1, len(number))
    return float(_entropy(shares[None, :])[0])


def _group(table: Reals, places: int) -> Reals:
    """Probabilities of the lowest ``places`` bits of an interval's number."""
    grouped: Reals = table.reshape(len(table), -1, 2**places).sum(axis=1)
    return grouped


def _entropy(table: Reals) -> Reals:
    total: Reals = -(table * np.log2(np.maximum(table, 1e-300))).sum(axis=1)
    return total


def _normal(x: Reals) -> Reals:
    """Distribution function of the normal law, to 1e-7 (Abramowitz and Stegun 26.2.17)."""
    t = 1 / (1 + 0.2316419 * np.abs(x))
    series: Any = 0.0
    for factor in (1.330274429, -1.821255978, 1.781477937, -0.356563782, 0.319381530):
        series = (series + factor) * t
    tail = np.exp(-x * x / 2) / math.sqrt(2 * math.pi) * series
    below: Reals = np.where(x > 0, 1 - tail, tail)
    return below
