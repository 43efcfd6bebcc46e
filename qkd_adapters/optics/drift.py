"""Benign change: what a link does by itself, over minutes and over days.

Slow wandering is an Ornstein-Uhlenbeck process (an AR(1) in steps of any length), the day is a
sine, and wind shakes an aerial fibre in gusts: polarisation and loss move together and only one
way, since a calm fibre is the best one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qkd_adapters.optics.attacks import DARK_DOUBLES_EVERY
from qkd_adapters.optics.conditions import Conditions, compose
from qkd_adapters.optics.model import LinkModel
from qkd_adapters.optics.satellite import Pass

DAY = 86_400.0  # s


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How much of each. Standard deviations and amplitudes; times in seconds."""

    help: str
    ed: float = 2e-4  # wandering of the misalignment
    ed_time: float = 600.0
    db: float = 0.005  # wandering of the loss
    db_time: float = 1800.0
    kelvin: float = 0.1  # wandering of the devices' temperature
    kelvin_time: float = 3600.0
    day_ed: float = 0.0
    day_db: float = 0.0
    day_kelvin: float = 0.0
    gust_ed: float = 0.0  # misalignment at a gust of strength 1
    gust_db: float = 0.0
    gust_time: float = 90.0


PROFILES: Mapping[str, Profile] = {
    "stationary": Profile(help="buried fibre, devices in an air-conditioned room"),
    "diurnal": Profile(
        help="as stationary, and the error rate swings by 0.2 % over the day",
        day_ed=2e-3,
        day_db=0.05,
        day_kelvin=1.5,
    ),
    "aerial": Profile(
        help="fibre on poles: gusts turn the polarisation and bend the fibre",
        ed=4e-4,
        db=0.01,
        day_ed=1e-3,
        day_db=0.05,
        gust_ed=4e-3,
        gust_db=0.08,
    ),
    "temperature": Profile(
        help="devices in a room without air conditioning",
        kelvin=3.0,
        day_kelvin=4.0,
        day_ed=5e-4,
    ),
}


def drift(
    profile: str, rng: np.random.Generator, model: LinkModel | None = None, *, strength: float = 1.0
) -> Drift:
    """For a link; a satellite link passes over its station again and again.

    Raises ValueError.
    """
    passing = None
    if model is not None and model.downlink is not None:
        gate = model.detector.gate_ps * 1e-12
        passing = Pass(model.downlink, gate_s=gate, efficiency=model.eta_det, rng=rng)
    return Drift(profile, rng, strength=strength, passing=passing)


class Drift:
    """The conditions along one run of a profile. The same seed gives the same run."""

    def __init__(
        self,
        profile: str,
        rng: np.random.Generator,
        *,
        strength: float = 1.0,
        phase: float = 0.0,
        passing: Pass | None = None,
    ) -> None:
        """``strength`` scales all of it; ``phase`` in seconds of the day. Raises ValueError."""
        if profile not in PROFILES:
            raise ValueError(f"no drift profile {profile!r}; there are {', '.join(PROFILES)}")
        if not 0.0 <= strength <= 20.0:
            raise ValueError(f"strength {strength:g} is not between 0 and 20")
        self.profile = PROFILES[profile]
        self._rng = rng
        self._strength = strength
        self._phase = phase
        self._pass = passing
        self._time: float | None = None
        self._state: list[float] = rng.standard_normal(4).tolist()  # ed, db, kelvin, wind

    def conditions(self, time_s: float) -> Conditions:
        """At ``time_s`` from the start. Call with times that do not fall."""
        profile = self.profile
        self._advance(time_s)
        ed, loss, kelvin, wind = self._state
        day = math.sin(2.0 * math.pi * (time_s + self._phase) / DAY)
        gust = max(0.0, wind) ** 2
        warmer = self._strength * (profile.kelvin * kelvin + profile.day_kelvin * day)
        misaligned = profile.ed * ed + profile.day_ed * day + profile.gust_ed * gust
        lost = profile.db * loss + profile.day_db * day + profile.gust_db * gust
        own = Conditions(
            ed_add=self._strength * misaligned,
            loss_db=self._strength * lost,
            temperature=warmer,
            y0_factor=2.0 ** (warmer / DARK_DOUBLES_EVERY),
        )
        return own if self._pass is None else compose(own, self._pass.conditions(time_s))

    def _advance(self, time_s: float) -> None:
        passed = 0.0 if self._time is None else max(0.0, time_s - self._time)
        self._time = time_s
        if passed == 0.0:
            return
        profile = self.profile
        times = (profile.ed_time, profile.db_time, profile.kelvin_time, profile.gust_time)
        draws = self._rng.standard_normal(4).tolist()
        for number, (scale, draw) in enumerate(zip(times, draws, strict=True)):
            kept = math.exp(-passed / scale)
            self._state[number] = kept * self._state[number] + math.sqrt(1 - kept * kept) * draw
