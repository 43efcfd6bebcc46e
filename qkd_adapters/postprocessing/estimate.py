"""What one block's counts are worth: types that all protocols share."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Counts of one intensity number in one block, both bases.

    ``tested``: sifted detections; ``errors``: of them wrong. Z errors are those that the
    reconciliation found and so exact.
    """

    sent_z: int = 0
    sent_x: int = 0
    tested_z: int = 0
    errors_z: int = 0
    tested_x: int = 0
    errors_x: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Everything public about one block of a protocol with clicks.

    ``reconciled``: whether ``errors_z`` and ``leak`` are what reconciliation found, or, where the
    block ended before it, guesses after the X basis.
    ``pairs``: twin field only, the test clicks by both ends' intensity numbers (row: sender).
    """

    pulses: int
    levels: tuple[Level, ...]
    leak: int  # bits that reconciliation disclosed
    reconciled: bool = True
    pairs: tuple[tuple[int, ...], ...] = ()

    @property
    def sifted_z(self) -> int:
        return sum(level.tested_z for level in self.levels)

    @property
    def sifted_x(self) -> int:
        return sum(level.tested_x for level in self.levels)

    @property
    def errors_z(self) -> int:
        return sum(level.errors_z for level in self.levels)

    @property
    def errors_x(self) -> int:
        return sum(level.errors_x for level in self.levels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """CV: sums over the given-away quadratures (x sent, y received), and the key symbols' own.

    ``quadratures``: number of kept quadratures; ``entropy``: of their sliced values, in bits per
    quadrature; ``leak``: bits disclosed about them.
    """

    count: int
    xx: float
    xy: float
    yy: float
    quadratures: int
    entropy: float
    leak: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """``secret_bits`` > 0 with an empty ``reason``, or 0 and why.

    ``single_photon``: lower bound on the sifted bits that came of single photons (0..n);
    ``phase_error``: upper bound on their phase error rate; ``leak`` as counted;
    ``penalty``: bits that finite statistics cost beyond the observed rates, all together.
    CV: ``transmittance`` and ``excess_noise`` as bounded; rates of errors are 0.
    """

    secret_bits: int
    reason: str = ""
    sifted: int = 0
    qber_z: float = 0.0
    qber_x: float = 0.0
    single_photon: int = 0
    phase_error: float = 0.5
    leak: int = 0
    penalty: int = 0
    transmittance: float | None = None
    excess_noise: float | None = None
    details: dict[str, float] = field(default_factory=dict)


def entropy(share: float) -> float:
    """Binary entropy h2 in bits; 1 beyond one half, because it bounds an uncertainty."""
    if share <= 0:
        return 0.0
    if share >= 0.5:
        return 1.0
    return -share * math.log2(share) - (1 - share) * math.log2(1 - share)


def ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0


def conclude(estimate: Estimate, length: float) -> Estimate:
    """``estimate`` with the secret bits that ``length`` allows, or why there are none."""
    bits = math.floor(length) if math.isfinite(length) else 0
    if bits > 0:
        return replace(estimate, secret_bits=bits)
    return replace(estimate, secret_bits=0, reason=estimate.reason or _why(estimate))


def _why(estimate: Estimate) -> str:
    if estimate.sifted == 0:
        return "no sifted bits"
    if estimate.single_photon <= 0:
        return "no bit is certain to come of a single photon"
    if estimate.phase_error >= 0.5:
        return "phase error rate cannot be bounded below one half"
    return (
        f"nothing is left of {estimate.sifted} sifted bits at QBER {estimate.qber_z:.2%},"
        f" phase error rate up to {estimate.phase_error:.2%}, {estimate.leak} bits of leak"
    )


def verification_leak(eps_cor: float) -> float:
    """Bits that the verification hash takes, log2(2 / eps_cor) in the proofs, at least our 64."""
    return max(64.0, math.log2(2 / eps_cor))
