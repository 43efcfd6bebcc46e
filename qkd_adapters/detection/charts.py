"""Control charts over all features of a link at once: CUSUM, EWMA, single blocks.

A chart sees z, a feature's distance from its reference in standard deviations. The CUSUM adds
up what exceeds the slack and is the quickest for a change that stays (Page 1954); its last
zero dates the change. The EWMA forgets and serves small changes and the eye. A latched feature
is one whose chart has tripped: from then on a likelihood ratio, summed the same way, says when
the change is over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qkd_adapters.detection.features import Vector

Mask = npt.NDArray[np.bool_]

SLACK = 0.5  # k: half of the smallest change meant to be found quickly, in sigma
CUSUM_LIMIT = 16.0  # h: average run length near 5e7 blocks a side (Siegmund 1985)
EWMA_WEIGHT = 0.1
EWMA_LIMIT = 5.5  # in the EWMA's own standard deviations
SINGLE_LIMIT = 6.5  # one block alone, in sigma; 8e-11 for a normal distribution
RELEASE = 12.0  # log likelihood ratio for "back" at which a latched feature is free (Wald 1945)
LARGEST_SHIFT = 4.0  # sigma; greater ones are released as if they had been this
HISTORY = 256  # blocks of z kept for asking how far a change goes back

# Limit of the EWMA's variance, as a share of the variance of z.
_EWMA_SIGMA = math.sqrt(EWMA_WEIGHT / (2 - EWMA_WEIGHT))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """A chart that has left its limits with this block."""

    feature: int
    sign: int  # +1 up, -1 down
    run: int  # blocks since the change began, this one included


class Charts:
    def __init__(self, size: int) -> None:
        self._up = np.zeros(size)
        self._down = np.zeros(size)
        self._run_up = np.zeros(size, dtype=np.int64)
        self._run_down = np.zeros(size, dtype=np.int64)
        self._mean = np.zeros(size)
        self._release = np.zeros(size)
        self._sign = np.zeros(size)  # of latched features; 0 is free
        self._shift = np.zeros(size)  # theirs, in sigma
        self._past = np.zeros((HISTORY, size))
        self._known = np.zeros((HISTORY, size), dtype=bool)
        self._blocks = 0

    @property
    def latched(self) -> Vector:
        """Per feature +1, -1, or 0 where the charts are quiet."""
        return self._sign

    @property
    def ewma(self) -> Vector:
        """In standard deviations of the EWMA."""
        return self._mean / _EWMA_SIGMA

    @property
    def cusum(self) -> Vector:
        """The larger of both sides, signed; ``CUSUM_LIMIT`` trips."""
        return np.where(self._up >= self._down, self._up, -self._down)

    def update(self, run_z: Vector, block_z: Vector) -> tuple[Trip, ...]:
        """One block. ``run_z`` is scaled for sums over blocks, ``block_z`` for one alone.

        NaN in ``run_z`` leaves a feature's charts as they are.
        """
        known = ~np.isnan(run_z)
        z = np.where(known, run_z, 0.0)
        slot = self._blocks % HISTORY
        self._past[slot], self._known[slot] = z, known
        self._blocks += 1
        free = known & (self._sign == 0)
        self._mean += np.where(free, EWMA_WEIGHT * (z - self._mean), 0.0)
        np.maximum(self._up + np.where(free, z - SLACK, 0.0), 0.0, out=self._up)
        np.maximum(self._down - np.where(free, z + SLACK, 0.0), 0.0, out=self._down)
        self._run_up = np.where(self._up > 0, self._run_up + 1, 0)
        self._run_down = np.where(self._down > 0, self._run_down + 1, 0)
        self._unlatch(z, known)
        single = np.where(free, block_z, 0.0)
        highest = max(
            float(self._up.max()) / CUSUM_LIMIT,
            float(self._down.max()) / CUSUM_LIMIT,
            float(np.abs(self._mean).max()) / (EWMA_LIMIT * _EWMA_SIGMA),
            float(np.abs(single).max()) / SINGLE_LIMIT,
        )
        return self._trips(single, free) if highest >= 1.0 else ()

    def _trips(self, single: Vector, free: Mask) -> tuple[Trip, ...]:
        trips = []
        for feature in np.flatnonzero(free):
            up, down = self._up[feature], self._down[feature]
            smooth = self._mean[feature] / _EWMA_SIGMA
            if max(up, down) >= CUSUM_LIMIT:
                sign = 1 if up >= down else -1
            elif abs(single[feature]) >= SINGLE_LIMIT:
                sign = 1 if single[feature] > 0 else -1
            elif abs(smooth) >= EWMA_LIMIT:
                sign = 1 if smooth > 0 else -1
            else:
                continue
            run = int((self._run_up if sign > 0 else self._run_down)[feature])
            trips.append(Trip(feature=int(feature), sign=sign, run=max(run, 1)))
        return tuple(trips)

    def evidence(self, blocks: int) -> Vector:
        """How far each feature has moved over the last ``blocks``: mean z by its own sigma."""
        blocks = min(blocks, self._blocks, HISTORY)
        rows = (self._blocks - 1 - np.arange(blocks)) % HISTORY
        counts = np.maximum(self._known[rows].sum(axis=0), 1)
        return np.asarray(self._past[rows].sum(axis=0) / np.sqrt(counts))

    def latch(self, feature: int, sign: int, shift: float) -> None:
        """Hold a feature for moved by ``shift`` sigma until it is back."""
        self._sign[feature] = sign
        self._shift[feature] = min(max(abs(shift), 2 * SLACK), LARGEST_SHIFT)
        for sums in (self._up, self._down, self._release, self._mean):
            sums[feature] = 0.0
        self._run_up[feature] = self._run_down[feature] = 0

    def _unlatch(self, z: Vector, known: Mask) -> None:
        held = known & (self._sign != 0)
        if not held.any():
            return
        # Of a normal distribution around zero against one around the shift.
        step = self._shift * (self._shift / 2 - self._sign * z)
        np.maximum(self._release + np.where(held, step, 0.0), 0.0, out=self._release)
        self._sign[self._release >= RELEASE] = 0.0
        self._release[self._sign == 0] = 0.0
