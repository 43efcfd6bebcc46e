"""The links of the attack matrix, and telemetry of a block straight from the sampler's counts.

A device pair works the same telemetry out from its records. Here the counts themselves are
enough, which makes a block cost half a millisecond instead of a reconciliation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields

import numpy as np

from qkd_adapters import records
from qkd_adapters.detection.baseline import Baseline, calibrate
from qkd_adapters.detection.features import Receiver
from qkd_adapters.detection.telemetry import (
    BlockTelemetry,
    Level,
    Monitor,
    Protocol,
    RandomnessHealth,
)
from qkd_adapters.optics.attacks import PULSES
from qkd_adapters.optics.drift import Drift
from qkd_adapters.optics.model import LinkModel
from qkd_adapters.optics.presets import preset
from qkd_adapters.optics.sampler import Exposure, expose

LINKS: Mapping[str, str] = {
    "2 decoys": "gig-apd",
    "1 decoy": "gig-apd-1decoy",
    "no decoys": "metro-plain",
    "CV": "cv-metro",
    "twin-field": "tf-300km",
    "pairs": "pairs-metro",
}
"""Short names and presets."""

SECONDS = 1.0  # of a block
BASIS_SIGMAS = 8.0  # of the receiver's choice of bases, at which its health test fails

NAMES = ("signal", "decoy", "decoy2", "decoy3")


def telemetry(exposure: Exposure, block: int, rng: np.random.Generator) -> BlockTelemetry:
    """``rng`` is for the estimates of a CV link, which has quadratures to count on."""
    model = exposure.model
    excess, transmittance = _estimates(exposure, rng)
    return BlockTelemetry(
        block=block,
        seconds=exposure.seconds,
        pulses=exposure.pulses,
        protocol=Protocol(model.protocol.value),
        levels=tuple(_levels(exposure)),
        detector_clicks=exposure.detector_clicks,
        double_clicks=exposure.double_clicks,
        arrival_mean=exposure.arrival_mean,
        arrival_std=exposure.arrival_std,
        sender=monitor(exposure.alice),
        receiver=monitor(exposure.bob),
        randomness=_randomness(exposure),
        samples=exposure.quadratures.symbols if exposure.quadratures is not None else 0,
        excess_noise=excess,
        transmittance=transmittance,
    )


def _estimates(
    exposure: Exposure, rng: np.random.Generator
) -> tuple[float, float] | tuple[None, None]:
    """Excess noise and transmittance as estimated from all samples, with their scatter."""
    block, source = exposure.quadratures, exposure.model.gaussian
    if block is None or source is None:
        return None, None
    draw = rng.standard_normal(2).tolist()
    scatter = math.sqrt(block.noise / (block.symbols * block.modulation))
    gain = block.gain + scatter * draw[0]
    noise = block.noise * (1 + math.sqrt(2 / block.symbols) * draw[1])
    overall = max(gain, 1e-6) ** 2
    efficiency = exposure.model.eta_det * exposure.model.eta_bob
    return (noise - 1 - source.electronic_noise) / overall, overall / efficiency


def monitor(read: records.Monitor) -> Monitor:
    return Monitor(**{field.name: getattr(read, field.name) for field in fields(Monitor)})


def _levels(exposure: Exposure) -> Iterator[Level]:
    intensities = exposure.model.intensities
    for name, mean, counts in zip(NAMES, intensities, exposure.levels(), strict=False):
        yield Level(
            name=name,
            mean_photons=mean,
            sent=counts.sent,
            clicks=counts.clicks,
            tested_z=counts.sifted_z,
            errors_z=counts.errors_z,
            tested_x=counts.sifted_x,
            errors_x=counts.errors_x,
        )


def _randomness(exposure: Exposure) -> RandomnessHealth:
    book = exposure.cells.codebook
    if exposure.model.protocol not in PULSES:
        return RandomnessHealth()
    crossed = np.where(book.sifted == 0, exposure.counts, 0)
    ones = int(crossed @ book.alice["bit"])
    in_z = int(exposure.counts @ (book.bob["basis"] == 0))
    return RandomnessHealth(
        bias=_sigmas(ones, int(crossed.sum()), 0.5),
        receiver_ok=abs(_sigmas(in_z, exposure.clicks, exposure.model.p_z)) < BASIS_SIGMAS,
    )


def _sigmas(hits: int, trials: int, chance: float) -> float:
    if not trials:
        return 0.0
    return (hits - trials * chance) / math.sqrt(trials * chance * (1 - chance))


def receiver(model: LinkModel) -> Receiver:
    """What a maker measures with the laser off."""
    return Receiver(dark_yield=model.y0, gate=model.detector.gate_ps)


def blocks(
    link: str, drift: Drift, rng: np.random.Generator, count: int, first: int = 0
) -> Iterator[BlockTelemetry]:
    """Telemetry of ``count`` blocks with nothing but benign drift."""
    model = preset(LINKS[link])
    for block in range(first, first + count):
        exposure = expose(model, drift.conditions(block * SECONDS), SECONDS, rng)
        yield telemetry(exposure, block, rng)


def calibration(link: str, drift: Drift, rng: np.random.Generator, count: int) -> Baseline:
    """From the first ``count`` blocks of a run."""
    return calibrate(list(blocks(link, drift, rng, count)), receiver(preset(LINKS[link])))
