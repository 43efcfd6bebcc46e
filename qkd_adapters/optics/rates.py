"""Sifted and asymptotic secret rate of a link, with its own probabilities.

BB84: the key is made of everything sifted in Z, whatever its intensity, and X is spent on the phase
error: what the post-processing does. With endless data its bounds become those used here.
"""

from __future__ import annotations

import math
from typing import assert_never

from qkd_adapters.optics import continuous, entangled, twin_field
from qkd_adapters.optics import weak_coherent as wc
from qkd_adapters.optics.conditions import NEUTRAL, Conditions
from qkd_adapters.optics.model import LinkModel, Rates
from qkd_adapters.optics.pulses import Level, levels
from qkd_adapters.records import Protocol


def rates(model: LinkModel, conditions: Conditions = NEUTRAL) -> Rates:
    """Of any protocol. CV: see ``continuous.rates``."""
    match model.protocol:
        case Protocol.DECOY_BB84 | Protocol.BB84:
            return _weak_coherent(model, conditions)
        case Protocol.TWIN_FIELD:
            return twin_field.rates(model, conditions)
        case Protocol.BBM92:
            return entangled.rates(model, conditions)
        case Protocol.CV:
            return continuous.rates(model, conditions)
        case _:
            assert_never(model.protocol)


def _weak_coherent(model: LinkModel, conditions: Conditions) -> Rates:
    found = levels(model, conditions)
    weights = model.probabilities
    key_gain = math.fsum(p * level.gain for p, level in zip(weights, found, strict=True))
    wrong = math.fsum(p * level.wrong_z for p, level in zip(weights, found, strict=True))
    e_z = wrong / key_gain if key_gain > 0 else 0.5
    per_pulse = _secret(model, found, key_gain, e_z)
    sifted = model.clock_hz * model.p_z**2
    return Rates(qber=e_z, sifted=sifted * key_gain, secret=max(0.0, sifted * per_pulse))


def _secret(model: LinkModel, found: tuple[Level, ...], key_gain: float, e_z: float) -> float:
    leak = model.error_correction * key_gain * wc.h2(e_z)
    if model.protocol is Protocol.BB84:
        mu = model.intensities[0]
        multi = -math.expm1(-mu) - mu * math.exp(-mu)
        untagged = key_gain - multi
        if untagged <= 0.0:
            return 0.0
        return untagged * (1.0 - wc.h2(found[0].wrong_x / untagged)) - leak
    single = _single(model, found)
    tau0, tau1 = _photon_shares(model)
    return single.y0 * tau0 + single.y1 * tau1 * (1.0 - wc.h2(single.e1)) - leak


def _single(model: LinkModel, found: tuple[Level, ...]) -> wc.SinglePhoton:
    gains = [level.gain for level in found]
    wrongs = [level.wrong_x for level in found]
    match model.intensities:
        case (mu, nu):
            return wc.one_decoy((mu, nu), (gains[0], gains[1]), (wrongs[0], wrongs[1]))
        case (mu, nu1, nu2):
            return wc.two_decoys(
                (mu, nu1, nu2), (gains[0], gains[1], gains[2]), (wrongs[0], wrongs[1], wrongs[2])
            )
        case _:
            raise ValueError(f"{model.name}: one or two decoys")


def _photon_shares(model: LinkModel) -> tuple[float, float]:
    """Probabilities that a pulse holds no photon, and one."""
    pairs = list(zip(model.probabilities, model.intensities, strict=True))
    return (
        math.fsum(p * math.exp(-mu) for p, mu in pairs),
        math.fsum(p * mu * math.exp(-mu) for p, mu in pairs),
    )
