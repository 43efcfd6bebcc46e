"""CV-QKD: Gaussian modulation, reverse reconciliation, collective attacks, trusted receiver noise.

Channel parameters from the symbols given away, with Gaussian confidence intervals (Leverrier,
Grosshans, Grangier, PRA 81, 062343): the received quadrature is y = t x + z with t^2 = eta T and
Var z = 1 + v_el + eta T xi (heterodyne: t and the excess halved as the power is). The key length is

    l = n [ H(S) - chi_BE(T_low, xi_high) - margin ] - leak - 2 log2(1 / eps) - verification,

H(S) being the entropy of the sliced values, leak what reconciliation really disclosed, margin =
(2 d + 3) sqrt(log2(2 / eps) / n) for symbols of d bits (the same paper), and chi_BE the Holevo
bound of Lodewyck et al. (PRA 76, 042305) and Fossier et al. (J. Phys. B 42, 114014). Collective
attacks on Gaussian states; the extension to coherent attacks is not applied.
"""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

from qkd_adapters.postprocessing.estimate import (
    Estimate,
    Moments,
    conclude,
    ratio,
    verification_leak,
)
from qkd_adapters.postprocessing.settings import ContinuousVariable, Detection


def estimate(
    scheme: ContinuousVariable, moments: Moments, *, eps_sec: float, eps_cor: float
) -> Estimate:
    if moments.count < 100 or moments.xx <= 0 or moments.quadratures < 100:
        return conclude(Estimate(secret_bits=0, reason="too few symbols"), 0.0)
    per_symbol = 2 if scheme.detection is Detection.HETERODYNE else 1
    symbols = moments.quadratures / per_symbol
    share = eps_sec / 4
    t_low, xi_high, t_seen, xi_seen = channel(scheme, moments, share)
    gross = moments.quadratures * moments.entropy - moments.leak
    bits = scheme.slices * per_symbol
    margin = (2 * bits + 3) * math.sqrt(math.log2(2 / share) / symbols)
    # The entropy is that of the values seen, which may by chance be more than that of the source.
    margin += per_symbol * _entropy_margin(moments.quadratures, share)
    secret = gross - symbols * margin - 2 * math.log2(1 / share) - verification_leak(eps_cor)
    reason = ""
    if t_low > 0:
        secret -= symbols * holevo(scheme, t_low, xi_high)
    else:
        secret, reason = 0.0, "transmittance cannot be told from none"
    asymptotic = gross - symbols * holevo(scheme, t_seen, xi_seen) if t_seen > 0 else 0.0
    estimated = Estimate(
        secret_bits=0,
        reason=reason,
        sifted=moments.quadratures,
        single_photon=moments.quadratures,
        phase_error=0.0,
        leak=moments.leak,
        penalty=max(0, int(asymptotic - secret)),
        transmittance=t_seen,
        excess_noise=xi_seen,
        details={"transmittance_low": t_low, "excess_noise_high": xi_high},
    )
    if secret < 1 and not reason:
        why = f"excess noise up to {xi_high:.3f}, transmittance at least {t_low:.3f}: nothing left"
        return conclude(replace(estimated, reason=why), 0.0)
    return conclude(estimated, secret)


def channel(
    scheme: ContinuousVariable, moments: Moments, eps: float
) -> tuple[float, float, float, float]:
    """T at least, xi at most (each failing with ``eps``), then both as seen."""
    split = 2 if scheme.detection is Detection.HETERODYNE else 1
    slope = moments.xy / moments.xx
    noise = moments.yy - 2 * slope * moments.xy + slope**2 * moments.xx
    noise /= moments.count
    z = -NormalDist().inv_cdf(eps / 2)
    slope_low = max(0.0, slope - z * math.sqrt(noise / moments.xx))
    noise_high = noise * (1 + z * math.sqrt(2 / moments.count))

    def both(slope: float, noise: float) -> tuple[float, float]:
        transmittance = split * slope**2 / scheme.efficiency
        excess = noise - 1 - scheme.electronic_noise
        return transmittance, excess / slope**2 if slope > 0 else math.inf

    t_low, xi_high = both(slope_low, noise_high)
    t_seen, xi_seen = both(max(0.0, slope), noise)
    return t_low, max(0.0, xi_high), t_seen, xi_seen


def holevo(scheme: ContinuousVariable, transmittance: float, excess: float) -> float:
    """chi_BE in bits per symbol."""
    eta, noise, t = scheme.efficiency, scheme.electronic_noise, min(1.0, transmittance)
    v = scheme.modulation + 1
    line = 1 / t - 1 + max(0.0, excess)
    a = v**2 * (1 - 2 * t) + 2 * t + t**2 * (v + line) ** 2
    b = t**2 * (v * line + 1) ** 2
    root = math.sqrt(b)
    if scheme.detection is Detection.HOMODYNE:
        receiver = (1 - eta + noise) / eta
        whole = t * (v + line + receiver / t)
        c = (v * root + t * (v + line) + a * receiver) / whole
        d = root * (v + root * receiver) / whole
    else:
        receiver = (2 - eta + 2 * noise) / eta
        whole = t * (v + line + receiver / t)
        c = a * receiver**2 + b + 1 + 2 * receiver * (v * root + t * (v + line))
        c = (c + 2 * t * (v**2 - 1)) / whole**2
        d = ((v + root * receiver) / whole) ** 2
    before = _symplectic(a, b)
    after = _symplectic(c, d)
    return sum(map(_thermal, before)) - sum(map(_thermal, after))


def mutual_information(scheme: ContinuousVariable, transmittance: float, excess: float) -> float:
    """I_AB in bits per symbol."""
    split = 2 if scheme.detection is Detection.HETERODYNE else 1
    gain = scheme.efficiency * transmittance / split
    snr = gain * scheme.modulation / (1 + scheme.electronic_noise + gain * excess)
    return split / 2 * math.log2(1 + snr)


def beta(scheme: ContinuousVariable, moments: Moments) -> float:
    """Reconciliation efficiency that was reached: secret over mutual information."""
    _, _, t_seen, xi_seen = channel(scheme, moments, 0.5)
    per_symbol = 2 if scheme.detection is Detection.HETERODYNE else 1
    most = moments.quadratures / per_symbol * mutual_information(scheme, t_seen, xi_seen)
    return ratio(moments.quadratures * moments.entropy - moments.leak, most)


def _symplectic(a: float, b: float) -> tuple[float, float]:
    root = math.sqrt(max(0.0, a * a - 4 * b))
    return math.sqrt((a + root) / 2), math.sqrt(max(0.0, (a - root) / 2))


def _thermal(eigenvalue: float) -> float:
    x = max(0.0, (eigenvalue - 1) / 2)
    return 0.0 if x == 0 else (x + 1) * math.log2(x + 1) - x * math.log2(x)


def _entropy_margin(count: int, eps: float) -> float:
    """How far an empirical entropy of Gaussian values may be above that of the source.

    -log2 of a Gaussian density has standard deviation log2(e) / sqrt(2); central limit theorem.
    """
    return -NormalDist().inv_cdf(eps) * math.log2(math.e) / math.sqrt(2 * count)
