"""Sifted and asymptotic secret rate of a weak-coherent link, with its own probabilities.

The key is made of everything sifted in Z, whatever its intensity, and X is spent on the phase
error: what the post-processing does. With endless data its bounds become those used here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qkd_adapters.optics import weak_coherent as wc
from qkd_adapters.optics.conditions import NEUTRAL, Conditions
from qkd_adapters.optics.model import LinkModel
from qkd_adapters.optics.pulses import Level, levels
from qkd_adapters.records import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Bits per second, and the error rate of the sifted key."""

    qber: float
    sifted: float
    secret: float  # asymptotic


def rates(model: LinkModel, conditions: Conditions = NEUTRAL) -> Rates:
    """Of decoy or plain BB84. Raises ValueError for another protocol."""
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
    match model.protocol:
        case Protocol.BB84:
            mu = model.intensities[0]
            e_x = found[0].wrong_x / found[0].gain
            multi = -math.expm1(-mu) - mu * math.exp(-mu)
            untagged = key_gain - multi
            if untagged <= 0.0:
                return 0.0
            return untagged * (1.0 - wc.h2(e_x * key_gain / untagged)) - leak
        case Protocol.DECOY_BB84:
            single = _single(model, found)
            tau0, tau1 = _photon_shares(model)
            from_one = single.y1 * tau1 * (1.0 - wc.h2(single.e1))
            return single.y0 * tau0 + from_one - leak
        case _:
            raise ValueError(f"{model.name}: {model.protocol} has no weak-coherent rate")


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
