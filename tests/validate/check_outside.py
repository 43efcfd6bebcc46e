"""An outside program beside ours: TNO's key rates (tno.quantum.communication.qkd_key_rate).

It computes the asymptotic rate of BB84 with a finite number of decoys by linear programming over
all yields, the best bound there is; ours are the closed formulas of Lim et al. and Rusca et al.,
valid and a little lower. So ours must not be above TNO's with two decoys, and not far below: 1 %
with two decoys; 20 % with one, which knows less. (With one decoy TNO's program gives no rate at
all: it does not use that half of the vacuum events are errors.) Gains and error rates are taken
from TNO's own model, so that its convention for dark counts makes no difference.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from qkd_adapters.postprocessing.decoy import one_decoy, two_decoys
from qkd_adapters.postprocessing.estimate import Counts, Level, entropy
from qkd_adapters.postprocessing.settings import DecoyBb84
from tests.validate.checks import Check, at_least, at_most

SOURCE = "tno.quantum.communication.qkd_key_rate 2.0.4, BB84AsymptoticKeyRateEstimate"
PULSES = 10**15
TWO = DecoyBb84(intensities=(0.5, 0.1, 0.001), probabilities=(0.5, 0.3, 0.2))
ONE = DecoyBb84(intensities=(0.5, 0.1), probabilities=(0.6, 0.4))
LOSSES = (0.0, 10.0, 20.0)


@cache
def _detector() -> Any:
    from tno.quantum.communication.qkd_key_rate.quantum import standard_detector

    return standard_detector.customise(
        dark_count_rate=1e-6,
        polarization_drift=math.asin(math.sqrt(0.015)),
        error_detector=0,
        efficiency_party=0.2,
    )


@cache
def theirs(scheme: DecoyBb84, loss_db: float) -> float:
    from tno.quantum.communication.qkd_key_rate.quantum.bb84 import BB84AsymptoticKeyRateEstimate

    rate = BB84AsymptoticKeyRateEstimate(
        detector=_detector(), number_of_decoy=len(scheme.intensities) - 1
    )
    return float(rate.compute_rate(mu=list(scheme.intensities), attenuation=loss_db))


@cache
def ours(scheme: DecoyBb84, loss_db: float) -> float:
    """Secret bits per signal pulse without statistical margins, error correction at the limit."""
    from tno.quantum.communication.qkd_key_rate.quantum.bb84 import compute_gain_and_error_rate

    gains, errors = compute_gain_and_error_rate(_detector(), list(scheme.intensities), loss_db)
    levels = []
    for p, gain, error in zip(scheme.probabilities, gains, errors, strict=True):
        clicks = round(PULSES * p * float(gain))
        wrong = round(clicks * float(error))
        levels.append(Level(tested_z=clicks, tested_x=clicks, errors_z=wrong, errors_x=wrong))
    counts = Counts(pulses=PULSES, levels=tuple(levels), leak=0)
    bounds = (two_decoys if len(scheme.intensities) == 3 else one_decoy)(scheme, counts, None)
    mean = sum(
        p * mu * math.exp(-mu)
        for p, mu in zip(scheme.probabilities, scheme.intensities, strict=True)
    )
    none = sum(
        p * math.exp(-mu) for p, mu in zip(scheme.probabilities, scheme.intensities, strict=True)
    )
    mu = scheme.intensities[0]
    single = bounds.single_z / (PULSES * mean) * mu * math.exp(-mu)
    vacuum = bounds.vacuum / (PULSES * none) * math.exp(-mu)
    secret = single * (1 - entropy(bounds.phase_error)) + vacuum
    return secret - float(gains[0]) * entropy(float(errors[0]))


def _pair(name: str, scheme: DecoyBb84, loss_db: float, least: float) -> tuple[Check, Check]:
    def ratio() -> float:
        return ours(scheme, loss_db) / theirs(TWO, loss_db)

    return (
        at_least(f"{name} at {loss_db:.0f} dB: ours over TNO's rate", least, ratio, source=SOURCE),
        at_most(f"{name} at {loss_db:.0f} dB: never above TNO's", 1.0005, ratio, source=SOURCE),
    )


CHECKS = (
    *(check for loss in LOSSES for check in _pair("two decoys", TWO, loss, 0.99)),
    *(check for loss in LOSSES for check in _pair("one decoy", ONE, loss, 0.8)),
)
