"""CV-QKD with Gaussian-modulated coherent states (GG02): rates, and samples of quadratures.

Reverse reconciliation, collective attacks, trusted receiver noise. Variances are in shot-noise
units. Formulas as in Lodewyck et al., Phys. Rev. A 76, 042305 (2007), and for heterodyne
detection as in Fossier et al., J. Phys. B 42, 114014 (2009).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qkd_adapters.optics.conditions import NEUTRAL, Conditions
from qkd_adapters.optics.fibre import transmittance
from qkd_adapters.optics.model import Gaussian, LinkModel, Rates
from qkd_adapters.records import Column


def _entropy(symplectic: float) -> float:
    """Of a thermal state with this symplectic eigenvalue, in bits."""
    x = (symplectic - 1.0) / 2.0
    if x <= 1e-12:
        return 0.0
    return (x + 1.0) * math.log2(x + 1.0) - x * math.log2(x)


def secret_fraction(source: Gaussian, transmission: float, efficiency: float) -> float:
    """K: secret bits per symbol, asymptotic; negative where there are none."""
    information, holevo = _information(source, transmission, efficiency)
    return source.beta * information - holevo


def _information(source: Gaussian, t: float, eta: float) -> tuple[float, float]:
    """I_AB, and chi_BE: what an eavesdropper may know of Bob's data."""
    v = source.modulation + 1.0
    line = 1.0 / t - 1.0 + source.excess_noise
    if source.heterodyne:
        detector = (2.0 - eta + 2.0 * source.electronic_noise) / eta
    else:
        detector = (1.0 - eta + source.electronic_noise) / eta
    total = line + detector / t
    information = math.log2((v + total) / (1.0 + total))
    a = v * v * (1.0 - 2.0 * t) + 2.0 * t + (t * (v + line)) ** 2
    b = (t * (v * line + 1.0)) ** 2
    root_b = math.sqrt(b)
    if source.heterodyne:
        below = (t * (v + total)) ** 2
        c = (
            a * detector**2
            + b
            + 1.0
            + 2.0 * detector * (v * root_b + t * (v + line))
            + 2.0 * t * (v * v - 1.0)
        ) / below
        d = ((v + root_b * detector) / (t * (v + total))) ** 2
    else:
        information /= 2.0
        below = t * (v + total)
        c = (v * root_b + t * (v + line) + a * detector) / below
        d = root_b * (v + root_b * detector) / below
    joint = sum(_entropy(each) for each in _eigenvalues(a, b))
    given = sum(_entropy(each) for each in _eigenvalues(c, d))
    return information, joint - given


def _eigenvalues(trace: float, determinant: float) -> tuple[float, float]:
    root = math.sqrt(max(0.0, trace * trace - 4.0 * determinant))
    return math.sqrt((trace + root) / 2.0), math.sqrt(max(0.0, (trace - root) / 2.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Quadratures:
    """One block: Bob's quadrature is gain times Alice's plus Gaussian noise."""

    symbols: int  # every one is measured
    modulation: float  # Alice's variance
    gain: float
    noise: float  # variance, in the units Bob takes for shot noise
    heterodyne: bool


def gaussian_of(model: LinkModel) -> Gaussian:
    """Raises ValueError for a link that is none."""
    if model.gaussian is None:
        raise ValueError(f"{model.name}: no CV-QKD link")
    return model.gaussian


def _channel(model: LinkModel, conditions: Conditions) -> float:
    loss = model.loss_db + conditions.loss_db
    return min(1.0, transmittance(loss) * model.eta_bob * conditions.gain_factor)


def expose(model: LinkModel, conditions: Conditions, seconds: float) -> Quadratures:
    """What the block is like. The samples come with ``columns``."""
    source = gaussian_of(model)
    # Heterodyne detection splits the light between the quadratures.
    overall = _channel(model, conditions) * model.eta_det / (2.0 if source.heterodyne else 1.0)
    excess = source.excess_noise + conditions.excess_noise
    # A receiver that takes the shot noise for larger than it is divides by too much.
    scale = conditions.shot_noise
    return Quadratures(
        symbols=round(model.clock_hz * seconds),
        modulation=source.modulation * conditions.mu_factor,
        gain=math.sqrt(overall / scale),
        noise=(1.0 + source.electronic_noise + overall * excess) / scale,
        heterodyne=source.heterodyne,
    )


def columns(
    block: Quadratures, rng: np.random.Generator
) -> tuple[dict[str, Column], dict[str, Column]]:
    """Alice's and Bob's.

    With homodyne detection Bob's basis column says which quadrature he measured (0 x, 1 p) and
    his other one is 0.
    """
    count = block.symbols
    index = np.arange(count, dtype=np.uint64)
    basis = rng.integers(0, 2, count, dtype=np.uint8)
    alice: dict[str, Column] = {"index": index}
    bob: dict[str, Column] = {"index": index}
    for number, name in enumerate(("x", "p")):
        sent = rng.standard_normal(count, dtype=np.float32)
        sent *= np.float32(math.sqrt(block.modulation))
        seen = rng.standard_normal(count, dtype=np.float32)
        seen *= np.float32(math.sqrt(block.noise))
        seen += sent * np.float32(block.gain)
        if not block.heterodyne:
            seen[basis != number] = 0.0
        alice[name], bob[name] = sent, seen
    if not block.heterodyne:
        bob["basis"] = basis
    return alice, bob


def rates(model: LinkModel, conditions: Conditions = NEUTRAL) -> Rates:
    """Asymptotic. ``qber`` has no meaning here and is 0; ``sifted`` counts symbols."""
    source = gaussian_of(model)
    noisy = Gaussian(
        modulation=source.modulation * conditions.mu_factor,
        excess_noise=source.excess_noise + conditions.excess_noise,
        electronic_noise=source.electronic_noise,
        heterodyne=source.heterodyne,
        beta=source.beta,
    )
    fraction = secret_fraction(noisy, _channel(model, conditions), model.eta_det)
    return Rates(qber=0.0, sifted=model.clock_hz, secret=max(0.0, model.clock_hz * fraction))
