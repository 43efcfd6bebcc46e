"""Decoy-state BB84 with finite statistics: key from Z, phase error from X.

Two decoys (three intensities): Lim, Curty, Walenta, Xu, Zbinden, PRA 89, 022307 (arXiv:1311.7129),
equations 1 to 5 with bases exchanged, as collected in docs/qkd.md; every term is checked against
computed reference points only, not against the paper line by line.

One decoy (two intensities): Rusca et al. (arXiv:1801.03443) in the corrected form of Wiesemann et
al. (arXiv:2405.16578): Hoeffding bounds, all with failure probability eps_sec / 15, Serfling's
inequality for the phase error, and a last term of 4 log2(15 / (2^(1/4) eps_sec)). Taken from the
program that the authors publish with the paper, without the vacuum contribution, as its default
is. Not confirmed: the text of the paper itself, and whether its theorem, which is stated for a key
length fixed beforehand, carries over with these constants to a length computed per block, as here.
The same reservation holds for Lim's bound.

Intensity probabilities are those of the settings and taken to be the same in both bases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qkd_adapters.postprocessing.estimate import (
    Counts,
    Estimate,
    conclude,
    entropy,
    ratio,
    verification_leak,
)
from qkd_adapters.postprocessing.settings import DecoyBb84


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Numbers of events: lower bounds on vacuum and single photons in Z, phase error rate."""

    vacuum: float
    single_z: float
    single_x: float
    phase_error: float


def estimate(scheme: DecoyBb84, counts: Counts, *, eps_sec: float, eps_cor: float) -> Estimate:
    """Raises ValueError unless there are two or three intensities, falling."""
    intensities = scheme.intensities
    if len(intensities) not in {2, 3} or sorted(intensities, reverse=True) != list(intensities):
        raise ValueError("decoy states need two or three intensities, the highest first")
    if len(scheme.probabilities) != len(intensities) or len(counts.levels) != len(intensities):
        raise ValueError("one probability and one level per intensity")
    two = len(intensities) == 3
    final = 6 * math.log2(21 / eps_sec) if two else 4 * math.log2(15 / (2**0.25 * eps_sec))

    def length(eps: float | None) -> tuple[float, _Bounds]:
        bounds = (two_decoys if two else one_decoy)(scheme, counts, eps)
        secret = bounds.vacuum + bounds.single_z * (1 - entropy(bounds.phase_error))
        return secret - counts.leak, bounds

    secret, bounds = length(eps_sec)
    secret -= final + verification_leak(eps_cor)
    asymptotic = length(None)[0]
    return conclude(
        Estimate(
            secret_bits=0,
            sifted=counts.sifted_z,
            qber_z=ratio(counts.errors_z, counts.sifted_z),
            qber_x=ratio(counts.errors_x, counts.sifted_x),
            single_photon=int(bounds.single_z),
            phase_error=bounds.phase_error,
            leak=counts.leak,
            penalty=max(0, int(asymptotic - secret)),
            details={"vacuum": bounds.vacuum, "single_x": bounds.single_x},
        ),
        secret,
    )


def two_decoys(scheme: DecoyBb84, counts: Counts, eps: float | None) -> _Bounds:
    """Lim et al.; ``eps`` None: no statistical margins."""
    mu1, mu2, mu3 = scheme.intensities
    levels = counts.levels
    z = _weighted(scheme, [level.tested_z for level in levels], eps, 21)
    x = _weighted(scheme, [level.tested_x for level in levels], eps, 21)
    m = _weighted(scheme, [level.errors_x for level in levels], eps, 21)
    tau0, tau1 = _tau(scheme, 0), _tau(scheme, 1)

    def vacuum(n: _Range) -> float:
        return max(0.0, tau0 * (mu2 * n.low[2] - mu3 * n.high[1]) / (mu2 - mu3))

    def single(n: _Range) -> float:
        rest = (mu2**2 - mu3**2) / mu1**2 * (n.high[0] - vacuum(n) / tau0)
        over = mu1 * (mu2 - mu3) - mu2**2 + mu3**2
        return max(0.0, tau1 * mu1 * (n.low[1] - n.high[2] - rest) / over)

    single_z = min(single(z), float(counts.sifted_z))
    single_x = min(single(x), float(counts.sifted_x))
    errors = max(0.0, tau1 * (m.high[1] - m.low[2]) / (mu2 - mu3))
    phase = 0.5
    if single_z >= 1 and single_x >= 1:
        observed = errors / single_x
        phase = observed + _lim_margin(eps, observed, single_x, single_z)
    return _Bounds(min(vacuum(z), counts.sifted_z - single_z), single_z, single_x, min(0.5, phase))


