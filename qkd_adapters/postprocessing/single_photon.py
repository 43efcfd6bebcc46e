"""BB84 without decoys, and BBM92: what is not tagged counts as a single photon.

BBM92: Tomamichel, Lim, Gisin, Renner (Nature Communications 3, 634, arXiv:1103.4130): with n key
bits, k test bits and test error rate Q,
    l = n [1 - h2(Q + margin)] - leak - log2(2 / (eps_s^2 eps_cor)),
    margin = sqrt( (n + k)(k + 1) / (n k^2) ln(2 / eps_s) ),
with the measured Q in place of the tolerance that the theorem fixes beforehand: a length per block.
The source is not trusted; double clicks must have been given a random bit by the device.

Plain BB84: Gottesman, Lo, Lütkenhaus, Preskill (quant-ph/0212066). Every pulse with more than one
photon is tagged, all of them are assumed to have been detected, and every test error to have hit an
untagged bit. The number of tagged pulses is bounded by Bernstein's inequality; the untagged bits
are then treated as above. That composition of GLLP with the finite-key bound is ours, in the usual
manner; we know of no publication that states it with these constants.
"""

from __future__ import annotations

import math

from qkd_adapters.postprocessing.estimate import (
    Counts,
    Estimate,
    conclude,
    entropy,
    ratio,
    verification_leak,
)
from qkd_adapters.postprocessing.settings import PlainBb84


def estimate_pairs(counts: Counts, *, eps_sec: float, eps_cor: float) -> Estimate:
    return _estimate(counts, (0.0, 0.0), (0.0, 0.0), eps_sec, eps_cor)


def estimate_plain(
    scheme: PlainBb84, counts: Counts, *, eps_sec: float, eps_cor: float
) -> Estimate:
    share = eps_sec / 4  # two counts of tagged pulses; the rest is the untagged bits'
    multi = -math.expm1(-scheme.mu) - scheme.mu * math.exp(-scheme.mu)
    expected = (
        sum(level.sent_z for level in counts.levels) * multi * scheme.receiver_z,
        sum(level.sent_x for level in counts.levels) * multi * (1 - scheme.receiver_z),
    )
    if not all(expected):
        return conclude(
            Estimate(secret_bits=0, sifted=counts.sifted_z, reason="number of sent pulses unknown"),
            0.0,
        )
    bounded = (_bernstein(expected[0], share), _bernstein(expected[1], share))
    return _estimate(counts, expected, bounded, eps_sec / 2, eps_cor)


def _estimate(
    counts: Counts,
    expected: tuple[float, float],
    tagged: tuple[float, float],
    eps_sec: float,
    eps_cor: float,
) -> Estimate:
    """``tagged``: upper bounds in Z and X; ``expected``: what they are without margins."""
    key, test = counts.sifted_z - tagged[0], counts.sifted_x - tagged[1]
    phase = 0.5
    if key >= 1 and test >= 1:
        margin = math.sqrt((key + test) * (test + 1) / (key * test**2) * math.log(2 / eps_sec))
        phase = min(0.5, counts.errors_x / test + margin)
    secret = max(0.0, key) * (1 - entropy(phase)) - counts.leak
    secret -= math.log2(1 / eps_sec**2) + verification_leak(eps_cor)
    plain_key, plain_test = counts.sifted_z - expected[0], counts.sifted_x - expected[1]
    plain = max(0.0, plain_key) * (1 - entropy(ratio(counts.errors_x, plain_test))) - counts.leak
    return conclude(
        Estimate(
            secret_bits=0,
            sifted=counts.sifted_z,
            qber_z=ratio(counts.errors_z, counts.sifted_z),
            qber_x=ratio(counts.errors_x, counts.sifted_x),
            single_photon=max(0, int(key)),
            phase_error=phase,
            leak=counts.leak,
            penalty=max(0, int(plain - secret)),
            details={"tagged": tagged[0]},
        ),
        secret,
    )


def _bernstein(mean: float, eps: float) -> float:
    """Upper bound on a binomial count of that mean, failing with probability ``eps``."""
    log = math.log(1 / eps)
    return mean + log / 3 + math.sqrt(log**2 / 9 + 2 * mean * log)
