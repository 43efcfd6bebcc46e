"""From counts to features: numbers that stay put on a healthy link, each with its own noise.

Every feature comes with the variance its counts give it (binomial or Poisson), so a block of
any length is judged by what its statistics can tell. Features are chosen to move apart: the
error rate is taken without the dark counts' share and the gains without the dark clicks, so a
longer or wetter fibre moves the loss alone; decoys enter as differences from the signal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from qkd_adapters.detection.telemetry import BlockTelemetry, Level, Protocol

Vector = npt.NDArray[np.float64]

DECIBEL = 10 / math.log(10)
VACUUM = 0.005  # mean photons at and below which a level measures dark counts; real ones leak
MIN_COUNT = 25  # clicks or tested bits below which the normal approximation is not used
ANSCOMBE = 0.375  # sqrt(n + 3/8) of a Poisson count has variance 1/4 from a mean of a few on


class Group(StrEnum):
    """What a feature is about; the rules speak of groups."""

    LOSS = "loss"
    QBER = "qber"
    GAP = "decoy error gap"
    SPLIT = "basis error split"
    RATIO = "decoy ratio"
    VACUUM = "dark yield"
    DOUBLES = "double clicks"
    BALANCE = "detector balance"
    BASIS = "basis ratio"
    ARRIVAL = "arrival time"
    WIDTH = "arrival width"
    SYNC = "clock offset"
    BITS = "sender's bits"
    TEMPERATURE = "temperature"
    SELF_TEST = "efficiency self-test"
    SOURCE = "source power"
    EXCESS_NOISE = "excess noise"
    SHOT_NOISE = "shot noise"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """``floor``: standard deviation below which a change is of no practical interest.

    ``drift``: how far the slow reference may wander from the calibration record. A patient
    attacker who ramps up cannot become the baseline beyond it. Relative ones are shares of
    the calibrated mean and are used where they are the larger.
    """

    floor: float
    drift: float
    relative_floor: float = 0.0
    relative_drift: float = 0.0
    unit: str = ""


TOLERANCES: dict[Group, Tolerance] = {
    Group.LOSS: Tolerance(floor=0.015, drift=1.0, unit="dB"),
    Group.QBER: Tolerance(floor=3e-4, drift=6e-3),
    Group.GAP: Tolerance(floor=1e-4, drift=6e-3),
    Group.SPLIT: Tolerance(floor=2e-4, drift=1e-2),
    Group.RATIO: Tolerance(floor=5e-4, drift=0.03),
    Group.VACUUM: Tolerance(floor=0.005, drift=1.0),
    Group.DOUBLES: Tolerance(floor=0.0, drift=0.0, relative_floor=0.005, relative_drift=0.2),
    Group.BALANCE: Tolerance(floor=1e-3, drift=0.05),
    Group.BASIS: Tolerance(floor=1e-3, drift=0.05),
    Group.ARRIVAL: Tolerance(floor=3.0, drift=20.0, unit="ps"),
    Group.WIDTH: Tolerance(floor=0.1, drift=10.0, unit="ps"),
    Group.SYNC: Tolerance(floor=1.0, drift=20.0, unit="ps"),
    Group.BITS: Tolerance(floor=0.1, drift=0.5, unit="sigma"),
    Group.TEMPERATURE: Tolerance(floor=1.0, drift=10.0, unit="K"),
    Group.SELF_TEST: Tolerance(floor=5e-3, drift=0.05),
    Group.SOURCE: Tolerance(floor=1e-3, drift=0.03),
    Group.EXCESS_NOISE: Tolerance(floor=1e-4, drift=1e-2, unit="SNU"),
    Group.SHOT_NOISE: Tolerance(floor=2e-4, drift=5e-3),
}
"""In the features' own units: error rates are shares of 1, ratios and balances natural logarithms.

The QBER's drift limit is 0.6 %: more than a day's swing of +-0.2 % from peak to peak, and what
intercepting 2.4 % of the pulses adds.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Values and count variances in the order of a layout; NaN where a block tells nothing."""

    values: Vector
    variances: Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The features one link has; fixed by its protocol and intensities."""

    names: tuple[str, ...]
    groups: tuple[Group, ...]


_Entry = tuple[str, Group, float, float]
NOTHING = (math.nan, math.nan)


def is_dark(mean_photons: float) -> bool:
    """Is this an intensity that measures dark counts?"""
    return mean_photons <= VACUUM


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """What is known of the receiver from measuring it with the laser off."""

    dark_yield: float = 0.0  # clicks per empty pulse; 0: not known
    gate: float = 0.0  # ps, full width in which clicks count; 0: not known
    self_test: float = 1 / 64  # share of the gates with the attenuator in, and as many without


