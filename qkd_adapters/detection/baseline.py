"""What a healthy link looks like: the calibration record, and a reference that follows slowly.

The record gives every feature its mean and the noise the link itself adds to that of the
counts: from block to block, and over runs of blocks, where slow disturbances weigh more. The
reference follows the day and the season, but never further from the record than the feature's
tolerance, and not while an alarm stands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qkd_adapters.detection.charts import CUSUM_LIMIT, SINGLE_LIMIT, SLACK
from qkd_adapters.detection.errors import BaselineError
from qkd_adapters.detection.features import (
    MIN_COUNT,
    TOLERANCES,
    Group,
    Layout,
    Receiver,
    Vector,
    knows_dark,
    measure,
)
from qkd_adapters.detection.telemetry import BlockTelemetry, Protocol

FORMAT = 1
MIN_BLOCKS = 40  # fewer do not tell a link's own noise from chance
BIN = 16  # blocks whose mean is one entry of the reference
BINS = 32  # entries of which it is the median
CHANCE = 4.8  # sigma beyond which a calibration block shows that the noise is not normal
FAR = 0.4  # of the single block's limit, where the farthest calibration block is then put
CHANCE_RUN, FAR_RUN = 0.6, 0.4  # the same for the CUSUM, in shares of its limit
SLOW = 3.0  # floor of a run over that of a block: what wanders does so for long
LOSS = "loss"
MOVED_BY_WEATHER = frozenset({Group.QBER, Group.SPLIT, Group.DOUBLES, Group.EXCESS_NOISE})
TOGETHER = 0.5  # correlation with the loss from which on a feature is expected to follow it


@dataclass(frozen=True, slots=True, kw_only=True)
class Normal:
    """One feature's record, in its own unit. Sigmas are without the counts' own noise."""

    mean: float
    block_sigma: float  # of one block
    run_sigma: float  # of a sum of n blocks, divided by sqrt(n)
    drift: float  # how far the reference may go from the mean
    slope: float = 0.0  # change per dB of loss, where weather moves both


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    protocol: Protocol
    blocks: int  # calibrated with
    receiver: Receiver
    gain: float  # signal clicks per pulse; CV: transmittance
    features: Mapping[str, Normal]

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for a calibration file."""
        return {
            "format": FORMAT,
            "protocol": self.protocol.value,
            "blocks": self.blocks,
            "dark_yield": self.receiver.dark_yield,
            "gate": self.receiver.gate,
            "gain": self.gain,
            "features": {
                name: {
                    "mean": normal.mean,
                    "block_sigma": normal.block_sigma,
                    "run_sigma": normal.run_sigma,
                    "drift": normal.drift,
                    "slope": normal.slope,
                }
                for name, normal in self.features.items()
            },
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Baseline:
        """Raises BaselineError."""
        try:
            if data["format"] != FORMAT:
                raise BaselineError(f"calibration of format {data['format']!r}, not {FORMAT}")
            baseline = cls(
                protocol=Protocol(data["protocol"]),
                blocks=int(data["blocks"]),
                receiver=Receiver(
                    dark_yield=_number(data["dark_yield"]), gate=_number(data["gate"])
                ),
                gain=_number(data["gain"]),
                features={
                    str(name): Normal(
                        mean=_number(entry["mean"]),
                        block_sigma=_positive(entry["block_sigma"]),
                        run_sigma=_positive(entry["run_sigma"]),
                        drift=_number(entry["drift"]),
                        slope=_number(entry["slope"]),
                    )
                    for name, entry in data["features"].items()
                },
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BaselineError(f"calibration is damaged: {error!r}") from error
        if not baseline.features:
            raise BaselineError("calibration without features")
        return baseline


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def _positive(value: Any) -> float:
    number = _number(value)
    if number <= 0:
        raise ValueError("a standard deviation is positive")
    return number


def calibrate(blocks: Sequence[BlockTelemetry], receiver: Receiver | None = None) -> Baseline:
    """The record of a link known to be healthy. Raises BaselineError.

    Without ``receiver`` its dark yield is taken from the weakest intensities, if there are two.

    What the calibration contains is what the detection takes for normal: a link with wind in
    it needs a calibration with wind in it.
    """
    if len(blocks) < MIN_BLOCKS:
        raise BaselineError(f"{len(blocks)} calibration blocks, at least {MIN_BLOCKS} needed")
    if len({(block.protocol, tuple(level.name for level in block.levels)) for block in blocks}) > 1:
        raise BaselineError("calibration blocks are of different links")
    receiver = receiver or Receiver()
    if not receiver.dark_yield and knows_dark(blocks[0].protocol):
        receiver = replace(receiver, dark_yield=_dark_yield(blocks))
    measured = [measure(block, receiver) for block in blocks]
    layout = measured[0][0]
    values = np.array([sample.values for _, sample in measured])
    variances = np.array([sample.variances for _, sample in measured])
    features = {
        name: _normal(layout, index, values, variances) for index, name in enumerate(layout.names)
    }
    return Baseline(
        protocol=blocks[0].protocol,
        blocks=len(blocks),
        receiver=receiver,
        gain=_gain(blocks),
        features=features,
    )


def _gain(blocks: Sequence[BlockTelemetry]) -> float:
    if blocks[0].protocol is Protocol.CV:
        return float(np.mean([block.transmittance or 0.0 for block in blocks]))
    sent = sum(block.levels[0].sent for block in blocks)
    clicks = sum(block.levels[0].clicks for block in blocks)
    if not clicks:
        raise BaselineError("no clicks in the calibration")
    return clicks / sent


def _dark_yield(blocks: Sequence[BlockTelemetry]) -> float:
    """From the two weakest intensities; unknown (0) where there is but one.

    -ln(1 - Q) is linear in the intensity, with the dark yield where it crosses zero.
    """
    levels = blocks[0].levels
    totals = sorted(
        (
            level.mean_photons,
            sum(block.levels[i].sent for block in blocks),
            sum(block.levels[i].clicks for block in blocks),
            sum(block.levels[i].errors_z + block.levels[i].errors_x for block in blocks),
            sum(block.levels[i].tested_z + block.levels[i].tested_x for block in blocks),
        )
        for i, level in enumerate(levels)
    )
    if len(totals) < 2 or any(not sent for _, sent, *_ in totals):
        return 0.0
    (low, low_sent, low_clicks, errors, tested), (high, high_sent, high_clicks, *_) = totals[:2]
    low_log = -math.log1p(-low_clicks / low_sent)
    high_log = -math.log1p(-high_clicks / high_sent)
    crossing = (low_log * high - high_log * low) / (high - low)
    # Half of the dark clicks are errors: there cannot be more of them than twice the errors.
    most = 2 * errors / tested * low_clicks / low_sent if tested >= MIN_COUNT else crossing
    return max(min(crossing, most), 0.0)


def _normal(layout: Layout, index: int, values: Vector, variances: Vector) -> Normal:
    """One feature's record; columns of ``values`` and ``variances`` are features."""
    tolerance = TOLERANCES[layout.groups[index]]
    slope = _slope(layout, index, values, variances)
    own, shot = values[:, index], variances[:, index]
    known = ~np.isnan(own)
    if known.sum() < MIN_BLOCKS:
        # The link rarely has this feature: it is recorded as never to be judged.
        return Normal(mean=0.0, block_sigma=1e9, run_sigma=1e9, drift=0.0)
    if slope:
        loss = values[:, layout.names.index(LOSS)]
        own = own - slope * (loss - np.nanmedian(loss))
        known = ~np.isnan(own)
    mean = float(np.median(own[known]))  # gusts go one way only
    floor = max(tolerance.floor, abs(mean) * tolerance.relative_floor)
    away = own - mean
    rest = _straightened(away[known])
    variances = shot[known]
    noise = float(variances.mean())
    block_sigma = math.sqrt(max(float(rest.var()) - noise, floor**2))
    length = min(max(len(rest) // 20, 2), 128)
    batches = rest[: len(rest) // length * length].reshape(-1, length).mean(axis=1)
    run_variance = float(batches.var(ddof=1)) * length
    run_sigma = math.sqrt(max(run_variance - noise, block_sigma**2, (SLOW * floor) ** 2))
    wide = _inside(rest, variances, block_sigma)
    return Normal(
        mean=mean,
        block_sigma=wide,
        run_sigma=_quiet(rest, variances, run_sigma * wide / block_sigma),
        drift=max(tolerance.drift, abs(mean) * tolerance.relative_drift),
        slope=slope,
    )


def _slope(layout: Layout, index: int, values: Vector, variances: Vector) -> float:
    """Regression on the loss, where the calibration shows the two to move together."""
    if LOSS not in layout.names or layout.groups[index] not in MOVED_BY_WEATHER:
        return 0.0
    loss = values[:, layout.names.index(LOSS)]
    known = ~(np.isnan(loss) | np.isnan(values[:, index]))
    if known.sum() < MIN_BLOCKS:
        return 0.0
    x, y = _straightened(loss[known]), _straightened(values[known, index])
    noise = float(variances[known, layout.names.index(LOSS)].mean())
    spread = float(x.var()) - noise  # of the loss itself
    if spread <= max(noise, 1e-6) or float(np.corrcoef(x, y)[0, 1]) < TOGETHER:
        return 0.0
    return float((x * y).mean()) / spread


def _straightened(values: Vector) -> Vector:
    """Without the straight line through them: the reference takes slow trends out later."""
    steps = np.arange(len(values))
    return np.asarray(values - np.polyval(np.polyfit(steps, values, 1), steps))


def _inside(rest: Vector, variances: Vector, block_sigma: float) -> float:
    """The sigma with which no block comes near the limit of a single one.

    Gusts are not normal: where the calibration has blocks further off than chance puts them,
    worse ones than those are to be expected later.
    """
    noise = float(variances.mean())
    largest = float(np.max(np.abs(rest)))
    if largest <= CHANCE * math.hypot(block_sigma, math.sqrt(noise)):
        return block_sigma
    return math.sqrt(max(block_sigma**2, (largest / (FAR * SINGLE_LIMIT)) ** 2 - noise))


def _quiet(rest: Vector, variances: Vector, run_sigma: float) -> float:
    """The sigma with which the CUSUM of the calibration stays well below its limit."""
    allowed = CHANCE_RUN * CUSUM_LIMIT
    for _ in range(60):
        z = rest / np.sqrt(variances + run_sigma**2)
        if max(_highest(z), _highest(-z)) <= allowed:
            break
        allowed = FAR_RUN * CUSUM_LIMIT
        run_sigma = max(run_sigma, math.sqrt(float(variances.mean())) / 4) * 1.1
    return run_sigma


def _highest(z: Vector) -> float:
    """The highest CUSUM over ``z``: the greatest rise of its running sum."""
    sums = np.concatenate(([0.0], np.cumsum(z - SLACK)))
    return float(np.max(sums - np.minimum.accumulate(sums)))


class Reference:
    """The slow reference of every feature: median of the last bins, within the tolerances."""

    def __init__(self, baseline: Baseline) -> None:
        normals = baseline.features.values()
        self._record = np.array([normal.mean for normal in normals])
        self._drift = np.array([normal.drift for normal in normals])
        self._bins = np.tile(self._record, (BINS, 1))
        self._next = 0
        self._sum = np.zeros_like(self._record)
        self._count = np.zeros_like(self._record)
        self._blocks = 0
        self._wander = np.zeros_like(self._record)
        self.values = self._record.copy()

    @property
    def wander(self) -> Vector:
        """How far the link has gone from the record, in shares of what it may."""
        return self._wander

    def follow(self, values: Vector) -> None:
        """One good block."""
        known = ~np.isnan(values)
        self._sum += np.where(known, values, 0.0)
        self._count += known
        self._blocks += 1
        if self._blocks < BIN:
            return
        filled = self._count > 0
        mean = np.where(filled, self._sum / np.maximum(self._count, 1.0), self.values)
        self._bins[self._next % BINS] = mean
        self._next += 1
        self._sum[:], self._count[:], self._blocks = 0.0, 0.0, 0
        median = np.median(self._bins, axis=0)
        self._wander = (median - self._record) / np.maximum(self._drift, 1e-300)
        self.values = np.clip(median, self._record - self._drift, self._record + self._drift)
