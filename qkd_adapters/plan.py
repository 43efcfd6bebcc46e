"""What a device would do on a fibre that is not there yet: error rate, key rate, time per key.

A calculator, no process: it puts the expected counts of the simulated optics through the bounds
the real post-processing uses, so that the finite rate is the one a link of this kind would show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from qkd_adapters.optics import continuous, entangled, twin_field
from qkd_adapters.optics.conditions import NEUTRAL, Conditions
from qkd_adapters.optics.model import LinkModel, Rates
from qkd_adapters.optics.presets_bb84 import retuned
from qkd_adapters.optics.pulses import levels
from qkd_adapters.optics.rates import rates
from qkd_adapters.optics.satellite import Downlink
from qkd_adapters.optics.weak_coherent import h2
from qkd_adapters.postprocessing.estimate import Counts, Level, Moments
from qkd_adapters.postprocessing.estimators import estimate
from qkd_adapters.postprocessing.settings import (
    Bbm92,
    ContinuousVariable,
    DecoyBb84,
    Detection,
    PlainBb84,
    Scheme,
    Settings,
    TwinField,
)
from qkd_adapters.records import Protocol

KEY_BITS = 256
BLOCK_BITS = 10_000_000  # sifted, where it does not take longer than the longest block
LONGEST_BLOCK = 3600.0  # s
PASS_STEP = 30.0  # s between the points of a satellite pass


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanPoint:
    """One loss. Rates in bit/s; ``key_seconds`` per 256-bit key, None where there is no key.

    ``secret_rate_finite``: with blocks of ``block_seconds``, what the post-processing would make
    of the counts expected. Authentication's share is not taken off.
    """

    loss_db: float
    distance_km: float | None  # satellite: slant range
    qber: float
    sifted_rate: float
    secret_rate_asymptotic: float
    secret_rate_finite: float
    block_seconds: float
    key_seconds: float | None


def plan(
    model: LinkModel,
    *,
    losses: Sequence[float] | None = None,
    distances: Sequence[float] | None = None,
    block_bits: int = BLOCK_BITS,
) -> tuple[PlanPoint, ...]:
    """One point per loss in dB, or per distance in km; neither: the model as it stands.

    A link without decoys is tuned to each loss anew. A satellite's points are those of one
    pass, from its rise to its highest point. Raises ValueError for a negative loss or distance.
    """
    if model.downlink is not None and losses is None:
        if distances is not None:
            raise ValueError(f"{model.name}: a satellite has no fibre; give losses, or nothing")
        return _along_the_pass(model, model.downlink, block_bits)
    if distances is not None:
        models = [model.with_distance(each) for each in distances]
    elif losses is not None:
        models = [model.with_loss(each) for each in losses]
    else:
        models = [model]
    return tuple(_point(retuned(each), NEUTRAL, block_bits, _length(each)) for each in models)


def reach(model: LinkModel, *, block_bits: int = BLOCK_BITS) -> float:
    """Highest loss in dB, to 0.1, at which the finite rate is above zero; 0 for none."""
    low, high = 0.0, 200.0
    while high - low > 0.05:
        middle = (low + high) / 2.0
        point = plan(model, losses=[middle], block_bits=block_bits)[0]
        low, high = (middle, high) if point.secret_rate_finite > 0 else (low, middle)
    return round(low, 1)


def _length(model: LinkModel) -> float | None:
    return model.channel.length_km if model.channel.db_per_km > 0 else None


def _along_the_pass(model: LinkModel, link: Downlink, block_bits: int) -> tuple[PlanPoint, ...]:
    half = link.duration_s / 2.0
    steps = max(1, math.ceil(half / PASS_STEP))
    gate = model.detector.gate_ps * 1e-12
    noise = link.background(gate, model.eta_det)
    points = []
    for number in range(steps + 1):
        time = -half * (1.0 - number / steps)
        seen = Conditions(loss_db=link.loss_db(time), y0_add=noise)
        point = _point(model, seen, block_bits, link.position(time)[0], link.duration_s)
        points.append(replace(point, loss_db=seen.loss_db))
    return tuple(points)


def _point(
    model: LinkModel,
    seen: Conditions,
    block_bits: int,
    distance: float | None,
    longest: float = LONGEST_BLOCK,
) -> PlanPoint:
    found = rates(model, seen)
    seconds = min(longest, block_bits / found.sifted) if found.sifted > 0 else longest
    finite = _finite(model, seen, found, seconds)
    return PlanPoint(
        loss_db=model.loss_db,
        distance_km=distance,
        qber=found.qber,
        sifted_rate=found.sifted,
        secret_rate_asymptotic=found.secret,
        secret_rate_finite=finite,
        block_seconds=seconds,
        key_seconds=KEY_BITS / finite if finite > 0 else None,
    )


def _finite(model: LinkModel, seen: Conditions, found: Rates, seconds: float) -> float:
    settings = Settings(link="plan", scheme=scheme_of(model))
    if model.protocol is Protocol.CV:
        counted: Counts | Moments = _moments(model, seen, seconds)
    else:
        counted = _counts(model, seen, found, seconds)
    return estimate(settings, counted).secret_bits / seconds


def scheme_of(model: LinkModel) -> Scheme:
    """What two devices of this kind agree on."""
    match model.protocol:
        case Protocol.DECOY_BB84:
            return DecoyBb84(intensities=model.intensities, probabilities=model.probabilities)
        case Protocol.BB84:
            return PlainBb84(mu=model.intensities[0], receiver_z=model.p_z)
        case Protocol.BBM92:
            return Bbm92()
        case Protocol.TWIN_FIELD:
            return TwinField(intensities=model.intensities, probabilities=model.probabilities)
        case Protocol.CV:
            source = continuous.gaussian_of(model)
            return ContinuousVariable(
                modulation=source.modulation,
                efficiency=model.eta_det,
                electronic_noise=source.electronic_noise,
                detection=Detection.HETERODYNE if source.heterodyne else Detection.HOMODYNE,
            )


def _counts(model: LinkModel, seen: Conditions, found: Rates, seconds: float) -> Counts:
    pulses = round(model.clock_hz * seconds)
    sifted = found.sifted * seconds
    pairs: tuple[tuple[int, ...], ...] = ()
    match model.protocol:
        case Protocol.BBM92:
            pair = entangled.pairs(model, seen)
            counted: tuple[Level, ...] = (
                _level(model, pulses, (pair.gain, pair.wrong_z, pair.wrong_x)),
            )
        case Protocol.TWIN_FIELD:
            counted = (Level(tested_z=round(sifted), errors_z=round(sifted * found.qber)),)
            pairs = _test_clicks(model, seen, pulses)
        case _:
            counted = tuple(
                _level(model, pulses * share, (one.gain, one.wrong_z, one.wrong_x))
                for share, one in zip(model.probabilities, levels(model, seen), strict=True)
            )
    return Counts(
        pulses=pulses,
        levels=counted,
        leak=math.ceil(model.error_correction * sifted * h2(found.qber)),
        pairs=pairs,
    )


def _level(model: LinkModel, sent: float, rows: tuple[float, float, float]) -> Level:
    gain, wrong_z, wrong_x = rows
    both_z, both_x = sent * model.p_z**2, sent * (1.0 - model.p_z) ** 2
    return Level(
        sent_z=round(sent * model.p_z),
        sent_x=round(sent * (1.0 - model.p_z)),
        tested_z=round(both_z * gain),
        errors_z=round(both_z * wrong_z),
        tested_x=round(both_x * gain),
        errors_x=round(both_x * wrong_x),
    )


def _test_clicks(model: LinkModel, seen: Conditions, pulses: int) -> tuple[tuple[int, ...], ...]:
    """By both ends' test intensities; either detector."""
    arriving = [twin_field.arm(model, seen) * mu for mu in model.intensities[1:]]
    shares = model.probabilities[1:]
    dark = model.detector.dark * seen.y0_factor
    return tuple(
        tuple(
            round(pulses * p * q * 2.0 * twin_field.test_gain(a, b, dark))
            for q, b in zip(shares, arriving, strict=True)
        )
        for p, a in zip(shares, arriving, strict=True)
    )


def _moments(model: LinkModel, seen: Conditions, seconds: float) -> Moments:
    """With the reconciliation that the model declares."""
    scheme = scheme_of(model)
    if not isinstance(scheme, ContinuousVariable):
        raise TypeError("moments are of continuous variables")
    source = continuous.gaussian_of(model)
    block = continuous.expose(model, seen, seconds)
    per_symbol = 2 if source.heterodyne else 1
    measured = block.symbols * per_symbol
    tested = round(measured * scheme.test_share)
    kept = measured - tested
    power = block.gain**2 * block.modulation
    information = 0.5 * math.log2(1.0 + power / block.noise)
    return Moments(
        count=tested,
        xx=tested * block.modulation,
        xy=tested * block.gain * block.modulation,
        yy=tested * (power + block.noise),
        quadratures=kept,
        entropy=float(scheme.slices),
        leak=math.ceil(kept * (scheme.slices - source.beta * information)),
    )
