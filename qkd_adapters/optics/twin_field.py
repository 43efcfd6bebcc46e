"""Twin-field QKD after Curty, Azuma and Lo (npj Quantum Information 5, 64, 2019).

Both ends send to an untrusted middle, which announces that exactly one of its two detectors
clicked, and which. In the key mode they send a coherent state of one amplitude with phase 0 or
pi; in the test mode phase-randomised pulses of several intensities. Distance and loss are of the
whole way from end to end; the middle stands half-way, in loss.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from qkd_adapters.optics.cells import Cells, Codebook, Floats, arrival_of, code_axes
from qkd_adapters.optics.conditions import NEUTRAL, Conditions
from qkd_adapters.optics.fibre import transmittance
from qkd_adapters.optics.model import LinkModel, Rates
from qkd_adapters.optics.weak_coherent import h2

PHOTONS = 12  # of each end that the phase-error bound sums over; amplitudes are below 0.5


def key_gain(gamma: float, dark: float, ed: float) -> float:
    """p_XX: one given detector clicks and the other does not, both ends in the key mode.

    ``gamma`` = sqrt(eta) alpha^2, photons that arrive from one end.
    """
    quiet = 1.0 - dark
    return quiet * math.exp(-gamma) * math.cosh(gamma * (1.0 - 2.0 * ed)) - quiet**2 * math.exp(
        -2.0 * gamma
    )


def key_error(gamma: float, dark: float, ed: float) -> float:
    """e_X: the announced detector fits the phases not."""
    quiet, visible = 1.0 - dark, 1.0 - 2.0 * ed
    floor = quiet * math.exp(-gamma)
    wrong, right = math.exp(-gamma * visible) - floor, math.exp(gamma * visible) - floor
    return wrong / (wrong + right)


def test_gain(gamma_a: float, gamma_b: float, dark: float) -> float:
    """One given detector clicks alone; the phases are random against each other."""
    quiet = 1.0 - dark
    both = gamma_a + gamma_b
    beat = float(np.i0(math.sqrt(gamma_a * gamma_b)))
    return quiet * math.exp(-both / 2.0) * beat - quiet**2 * math.exp(-both)


@lru_cache(maxsize=256)
def yields(eta_arm: float, dark: float) -> Floats:
    """Y_nm: one given detector clicks alone when the ends send n and m photons."""
    arrive = np.zeros((PHOTONS, PHOTONS))
    for n in range(PHOTONS):
        for k in range(n + 1):
            arrive[n, k] = math.comb(n, k) * eta_arm**k * (1.0 - eta_arm) ** (n - k)
    one_side = np.empty((PHOTONS, PHOTONS))
    for k in range(PHOTONS):
        for j in range(PHOTONS):
            # Both bunched at one of two detectors (Hong-Ou-Mandel): (k+j)!/(k! j! 2^(k+j)).
            bunched = math.comb(k + j, k) / 2.0 ** (k + j)
            one_side[k, j] = (1.0 - dark) * (bunched if k + j else dark)
    return np.asarray(arrive @ one_side @ arrive.T)


def phase_error(alpha_sq: float, eta_arm: float, dark: float, gain: float) -> float:
    """Upper bound on e_Z with all yields known."""
    numbers = np.arange(PHOTONS)
    factorials = np.array([math.factorial(int(n)) for n in numbers], dtype=float)
    amplitudes = math.exp(-alpha_sq / 2.0) * np.sqrt(alpha_sq**numbers / factorials)
    roots = np.sqrt(yields(eta_arm, dark))
    total = 0.0
    for parity in (0, 1):
        some = amplitudes[parity::2]
        total += float(some @ roots[parity::2, parity::2] @ some) ** 2
    return min(0.5, total / gain)


def secret_fraction(alpha_sq: float, eta: float, dark: float, ed: float, *, f: float) -> float:
    """R: secret bits per pulse pair in the key mode. ``eta`` from end to end, detectors in it."""
    gamma = math.sqrt(eta) * alpha_sq
    gain = key_gain(gamma, dark, ed)
    error = key_error(gamma, dark, ed)
    return (
        2.0 * gain * (1.0 - f * h2(error) - h2(phase_error(alpha_sq, math.sqrt(eta), dark, gain)))
    )


def arm(model: LinkModel, conditions: Conditions) -> float:
    """Efficiency from one end to a click in the middle."""
    loss = (model.loss_db + conditions.loss_db) / 2.0
    return min(1.0, transmittance(loss) * model.eta_bob * model.eta_det * conditions.gain_factor)


def cells(model: LinkModel, conditions: Conditions) -> Cells:
    """Cells are (Alice's setting, Bob's setting); a setting is the key mode or a test intensity."""
    eta_arm = arm(model, conditions)
    dark = min(0.5, model.detector.dark * conditions.y0_factor + conditions.y0_add / 2.0)
    ed = min(0.5, max(0.0, model.ed + conditions.ed_add))
    arriving = [eta_arm * mu * conditions.mu_factor for mu in model.intensities]
    table = []
    for a, from_a in enumerate(arriving):
        for b, from_b in enumerate(arriving):
            if a == b == 0:
                gain = key_gain(from_a, dark, ed)
                error = key_error(from_a, dark, ed)
                error = error * (1.0 - conditions.intercept) + conditions.intercept * (
                    0.25 + error / 2.0
                )
            else:
                gain, error = test_gain(from_a, from_b, dark), 0.5
            fits, fits_not = gain * (1.0 - error) / 2.0, gain * error / 2.0
            # (Alice's bit, Bob's bit, detector): detector 0 is the bright one of equal phases.
            table.append([fits, fits_not, fits_not, fits, fits_not, fits, fits, fits_not])
    count = len(arriving)
    setting, _ = code_axes(count, count)
    mean = sum(p * 2.0 * x for p, x in zip(model.probabilities, arriving, strict=True))
    _, other = code_axes(count, count)
    return Cells(
        shares=np.outer(model.probabilities, model.probabilities).ravel(),
        outcomes=np.array(table),
        codebook=codebook(count),
        arrival=arrival_of(model, conditions, 2.0 * dark / (2.0 * dark + mean)),
        levels=count,
        cell_level=setting,
        cell_basis=(setting > 0).astype(np.uint8),
        cell_level_bob=other,
    )


@lru_cache(maxsize=4)
def codebook(settings: int) -> Codebook:
    """A test setting k has intensity number k - 1 and basis 1 in the records."""
    a, b, bit_a, bit_b, detector = code_axes(settings, settings, 2, 2, 2)
    key, test = (a == 0) & (b == 0), (a > 0) & (b > 0)
    seen = np.zeros((len(a), 4), dtype=np.uint8)
    seen[np.arange(len(a)), 2 * (b > 0) + detector] = 1

    def columns(setting: np.ndarray, bit: np.ndarray) -> dict[str, np.ndarray]:
        return {
            "basis": (setting > 0).astype(np.uint8),
            "bit": bit,
            "intensity": np.maximum(setting, 1) - np.uint8(1),
            "detector": detector,
        }

    return Codebook(
        outcomes=8,
        alice=columns(a, bit_a),
        bob=columns(b, bit_b),
        level=a,
        sifted=(key + 2 * test).astype(np.uint8),
        error=(key & ((bit_a ^ bit_b) != detector)).astype(np.uint8),
        double=np.zeros(len(a), dtype=np.uint8),
        detectors=seen,
    )


def rates(model: LinkModel, conditions: Conditions = NEUTRAL) -> Rates:
    """Asymptotic, with the probability that both ends are in the key mode."""
    eta_arm = arm(model, conditions)
    ed = model.ed + conditions.ed_add
    alpha_sq = model.intensities[0] * conditions.mu_factor
    dark = model.detector.dark * conditions.y0_factor + conditions.y0_add / 2.0
    gamma = eta_arm * alpha_sq
    both = model.clock_hz * model.probabilities[0] ** 2
    secret = both * secret_fraction(alpha_sq, eta_arm**2, dark, ed, f=model.error_correction)
    return Rates(
        qber=key_error(gamma, dark, ed),
        sifted=both * 2.0 * key_gain(gamma, dark, ed),
        secret=max(0.0, secret),
    )
