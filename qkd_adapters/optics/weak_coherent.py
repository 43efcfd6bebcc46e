"""Weak coherent pulses: gains, error rates and asymptotic key rates of BB84.

Ma, Qi, Zhao, Lo, Phys. Rev. A 72, 012326 (quant-ph/0503005), and for finite numbers of decoys
the bounds given there. Gains and yields are probabilities per pulse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

E0 = 0.5  # error rate of a click that has nothing to do with the sender


def h2(probability: float) -> float:
    """Binary entropy; 1 above one half, where no key is left."""
    if probability <= 0.0:
        return 0.0
    if probability >= 0.5:
        return 1.0
    return -probability * math.log2(probability) - (1 - probability) * math.log2(1 - probability)


def gain(mu: float, eta: float, y0: float) -> float:
    """Q_mu: probability of a click."""
    return 1.0 - (1.0 - y0) * math.exp(-eta * mu)


def errors(mu: float, eta: float, y0: float, ed: float) -> float:
    """E_mu Q_mu: probability of a click with the wrong bit."""
    return E0 * y0 + ed * -math.expm1(-eta * mu)


def qber(mu: float, eta: float, y0: float, ed: float) -> float:
    """E_mu."""
    return errors(mu, eta, y0, ed) / gain(mu, eta, y0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SinglePhoton:
    """What is known of pulses that held one photon."""

    y0: float  # lower bound
    y1: float  # lower bound
    e1: float  # upper bound


def infinite_decoys(eta: float, y0: float, ed: float) -> SinglePhoton:
    y1 = y0 + eta - y0 * eta
    return SinglePhoton(y0=y0, y1=y1, e1=(E0 * y0 + ed * eta) / y1)


def one_decoy(
    mus: tuple[float, float], gains: tuple[float, float], wrongs: tuple[float, float]
) -> SinglePhoton:
    """Signal and one weak decoy, no vacuum (the limit of arXiv:1801.03443 for endless data).

    ``wrongs`` are E Q. The vacuum yield is bounded from above by the errors it makes, and by
    nothing from below.
    """
    (mu, nu), (q_mu, q_nu) = mus, gains
    y0_upper = min(w * math.exp(m) / E0 for m, w in zip(mus, wrongs, strict=True))
    y1 = (
        mu
        / (mu * nu - nu * nu)
        * (
            q_nu * math.exp(nu)
            - q_mu * math.exp(mu) * (nu / mu) ** 2
            - (mu**2 - nu**2) / mu**2 * y0_upper
        )
    )
    if y1 <= 0.0:
        return SinglePhoton(y0=0.0, y1=0.0, e1=0.5)
    # Errors of the two levels apart: the vacuum's errors cancel (Lim et al., v_Z1).
    single = (wrongs[0] * math.exp(mu) - wrongs[1] * math.exp(nu)) / (mu - nu)
    return SinglePhoton(y0=0.0, y1=y1, e1=min(0.5, max(single, 0.0) / y1))


def two_decoys(
    mus: tuple[float, float, float],
    gains: tuple[float, float, float],
    wrongs: tuple[float, float, float],
) -> SinglePhoton:
    """Signal and two decoys, the second often vacuum. ``wrongs`` are E Q."""
    mu, nu1, nu2 = mus
    q_mu, q_1, q_2 = (q * math.exp(m) for q, m in zip(gains, mus, strict=True))
    w_1, w_2 = (w * math.exp(m) for w, m in zip(wrongs[1:], mus[1:], strict=True))
    y0 = max(0.0, (nu1 * q_2 - nu2 * q_1) / (nu1 - nu2))
    y1 = (
        mu
        / (mu * nu1 - mu * nu2 - nu1**2 + nu2**2)
        * (q_1 - q_2 - (nu1**2 - nu2**2) / mu**2 * (q_mu - y0))
    )
    if y1 <= 0.0:
        return SinglePhoton(y0=y0, y1=0.0, e1=0.5)
    return SinglePhoton(y0=y0, y1=y1, e1=min(0.5, max(w_1 - w_2, 0.0) / ((nu1 - nu2) * y1)))


def gllp(
    mu: float, q_mu: float, e_mu: float, single: SinglePhoton, *, f: float, q: float = 0.5
) -> float:
    """R: secret bits per pulse; negative where there are none."""
    q1 = single.y1 * mu * math.exp(-mu)
    return q * (-q_mu * f * h2(e_mu) + q1 * (1.0 - h2(single.e1)))


def gllp_no_decoy(mu: float, q_mu: float, e_mu: float, *, f: float, q: float = 0.5) -> float:
    """R without decoys: every multi-photon pulse is taken for tapped."""
    multi = -math.expm1(-mu) - mu * math.exp(-mu)
    untagged = 1.0 - multi / q_mu
    if untagged <= 0.0:
        return -q * q_mu * f * h2(e_mu)
    return q * q_mu * (-f * h2(e_mu) + untagged * (1.0 - h2(e_mu / untagged)))


def best_mu(eta: float, y0: float, ed: float, *, f: float) -> float:
    """The mean photon number with the highest rate without decoys, by golden section."""
    low, high = 1e-4 * eta, min(2.0 * eta + 1e-6, 1.0)
    ratio = (math.sqrt(5.0) - 1.0) / 2.0

    def rate(mu: float) -> float:
        return gllp_no_decoy(mu, gain(mu, eta, y0), qber(mu, eta, y0, ed), f=f)

    for _ in range(60):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if rate(left) < rate(right):
            low = left
        else:
            high = right
    return (low + high) / 2.0