def one_decoy(scheme: DecoyBb84, counts: Counts, eps: float | None) -> _Bounds:
    """Wiesemann et al.; ``eps`` None: no statistical margins."""
    mu1, mu2 = scheme.intensities
    levels = counts.levels
    tau0, tau1 = _tau(scheme, 0), _tau(scheme, 1)

    def single(tested: Sequence[int], errors: Sequence[int]) -> float:
        n = _weighted(scheme, tested, eps, 15)
        c = _weighted(scheme, errors, eps, 15)
        # Half of the vacuum events are errors: an upper bound on them from either intensity.
        vacuum = 2 * (tau0 * min(c.high) + _hoeffding(sum(tested), eps, 15))
        vacuum = min(max(0.0, vacuum), float(sum(tested)))
        rest = (mu1**2 - mu2**2) / (mu1**2 * tau0) * vacuum
        bound = n.low[1] - mu2**2 / mu1**2 * n.high[0] - rest
        return min(max(0.0, mu1 * tau1 / (mu2 * (mu1 - mu2)) * bound), float(sum(tested)))

    errors_x = [level.errors_x for level in levels]
    single_z = single([level.tested_z for level in levels], [level.errors_z for level in levels])
    single_x = single([level.tested_x for level in levels], errors_x)
    m = _weighted(scheme, errors_x, eps, 15)
    errors = max(0.0, tau1 / (mu1 - mu2) * (m.high[0] - m.low[1]))
    phase = 0.5
    if single_z >= 1 and single_x >= 1:
        phase = errors / single_x
        if eps is not None:
            both = (single_z + single_x) / (single_z * single_x)
            phase += math.sqrt(both * (single_x + 1) / single_x * math.log(15 / eps))
    return _Bounds(0.0, single_z, single_x, min(0.5, phase))


@dataclass(frozen=True, slots=True)
class _Range:
    low: tuple[float, ...]
    high: tuple[float, ...]


def _weighted(scheme: DecoyBb84, counts: Sequence[int], eps: float | None, terms: int) -> _Range:
    """e^k / p_k times the bounds on the counts per intensity k."""
    total = sum(counts)
    margin = _hoeffding(total, eps, terms)
    weights = [
        math.exp(mu) / p for mu, p in zip(scheme.intensities, scheme.probabilities, strict=True)
    ]
    pairs = list(zip(weights, counts, strict=True))
    if terms == 21:  # Lim et al. do not cut the bounds at what is possible
        return _Range(
            tuple(w * (n - margin) for w, n in pairs), tuple(w * (n + margin) for w, n in pairs)
        )
    return _Range(
        tuple(w * max(0.0, n - margin) for w, n in pairs),
        tuple(w * min(float(total), n + margin) for w, n in pairs),
    )


def _hoeffding(total: float, eps: float | None, terms: int) -> float:
    return 0.0 if eps is None else math.sqrt(total / 2 * math.log(terms / eps))


def _tau(scheme: DecoyBb84, photons: int) -> float:
    """Probability of a pulse with so many photons, over all intensities."""
    return sum(
        p * math.exp(-mu) * mu**photons / math.factorial(photons)
        for mu, p in zip(scheme.intensities, scheme.probabilities, strict=True)
    )


def _lim_margin(eps: float | None, rate: float, tested: float, key: float) -> float:
    """gamma of Lim et al.; a rate below one error in the test is taken as one."""
    if eps is None or rate >= 0.5:
        return 0.0
    b = max(rate, 1 / tested)
    if b >= 0.5:
        return 0.5
    over = (tested + key) / (tested * key)
    return math.sqrt(
        over * (1 - b) * b / math.log(2) * math.log2(over / ((1 - b) * b) * 21**2 / eps**2)
    )
