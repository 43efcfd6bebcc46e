"""What can become of one pulse, as a table of probabilities: the form all protocols share.

A pulse is of one *cell* (what the two ends chose) and has one *outcome* of that cell, or none:
most pulses are never detected. Cell and outcome together are a *code*, one octet. A codebook
says what each end sees of a code, and, for telemetry and tests, what is true of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkd_adapters.optics.conditions import Conditions
from qkd_adapters.optics.model import LinkModel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Octets = NDArray[np.uint8]

ARRIVAL_LIMIT = 32_767  # ps, of the record's 16-bit column
_QUANTILES = 4096
_GRID = 257


@dataclass(frozen=True, kw_only=True)
class Codebook:
    """Tables over codes. ``alice`` and ``bob``: the columns of their records.

    ``level`` and ``sifted`` (0 no, 1 Z, 2 X) and ``error`` are the truth about a code.
    """

    outcomes: int  # per cell
    alice: Mapping[str, Octets]
    bob: Mapping[str, Octets]
    level: Octets
    sifted: Octets
    error: Octets
    double: Octets
    detectors: Octets  # (codes, 4): which of Z0 Z1 X0 X1 clicked at Bob
    alice_detectors: Octets | None = None  # where Alice receives too


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """When detections arrive: photons in one or two humps over a floor of noise, in ps."""

    centre: float
    split: float  # half the distance of two humps; 0 for one
    jitter: float
    gate: float  # full width
    noise: float  # share of detections spread evenly over the gate

    @property
    def half(self) -> float:
        return min(self.gate / 2.0, float(ARRIVAL_LIMIT))

    def table(self) -> NDArray[np.int16]:
        """Equally likely arrival times, ``_QUANTILES`` of them."""
        grid, light = _light(self.centre, self.split, self.jitter, self.half)
        even = (grid + self.half) / (2.0 * self.half)
        mixed = even * self.noise + light * (1.0 - self.noise)
        middles = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
        return np.round(np.interp(middles, mixed, grid)).astype(np.int16)

    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation."""
        mean, variance = _light_moments(self.centre, self.split, self.jitter, self.half)
        share = 1.0 - self.noise
        second = share * (variance + mean**2) + self.noise * self.half**2 / 3.0
        return share * mean, math.sqrt(second - (share * mean) ** 2)


@lru_cache(maxsize=64)
def _light(centre: float, split: float, jitter: float, half: float) -> tuple[Floats, Floats]:
    """Distribution of the photons that arrive inside the gate, over a grid of times."""
    grid = np.linspace(-half, half, _GRID)
    scale = max(jitter, 1e-3) * math.sqrt(2.0)
    light = np.zeros(_GRID)
    for hump in (centre - split, centre + split):
        light += [math.erf((x - hump) / scale) for x in grid]
    light -= light[0]
    if light[-1] < 1e-9:  # nothing of it lies in the gate
        return grid, (grid + half) / (2.0 * half)
    return grid, light / light[-1]


@lru_cache(maxsize=64)
def _light_moments(centre: float, split: float, jitter: float, half: float) -> tuple[float, float]:
    """Mean and variance of the photons inside the gate."""
    grid, light = _light(centre, split, jitter, half)
    middles, weights = (grid[1:] + grid[:-1]) / 2.0, np.diff(light)
    mean = float(middles @ weights)
    return mean, float((middles - mean) ** 2 @ weights)


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Everything the sampler needs: shares of cells, outcomes per cell, codebook, arrival."""

    shares: Floats  # (cells,)
    outcomes: Floats  # (cells, outcomes)
    codebook: Codebook
    arrival: Arrival
    levels: int = 1
    cell_level: Octets  # (cells,) intensity at Alice
    cell_basis: Octets  # (cells,) basis at Alice
    alice_sends: bool = True
    cell_level_bob: Octets | None = None  # where Bob sends as well


def arrival_of(model: LinkModel, conditions: Conditions, noise: float) -> Arrival:
    """``noise``: the share of clicks that no photon of the sender made."""
    gate = model.detector.gate_ps
    if conditions.sync_lost:
        gate, noise = 2.0 * ARRIVAL_LIMIT, 1.0
    return Arrival(
        centre=conditions.arrival_shift_ps + conditions.sync_offset_ps,
        split=conditions.arrival_split_ps,
        jitter=model.detector.jitter_ps,
        gate=gate,
        noise=min(max(noise, 0.0), 1.0),
    )


def code_axes(*sizes: int) -> list[Any]:
    """Coordinates of all codes along axes of ``sizes``, the last running fastest."""
    grids = np.meshgrid(*(np.arange(size, dtype=np.uint8) for size in sizes), indexing="ij")
    return [grid.ravel() for grid in grids]


_NONE = np.zeros(0, dtype=np.uint8)
NO_CELLS = Cells(
    shares=np.zeros(0),
    outcomes=np.zeros((0, 0)),
    codebook=Codebook(
        outcomes=0,
        alice={},
        bob={},
        level=_NONE,
        sifted=_NONE,
        error=_NONE,
        double=_NONE,
        detectors=np.zeros((0, 4), dtype=np.uint8),
    ),
    arrival=Arrival(centre=0.0, split=0.0, jitter=1.0, gate=1.0, noise=0.0),
    levels=0,
    cell_level=_NONE,
    cell_basis=_NONE,
)
"""Where nothing is counted: CV measures every symbol."""