def measure(telemetry: BlockTelemetry, receiver: Receiver) -> tuple[Layout, Sample]:
    """The features of one block."""
    entries = tuple(
        _continuous(telemetry)
        if telemetry.protocol is Protocol.CV
        else _counted(telemetry, receiver)
    )
    names, groups, values, variances = zip(*entries, strict=True)
    return Layout(names=names, groups=groups), Sample(
        values=np.array(values), variances=np.array(variances)
    )


def _continuous(telemetry: BlockTelemetry) -> Iterator[_Entry]:
    # Electronic noise and efficiency are the device's affair; what they do to the scatter of an
    # estimate the calibration measures, at its transmittance. It grows as the light gets less.
    noise = telemetry.excess_noise
    transmittance = telemetry.transmittance or 0.0
    known = transmittance > 0 and telemetry.samples >= MIN_COUNT
    scatter = 2 / (telemetry.samples * transmittance**2) if known else math.nan
    yield "excess_noise", Group.EXCESS_NOISE, math.nan if noise is None else noise, scatter
    loss = -DECIBEL * math.log(transmittance) if known else math.nan
    yield "loss", Group.LOSS, loss, 0.0
    yield "temperature", Group.TEMPERATURE, telemetry.receiver.temperature, 0.0
    yield "sync_offset", Group.SYNC, telemetry.receiver.sync_offset, 0.0
    yield "shot_noise", Group.SHOT_NOISE, telemetry.receiver.shot_noise, 0.0
    yield "source_power", Group.SOURCE, telemetry.sender.source_power, 0.0


def knows_dark(protocol: Protocol) -> bool:
    """Are the levels those of the one sender there is? Twin-field has two, each its own."""
    return protocol is Protocol.DECOY_BB84 or protocol is Protocol.BB84


def _counted(telemetry: BlockTelemetry, receiver: Receiver) -> Iterator[_Entry]:
    signal, *others = telemetry.levels
    if not knows_dark(telemetry.protocol):
        receiver = Receiver(self_test=receiver.self_test)
    dark_yield = receiver.dark_yield
    yield "loss", Group.LOSS, *_loss(signal, dark_yield)
    yield "qber", Group.QBER, *_error(signal, dark_yield)
    yield "qber_split", Group.SPLIT, *_split(signal)
    for level in others:
        if not knows_dark(telemetry.protocol):
            # Test states of two senders: no errors to speak of, and no level is dark.
            yield f"{level.name}_ratio", Group.RATIO, *_ratio(level, signal, dark_yield)
        elif is_dark(level.mean_photons):
            yield f"{level.name}_yield", Group.VACUUM, *_dark(level, signal, dark_yield)
        else:
            yield f"{level.name}_ratio", Group.RATIO, *_ratio(level, signal, dark_yield)
            yield f"{level.name}_gap", Group.GAP, *_gap(level, signal, dark_yield)
    yield from _receiver(telemetry, receiver)


def _receiver(telemetry: BlockTelemetry, receiver: Receiver) -> Iterator[_Entry]:
    z0, z1, x0, x1 = telemetry.detector_clicks
    clicks = z0 + z1 + x0 + x1
    yield "double_clicks", Group.DOUBLES, *_doubles(telemetry.double_clicks, clicks, telemetry)
    yield "balance_z", Group.BALANCE, *_log_odds(z0, z1)
    yield "balance_x", Group.BALANCE, *_log_odds(x0, x1)
    yield "basis", Group.BASIS, *_log_odds(z0 + z1, x0 + x1)
    known = clicks >= MIN_COUNT and telemetry.arrival_std > 0
    mean, width = _arrival(telemetry, clicks, receiver) if known else (NOTHING, NOTHING)
    yield "arrival_mean", Group.ARRIVAL, *mean
    yield "arrival_std", Group.WIDTH, *width
    yield "sync_offset", Group.SYNC, telemetry.receiver.sync_offset, 0.0
    yield "bits", Group.BITS, telemetry.randomness.bias, 1.0
    yield "temperature", Group.TEMPERATURE, telemetry.receiver.temperature, 0.0
    ratio = telemetry.receiver.efficiency_check
    yield "efficiency_check", Group.SELF_TEST, ratio, self_test_variance(telemetry, receiver)
    yield "source_power", Group.SOURCE, telemetry.sender.source_power, 0.0


def self_test_variance(telemetry: BlockTelemetry, receiver: Receiver) -> float:
    """Of the ratio of two counts, one of them of half the light."""
    light = sum(telemetry.detector_clicks) - receiver.dark_yield * telemetry.pulses
    return 0.75 / max(light * receiver.self_test, 1.0)


