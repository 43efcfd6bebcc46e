"""Telemetry of a made-up decoy link, drawn from a handful of numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from qkd_adapters.detection.baseline import Baseline, calibrate
from qkd_adapters.detection.telemetry import BlockTelemetry, Level, Monitor, Protocol

PULSES = 100_000_000
MEANS = {"signal": 0.5, "decoy": 0.1, "vacuum": 0.0}
SHARES = {"signal": 0.8, "decoy": 0.15, "vacuum": 0.05}
DARK = 1e-5
Z_SHARE = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What the light does. ``weak``: factor on the decoy's gain alone, as in splitting."""

    eta: float = 0.01
    error: float = 0.02
    dark: float = DARK
    weak: float = 1.0
    mean: float = 1.0
    balance: float = 0.5
    doubles: float = 1.0
    decoys: bool = True


def counts(link: Link, name: str, rng: np.random.Generator) -> Level:
    mean = MEANS[name]
    sent = round(PULSES * SHARES[name])
    light = -np.expm1(-link.eta * link.mean * mean) * (link.weak if name == "decoy" else 1.0)
    gain = link.dark + (1 - link.dark) * light
    error = (link.dark / 2 + link.error * light) / gain
    clicks = int(rng.binomial(sent, gain))
    tested_z, tested_x = round(clicks * Z_SHARE**2), round(clicks * (1 - Z_SHARE) ** 2)
    return Level(
        name=name,
        mean_photons=mean,
        sent=sent,
        clicks=clicks,
        tested_z=tested_z,
        errors_z=int(rng.binomial(tested_z, error)),
        tested_x=tested_x,
        errors_x=int(rng.binomial(tested_x, error)),
    )


def block(
    number: int, rng: np.random.Generator, link: Link | None = None, **changes: Any
) -> BlockTelemetry:
    """One block of ``link``; ``changes`` replace fields of the telemetry."""
    link = link or Link()
    names = tuple(MEANS) if link.decoys else ("signal",)
    levels = tuple(counts(link, name, rng) for name in names)
    clicks = sum(level.clicks for level in levels)
    in_z = int(rng.binomial(clicks, Z_SHARE))
    z0 = int(rng.binomial(in_z, link.balance))
    x0 = int(rng.binomial(clicks - in_z, link.balance))
    doubles = int(rng.poisson(0.25 * link.doubles * clicks**2 / PULSES))
    found = BlockTelemetry(
        block=number,
        seconds=1.0,
        pulses=PULSES,
        protocol=Protocol.DECOY_BB84 if link.decoys else Protocol.BB84,
        levels=levels,
        detector_clicks=(z0, in_z - z0, x0, clicks - in_z - x0),
        double_clicks=doubles,
        arrival_mean=float(rng.normal(0, 60 / clicks**0.5)),
        arrival_std=float(rng.normal(60, 60 / (2 * clicks) ** 0.5)),
        sender=Monitor(source_power=float(rng.normal(1, 0.005))),
        receiver=Monitor(sync_offset=float(rng.normal(0, 3))),
        secret_bits=100_000,
    )
    return replace(found, **changes)


def blocks(
    count: int, rng: np.random.Generator, link: Link | None = None, *, first: int = 0
) -> Iterator[BlockTelemetry]:
    for number in range(first, first + count):
        yield block(number, rng, link)


@lru_cache
def baseline(link: Link | None = None, *, seed: int = 1, count: int = 200) -> Baseline:
    return calibrate(list(blocks(count, np.random.default_rng(seed), link)))
