"""BBM92 with a source of photon pairs between the two ends: rates, and what one pulse becomes.

Ma, Fung, Lo, Phys. Rev. A 76, 012307 (2007). ``mean_pairs`` per pulse is their 2 lambda. A
source that runs continuously is played with its coincidence window for a pulse. Only
coincidences are made: the time tags of single clicks, which no key comes from, are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from qkd_adapters.optics.cells import Cells, Codebook, arrival_of, code_axes
from qkd_adapters.optics.conditions import NEUTRAL, Conditions
from qkd_adapters.optics.detector import yield_of_dark
from qkd_adapters.optics.fibre import transmittance
from qkd_adapters.optics.model import LinkModel, Rates
from qkd_adapters.optics.pulses import EVE_ERROR
from qkd_adapters.optics.weak_coherent import E0, h2


def coincidence_gain(half_pairs: float, eta: tuple[float, float], y0: tuple[float, float]) -> float:
    """Q_lambda: probability that both ends click. ``half_pairs`` is lambda."""
    (a, b), (dark_a, dark_b), lam = eta, y0, half_pairs
    return (
        1.0
        - (1.0 - dark_a) / (1.0 + a * lam) ** 2
        - (1.0 - dark_b) / (1.0 + b * lam) ** 2
        + (1.0 - dark_a) * (1.0 - dark_b) / (1.0 + a * lam + b * lam - a * b * lam) ** 2
    )


def coincidence_errors(
    half_pairs: float, eta: tuple[float, float], y0: tuple[float, float], ed: float
) -> float:
    """E_lambda Q_lambda."""
    (a, b), lam = eta, half_pairs
    below = (1.0 + a * lam) * (1.0 + b * lam) * (1.0 + a * lam + b * lam - a * b * lam)
    correlated = 2.0 * (E0 - ed) * a * b * lam * (1.0 + lam) / below
    return E0 * coincidence_gain(lam, eta, y0) - correlated


def secret_fraction(gain: float, wrong: float, *, f: float, q: float = 0.5) -> float:
    """R: secret bits per pulse, negative where there are none."""
    error = wrong / gain
    return q * gain * (1.0 - f * h2(error) - h2(error))


def chsh(qber: float) -> float:
    """S of the CHSH inequality for a Werner state with this error rate."""
    return 2.0 * math.sqrt(2.0) * (1.0 - 2.0 * qber)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Probabilities per pulse, bases equal."""

    gain: float
    wrong_z: float
    wrong_x: float
    noise: float  # share of coincidences that are none


def pairs(model: LinkModel, conditions: Conditions) -> Pairs:
    """With attacks and dead time. The source stands half-way, in loss."""
    lam = model.intensities[0] * conditions.mu_factor / 2.0
    loss = (model.loss_db + conditions.loss_db) / 2.0
    in_gate = model.detector.in_gate(conditions.sync_offset_ps) / model.detector.in_gate(0.0)
    arm = transmittance(loss) * model.eta_bob * model.eta_det
    eta = (min(1.0, arm), min(1.0, arm * conditions.gain_factor * in_gate))
    dark = model.detector.dark * conditions.y0_factor
    noisy = min(0.5, dark + conditions.y0_add / 2.0)
    y0 = (yield_of_dark(dark), yield_of_dark(noisy))
    ed_z = min(0.5, max(0.0, model.ed + conditions.ed_add))
    ed_x = min(0.5, max(0.0, ed_z + conditions.ed_add_x))
    gain = max(0.0, coincidence_gain(lam, eta, y0))
    wrongs = [coincidence_errors(lam, eta, y0, ed) for ed in (ed_z, ed_x)]
    if conditions.blinded:
        wrongs = [gain * min(EVE_ERROR, ed_z / 2.0)] * 2
    share = conditions.intercept
    wrongs = [wrong * (1.0 - share) + share * (gain / 4.0 + wrong / 2.0) for wrong in wrongs]
    single = max(2.0 * lam * arm + y0[1], 0.0) * model.clock_hz
    live = model.detector.live_fraction(single) ** 2
    accidental = min(1.0, (y0[0] + y0[1]) * 2.0 * lam * arm / gain) if gain > 0 else 1.0
    return Pairs(
        gain=gain * live, wrong_z=wrongs[0] * live, wrong_x=wrongs[1] * live, noise=accidental
    )


def cells(model: LinkModel, conditions: Conditions) -> Cells:
    """Cells are (Alice's basis, Bob's basis), outcomes their two bits."""
    found = pairs(model, conditions)

    def row(wrong: float) -> list[float]:
        right = max(0.0, found.gain - wrong)
        return [right / 2.0, wrong / 2.0, wrong / 2.0, right / 2.0]

    crossed = row(found.gain / 2.0)
    basis = (model.p_z, 1.0 - model.p_z)
    alice_basis, _ = code_axes(2, 2)
    return Cells(
        shares=np.outer(basis, basis).ravel(),
        outcomes=np.array([row(found.wrong_z), crossed, crossed, row(found.wrong_x)]),
        codebook=codebook(),
        arrival=arrival_of(model, conditions, found.noise),
        alice_sends=False,
        cell_level=np.zeros(4, dtype=np.uint8),
        cell_basis=alice_basis,
    )


@lru_cache(maxsize=1)
def codebook() -> Codebook:
    alice_basis, bob_basis, sent, seen = code_axes(2, 2, 2, 2)
    matched = alice_basis == bob_basis
    codes = np.arange(len(sent))
    at_alice = np.zeros((len(sent), 4), dtype=np.uint8)
    at_bob = at_alice.copy()
    at_alice[codes, 2 * alice_basis + sent] = 1
    at_bob[codes, 2 * bob_basis + seen] = 1
    return Codebook(
        outcomes=4,
        alice={"basis": alice_basis, "bit": sent},
        bob={"basis": bob_basis, "bit": seen},
        level=np.zeros(len(sent), dtype=np.uint8),
        sifted=np.where(matched, 1 + alice_basis, 0).astype(np.uint8),
        error=(matched & (sent != seen)).astype(np.uint8),
        double=np.zeros(len(sent), dtype=np.uint8),
        detectors=at_bob,
        alice_detectors=at_alice,
    )


def rates(model: LinkModel, conditions: Conditions = NEUTRAL) -> Rates:
    """Asymptotic, the key from Z and the phase error from X."""
    found = pairs(model, conditions)
    if found.gain <= 0.0:
        return Rates(qber=0.5, sifted=0.0, secret=0.0)
    e_z, e_x = found.wrong_z / found.gain, found.wrong_x / found.gain
    sifted = model.clock_hz * model.p_z**2 * found.gain
    secret = sifted * (1.0 - model.error_correction * h2(e_z) - h2(e_x))
    return Rates(qber=e_z, sifted=sifted, secret=max(0.0, secret))