def _arrival(
    telemetry: BlockTelemetry, clicks: int, receiver: Receiver
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Mean and width of the light's arrival; dark counts are spread evenly over the gate."""
    dark = min(receiver.dark_yield * telemetry.pulses / clicks, 0.9)
    even = receiver.gate**2 / 12
    variance = telemetry.arrival_std**2
    mean = telemetry.arrival_mean / (1 - dark)
    light = (variance - dark * even) / (1 - dark) - dark * mean**2 if even else variance
    if light <= 0:
        return NOTHING, NOTHING
    # Dark counts make the tails: their fourth moment is even**2 * 9/5.
    fourth = 3 * light**2 * (1 - dark) + 1.8 * even**2 * dark
    spread = max(fourth - variance**2, variance**2) / clicks
    return (mean, variance / clicks / (1 - dark) ** 2), (
        math.sqrt(light),
        spread / (4 * light * (1 - dark) ** 2),
    )


def _light(level: Level, dark_yield: float) -> tuple[float, float] | None:
    """Clicks made by light, and the factor by which the dark ones enlarge their noise."""
    light = level.clicks - dark_yield * level.sent
    if level.clicks < MIN_COUNT or light < level.clicks / 10:
        return None  # nothing but dark counts: no statement about the light
    return light, level.clicks / light


def _loss(level: Level, dark_yield: float) -> tuple[float, float]:
    found = _light(level, dark_yield)
    if found is None:
        return NOTHING
    light, spread = found
    shot = max(1 / level.clicks - 1 / level.sent, 0.0)
    return -DECIBEL * math.log(light / level.sent), (DECIBEL * spread) ** 2 * shot


def _error(level: Level, dark_yield: float) -> tuple[float, float]:
    """Error rate of the clicks made by light: half of the dark ones are wrong (e0 = 1/2)."""
    found = _light(level, dark_yield)
    tested = level.tested_z + level.tested_x
    if found is None or tested < MIN_COUNT:
        return NOTHING
    spread = found[1]
    errors = level.errors_z + level.errors_x
    # (E - d/2) / (1 - d) with d the share of dark clicks, 1 - d = 1 / spread.
    value = errors / tested * spread - (spread - 1) / 2
    expected = (errors + 1) / (tested + 2)  # no variance of zero when there is no error
    return value, expected * (1 - expected) / tested * spread**2


def _gap(level: Level, signal: Level, dark_yield: float) -> tuple[float, float]:
    value, variance = _error(level, dark_yield)
    other, other_variance = _error(signal, dark_yield)
    return value - other, variance + other_variance


def _split(level: Level) -> tuple[float, float]:
    if min(level.tested_z, level.tested_x) < MIN_COUNT:
        return NOTHING
    in_z, in_x = level.errors_z / level.tested_z, level.errors_x / level.tested_x
    pooled = (level.errors_z + level.errors_x + 1) / (level.tested_z + level.tested_x + 2)
    return in_z - in_x, pooled * (1 - pooled) * (1 / level.tested_z + 1 / level.tested_x)


def _ratio(level: Level, signal: Level, dark_yield: float) -> tuple[float, float]:
    weak, strong = _light(level, dark_yield), _light(signal, dark_yield)
    if weak is None or strong is None:
        return NOTHING
    value = math.log(weak[0] / level.sent) - math.log(strong[0] / signal.sent)
    return value, weak[1] ** 2 / level.clicks + strong[1] ** 2 / signal.clicks


def _dark(level: Level, signal: Level, dark_yield: float) -> tuple[float, float]:
    """Root of the vacuum's clicks per expected click; its noise does not depend on how few.

    Expected are the dark clicks and what a modulator that does not close leaks of the light.
    """
    if not (level.sent and signal.sent and signal.mean_photons):
        return NOTHING
    light = max(signal.clicks / signal.sent - dark_yield, 0.0)
    expected = dark_yield + light * level.mean_photons / signal.mean_photons
    if expected <= 0:
        return NOTHING
    scale = 1 / (level.sent * expected)
    return math.sqrt((level.clicks + ANSCOMBE) * scale), 0.25 * scale


def _doubles(doubles: int, clicks: int, telemetry: BlockTelemetry) -> tuple[float, float]:
    """Root of the coincidences per pair of independent clicks; a change of loss cancels."""
    if clicks < MIN_COUNT:
        return NOTHING
    scale = telemetry.pulses / clicks**2
    return math.sqrt((doubles + ANSCOMBE) * scale), 0.25 * scale


def _log_odds(one: int, other: int) -> tuple[float, float]:
    if min(one, other) < MIN_COUNT:
        return NOTHING
    return math.log(one / other), 1 / one + 1 / other
