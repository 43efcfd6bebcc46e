"""BB84 with weak coherent pulses, with or without decoys: what one pulse can become.

Bob chooses a basis and has two detectors in it. A double click is one that both make; he then
takes a random bit (squashing). Attacks act on the probabilities as an eavesdropper would who
knows the link: she keeps everything she can keep and moves only what her attack must move.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from qkd_adapters.optics.cells import Cells, Codebook, arrival_of, code_axes
from qkd_adapters.optics.conditions import Conditions
from qkd_adapters.optics.detector import yield_of_dark
from qkd_adapters.optics.fibre import transmittance
from qkd_adapters.optics.model import LinkModel
from qkd_adapters.optics.weak_coherent import E0

EVE_ERROR = 0.005  # error rate of an eavesdropper's own receiver
OUTCOMES = 8  # Alice's bit, single or double click, Bob's bit


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Probabilities per pulse of one intensity."""

    gain: float  # Q, double clicks included
    wrong_z: float  # E Q in Z, where Alice was in Z too; half of the double clicks are wrong
    wrong_x: float
    double: float  # both detectors, bases equal
    double_crossed: float  # both detectors, bases unequal

    def scaled(self, factor: float) -> Level:
        return Level(
            gain=self.gain * factor,
            wrong_z=self.wrong_z * factor,
            wrong_x=self.wrong_x * factor,
            double=self.double * factor,
            double_crossed=self.double_crossed * factor,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Optics:
    """The link at this moment: efficiency, noise, misalignment."""

    eta: float
    dark: float  # per detector and gate, everything that is not the sender's light
    ed_z: float
    ed_x: float
    mus: tuple[float, ...]

    @property
    def y0(self) -> float:
        return yield_of_dark(self.dark)


def optics(model: LinkModel, conditions: Conditions) -> Optics:
    """The model with its deviations applied, attacks on single pulses left out."""
    detector = model.detector
    in_gate = detector.in_gate(conditions.sync_offset_ps) / detector.in_gate(0.0)
    arriving = model.eta * transmittance(conditions.loss_db) * conditions.gain_factor
    mus = tuple(mu * conditions.mu_factor for mu in model.intensities)
    mean_mu = math.fsum(p * mu for p, mu in zip(model.probabilities, mus, strict=True))
    # Light that misses its own gate falls into a neighbour's, where gates are open that long.
    open_share = min(1.0, detector.gate_ps * 1e-12 * model.clock_hz)
    strays = arriving * mean_mu * max(0.0, 1.0 - in_gate) * open_share
    noise = model.raman_noise + conditions.y0_add + strays
    ed = model.ed + conditions.ed_add
    return Optics(
        eta=min(1.0, arriving * in_gate),
        dark=min(0.5, detector.dark * conditions.y0_factor + noise / 2.0),
        ed_z=min(0.5, max(0.0, ed)),
        ed_x=min(0.5, max(0.0, ed + conditions.ed_add_x)),
        mus=mus,
    )


def levels(model: LinkModel, conditions: Conditions) -> tuple[Level, ...]:
    """Per intensity, with attacks, afterpulses and dead time."""
    now = optics(model, conditions)
    found = [_honest(now, mu) for mu in now.mus]
    if conditions.pns > 0.0:
        found = _split(now, split_share(model, conditions), found)
    if conditions.blinded:
        found = _blind(now, found)
    if conditions.intercept > 0.0:
        found = [_intercept(level, conditions.intercept) for level in found]
    found = [_afterpulse(level, model.detector.afterpulse) for level in found]
    clicks = math.fsum(p * one.gain for p, one in zip(model.probabilities, found, strict=True))
    live = model.detector.live_fraction(clicks * model.clock_hz)
    return tuple(level.scaled(live) for level in found)


def _honest(now: Optics, mu: float) -> Level:
    light = -math.expm1(-now.eta * mu)
    y0 = now.y0

    def click(share: float) -> float:  # of the detector that gets ``share`` of the light
        return 1.0 - (1.0 - now.dark) * math.exp(-now.eta * mu * share)

    return Level(
        gain=y0 + light - y0 * light,
        wrong_z=E0 * y0 + now.ed_z * light,
        wrong_x=E0 * y0 + now.ed_x * light,
        double=click(now.ed_z) * click(1.0 - now.ed_z),
        double_crossed=click(0.5) ** 2,
    )


def _with_gain(level: Level, gain: float, now: Optics) -> Level:
    """As much light as makes ``gain``; double clicks as they were."""
    light = max(0.0, (gain - now.y0) / (1.0 - now.y0))
    return Level(
        gain=gain,
        wrong_z=E0 * now.y0 + now.ed_z * light,
        wrong_x=E0 * now.y0 + now.ed_x * light,
        double=level.double,
        double_crossed=level.double_crossed,
    )


def split_share(model: LinkModel, conditions: Conditions) -> float:
    """The share of single photons that photon-number splitting really blocks here.

    What is lost with the singles comes back through pulses of two photons and more, of which
    one is kept and the rest sent on without loss. Bob's own loss bounds what that can make up
    for; beyond it fewer singles are blocked than asked for, since a falling gain would show.
    """
    now = optics(model, conditions)
    most = model.eta_bob * model.eta_det * (1.0 - now.y0) + now.y0
    p0, p1, multi = _photons(now.mus[0])
    y1 = now.y0 + now.eta - now.y0 * now.eta
    honest = _honest(now, now.mus[0]).gain
    affordable = (p0 * now.y0 + p1 * y1 + multi * most - honest) / (p1 * (y1 - now.y0))
    return min(conditions.pns, max(0.0, affordable))


def _split(now: Optics, share: float, honest: Sequence[Level]) -> list[Level]:
    """Photon-number splitting: block ``share`` of the single photons, hold the signal's gain."""
    p0, p1, multi = _photons(now.mus[0])
    y1 = now.y0 + now.eta - now.y0 * now.eta
    blocked = y1 - (y1 - now.y0) * share
    forwarded = (honest[0].gain - p0 * now.y0 - p1 * blocked) / multi
    found = []
    for mu, level in zip(now.mus, honest, strict=True):
        p0, p1, multi = _photons(mu)
        gain = p0 * now.y0 + p1 * blocked + multi * forwarded
        found.append(_with_gain(level, gain, now))
    return found


def _photons(mu: float) -> tuple[float, float, float]:
    """Probabilities of none, one, and more photons."""
    none, one = math.exp(-mu), mu * math.exp(-mu)
    return none, one, -math.expm1(-mu) - one


def _blind(now: Optics, honest: Sequence[Level]) -> list[Level]:
    """Detector blinding: Bob clicks only where Eve did and chose the same basis.

    No dark counts and no double clicks are left; the bright light goes where Eve wants it, so
    that the errors are those of her own receiver. She holds the signal's gain.
    """
    hold = honest[0].gain / (honest[0].gain - now.y0) if honest[0].gain > now.y0 else 0.0
    found = []
    for level in honest:
        gain = max(0.0, level.gain - now.y0) * hold
        wrong = gain * min(EVE_ERROR, now.ed_z / 2.0)
        found.append(Level(gain=gain, wrong_z=wrong, wrong_x=wrong, double=0.0, double_crossed=0.0))
    return found


def _intercept(level: Level, share: float) -> Level:
    """Intercept and resend: in the wrong basis half of the time, and then wrong every other time.

    She has a better fibre and holds the gain and the double clicks.
    """

    def after(wrong: float) -> float:
        return wrong * (1.0 - share) + share * (level.gain / 4.0 + wrong / 2.0)

    return Level(
        gain=level.gain,
        wrong_z=after(level.wrong_z),
        wrong_x=after(level.wrong_x),
        double=level.double,
        double_crossed=level.double_crossed,
    )


def _afterpulse(level: Level, probability: float) -> Level:
    """Clicks that follow clicks, with a random bit (the convention of arXiv:1311.7129)."""
    more = level.gain * probability
    return Level(
        gain=min(1.0, level.gain + more),
        wrong_z=level.wrong_z + E0 * more,
        wrong_x=level.wrong_x + E0 * more,
        double=level.double,
        double_crossed=level.double_crossed,
    )


def cells(model: LinkModel, conditions: Conditions) -> Cells:
    """Cells are (intensity, Alice's basis, Bob's basis)."""
    now = optics(model, conditions)
    found = levels(model, conditions)
    ratio = conditions.efficiency_ratio
    weights = (2.0 * ratio / (1.0 + ratio), 2.0 / (1.0 + ratio))
    bits = (0.5 + conditions.bit_bias, 0.5 - conditions.bit_bias)
    table: list[list[float]] = []
    for level in found:
        crossed = _outcomes(level.gain, level.gain / 2.0, level.double_crossed, bits, weights)
        table += [
            _outcomes(level.gain, level.wrong_z, level.double, bits, weights),
            crossed,
            crossed,
            _outcomes(level.gain, level.wrong_x, level.double, bits, weights),
        ]
    alice_z = model.p_z
    bob_z = min(1.0, max(0.0, model.p_z + conditions.basis_bias))
    bases = np.outer((alice_z, 1.0 - alice_z), (bob_z, 1.0 - bob_z)).ravel()
    intensity, alice_basis, _ = code_axes(len(found), 2, 2)
    light = math.fsum(
        share * -math.expm1(-now.eta * mu)
        for share, mu in zip(model.probabilities, now.mus, strict=True)
    )
    noise = 0.0 if conditions.blinded else now.y0 / (now.y0 + light)
    return Cells(
        shares=np.outer(model.probabilities, bases).ravel(),
        outcomes=np.array(table),
        codebook=codebook(len(found)),
        arrival=arrival_of(model, conditions, noise),
        levels=len(found),
        cell_level=intensity,
        cell_basis=alice_basis,
    )


def _outcomes(
    gain: float, wrong: float, double: float, bits: Sequence[float], weights: Sequence[float]
) -> list[float]:
    """Probabilities of (Alice's bit, single or double, Bob's bit)."""
    wrong_single = max(0.0, wrong - double / 2.0)
    right_single = max(0.0, gain - double - wrong_single)
    row = []
    for sent, chance in enumerate(bits):
        for seen in (0, 1):
            single = right_single if seen == sent else wrong_single
            row.append(min(1.0, chance * single * weights[seen]))
        row += [chance * double / 2.0] * 2
    return row


@lru_cache(maxsize=8)
def codebook(intensities: int) -> Codebook:
    intensity, alice_basis, bob_basis, sent, double, seen = code_axes(intensities, 2, 2, 2, 2, 2)
    matched = alice_basis == bob_basis
    detectors = np.zeros((len(sent), 4), dtype=np.uint8)
    codes = np.arange(len(sent))
    detectors[codes, 2 * bob_basis + seen] = 1
    detectors[codes, 2 * bob_basis + (1 - seen)] |= double
    return Codebook(
        outcomes=OUTCOMES,
        alice={"basis": alice_basis, "bit": sent, "intensity": intensity},
        bob={"basis": bob_basis, "bit": seen},
        level=intensity,
        sifted=np.where(matched, 1 + alice_basis, 0).astype(np.uint8),
        error=(matched & (sent != seen)).astype(np.uint8),
        double=double,
        detectors=detectors,
    )
