"""Twin field after Curty, Azuma and Lo (npj Quantum Information 5, 64, arXiv:1807.07667).

Key from coherent states in basis 0; the phase error rate is bounded by the yields Y_nm of n and m
photons from the two ends, which phase-randomised test pulses bound:

    N e <= N_key sum_{j = 0, 1} [ sum_{n, m = j mod 2} c_n c_m sqrt(Y_nm) ]^2,
    c_n = exp(-a / 2) a^(n / 2) / sqrt(n!),    a = mean photon number of the key states,

for both detectors together (Minkowski's inequality), N_key pulse pairs with both ends in basis 0.
Y_00, Y_02, Y_20 and Y_11 are bounded from above by divided differences of the gains times e^(x+y),
in which every neglected term has the right sign; all other yields are taken as 1.

Finite size: each count is replaced by a Chernoff bound with failure probability eps_sec / 20, the
number of phase errors by a Bernstein bound, and 2 log2(1 / eps_sec) is subtracted. This is the
asymptotic proof with statistical margins, not a finite-key security proof against coherent attacks.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from qkd_adapters.postprocessing.estimate import (
    Counts,
    Estimate,
    conclude,
    entropy,
    ratio,
    verification_leak,
)
from qkd_adapters.postprocessing.settings import TwinField

_TERMS = 40  # of the sums over photon numbers; key states have far less than one photon

Gain = Callable[[int, int], tuple[float, float]]


def estimate(scheme: TwinField, counts: Counts, *, eps_sec: float, eps_cor: float) -> Estimate:
    """Raises ValueError unless there are three test intensities, falling."""
    test = scheme.intensities[1:]
    if len(test) != 3 or sorted(test, reverse=True) != list(test):
        raise ValueError("twin field needs three test intensities, the highest first")
    key = counts.sifted_z
    pairs = counts.pulses * scheme.probabilities[0] ** 2
    phase = plain = 0.5
    if key and counts.pairs:
        log = math.log(20 / eps_sec)
        mean = pairs * phase_errors(scheme, _gains(scheme, counts, log))
        phase = min(0.5, (mean + log / 3 + math.sqrt(log**2 / 9 + 2 * mean * log)) / key)
        plain = min(0.5, pairs * phase_errors(scheme, _gains(scheme, counts, 0.0)) / key)
    secret = key * (1 - entropy(phase)) - counts.leak
    secret -= 2 * math.log2(1 / eps_sec) + verification_leak(eps_cor)
    return conclude(
        Estimate(
            secret_bits=0,
            sifted=key,
            qber_z=ratio(counts.errors_z, key),
            single_photon=key,
            phase_error=phase,
            leak=counts.leak,
            penalty=max(0, int(key * (1 - entropy(plain)) - counts.leak - secret)),
        ),
        secret,
    )


def phase_errors(scheme: TwinField, gains: Gain) -> float:
    """Phase errors per pair of key pulses, an upper bound.

    ``gains(i, j)``: lower and upper bound on the probability that test pulses ``i`` and ``j`` make
    a detector click, times e^(x + y) of their intensities.
    """
    y00, y02, y20, y11 = _yields(scheme.intensities[1:], gains)
    a = scheme.intensities[0]
    c = [math.exp(-a / 2 + n / 2 * math.log(a) - math.lgamma(n + 1) / 2) for n in range(_TERMS)]
    even, odd = sum(c[::2]) ** 2, sum(c[1::2]) ** 2
    even -= c[0] * c[0] * (1 - math.sqrt(y00))
    even -= c[0] * c[2] * (2 - math.sqrt(y02) - math.sqrt(y20))
    odd -= c[1] * c[1] * (1 - math.sqrt(y11))
    return even**2 + odd**2


def _yields(test: tuple[float, ...], gains: Gain) -> tuple[float, float, float, float]:
    """Upper bounds on Y_00, Y_02, Y_20, Y_11."""
    high, middle, low = test
    grid = {(i, j): gains(i, j) for i in range(3) for j in range(3)}

    def second(bounds: list[tuple[float, float]]) -> float:
        """Upper bound on the yield of two photons of one end: a second divided difference."""
        (_, g_high), (g_middle, _), (_, g_low) = bounds
        upper = g_high / ((high - middle) * (high - low)) + g_low / ((middle - low) * (high - low))
        return 2 * (upper - g_middle / ((high - middle) * (middle - low)))

    mixed = grid[1, 1][1] - grid[1, 2][0] - grid[2, 1][0] + grid[2, 2][1]
    return (
        _share(grid[2, 2][1]),
        _share(second([grid[2, j] for j in range(3)])),
        _share(second([grid[i, 2] for i in range(3)])),
        _share(mixed / (middle - low) ** 2),
    )


def _gains(scheme: TwinField, counts: Counts, log: float) -> Gain:
    """Bounds from the counts; ``log`` is ln(1 / failure probability), 0 for none."""

    def gain(i: int, j: int) -> tuple[float, float]:
        sent = counts.pulses * scheme.probabilities[1 + i] * scheme.probabilities[1 + j]
        weight = math.exp(scheme.intensities[1 + i] + scheme.intensities[1 + j]) / sent
        n = counts.pairs[i][j]
        low = n - math.sqrt(2 * n * log)
        return weight * max(0.0, low), weight * (n + log + math.sqrt(2 * n * log + log**2))

    return gain


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))
