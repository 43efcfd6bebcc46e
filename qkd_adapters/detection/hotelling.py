"""Hotelling's T2: all features at once, so that a joint move shows before any one of them does.

The covariance of z is learned from good blocks only and shrunk towards uncorrelated features
(Ledoit and Wolf 2004, with a fixed weight: the matrix is small and the blocks are many).
"""

from __future__ import annotations

import math

import numpy as np

from qkd_adapters.detection.features import Vector

SHRINKAGE = 0.2
MEMORY = 1000  # blocks of which the covariance is a running mean
REFRESH = 64  # blocks between two inversions
NORMAL_QUANTILE = 6.0  # the limit's tail probability as a normal deviate: 1e-9


class Hotelling:
    def __init__(self, size: int) -> None:
        self._size = size
        self._covariance: Vector = np.eye(size)
        self._inverse: Vector = np.eye(size)
        self._since = 0
        # Chi-square quantile (Wilson and Hilferty 1931).
        third = 2 / (9 * size)
        self.limit = size * (1 - third + NORMAL_QUANTILE * math.sqrt(third)) ** 3

    def score(self, z: Vector) -> tuple[float, Vector]:
        """T2 and each feature's share of it."""
        shares = z * (self._inverse @ z)
        return float(shares.sum()), shares

    def learn(self, z: Vector) -> None:
        """A block known to be good. One that is far off is not learned from at full weight."""
        clean = np.clip(z, -4.0, 4.0)
        self._covariance += (np.outer(clean, clean) - self._covariance) / MEMORY
        self._since += 1
        if self._since >= REFRESH:
            self._since = 0
            shrunk = (1 - SHRINKAGE) * self._covariance
            # A z is never taken for less scattered than its baseline says it may be.
            np.fill_diagonal(shrunk, np.maximum(np.diag(self._covariance), 1.0))
            self._inverse = np.asarray(np.linalg.inv(shrunk), dtype=np.float64)
