"""A satellite pass: where the satellite is, what the downlink loses, what daylight and clouds do.

Circular orbit over a spherical Earth that does not turn during the pass. Long-term beam spread
by turbulence is left out: on a downlink it is small beside diffraction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qkd_adapters.optics.conditions import CUT_DB, Conditions
from qkd_adapters.optics.fibre import LIGHT, PLANCK, db, transmittance

EARTH_RADIUS = 6371.0  # km, mean
EARTH_GM = 398_600.441_8  # km^3/s^2 (WGS 84)


@dataclass(frozen=True, slots=True, kw_only=True)
class Downlink:
    """Orbit, telescopes and sky of one pass over one ground station."""

    altitude_km: float
    max_elevation_deg: float
    min_elevation_deg: float = 10.0
    divergence_urad: float  # full angle of the beam at 1/e^2
    aperture_m: float  # diameter of the receiving telescope
    zenith_db: float  # atmosphere straight up
    pointing_urad: float = 0.0  # per-axis standard deviation of the pointing
    receiver_db: float = 0.0  # telescope and coupling
    wavelength_nm: float = 850.0
    # Background: brightness of the sky in W/(m^2 sr um), about 1.5e-6 on a moonless night,
    # 1.5e-3 under a full moon, 1.5 on a clear day.
    sky: float = 1.5e-6
    field_urad: float = 100.0  # full angle of the receiver's field of view
    filter_nm: float = 1.0
    # A two-state weather: mean durations in seconds.
    clear_s: float = 5400.0
    cloudy_s: float = 5400.0
    cloud_db: float = 30.0
    revisit_s: float = 5700.0  # from one rise to the next: about one orbit

    @property
    def angular_speed(self) -> float:
        """rad/s around the Earth's centre."""
        return math.sqrt(EARTH_GM / (EARTH_RADIUS + self.altitude_km) ** 3)

    def central_angle(self, elevation_rad: float) -> float:
        """Between station and sub-satellite point, seen from the Earth's centre."""
        orbit = EARTH_RADIUS + self.altitude_km
        return math.acos(EARTH_RADIUS * math.cos(elevation_rad) / orbit) - elevation_rad

    def position(self, time_s: float) -> tuple[float, float]:
        """Range in km and elevation in rad, ``time_s`` after the highest point (or before)."""
        orbit = EARTH_RADIUS + self.altitude_km
        lowest = self.central_angle(math.radians(self.max_elevation_deg))
        cosine = math.cos(lowest) * math.cos(self.angular_speed * time_s)
        distance = math.sqrt(EARTH_RADIUS**2 + orbit**2 - 2.0 * EARTH_RADIUS * orbit * cosine)
        return distance, math.asin((orbit * cosine - EARTH_RADIUS) / distance)

    @property
    def duration_s(self) -> float:
        """How long the satellite stands above the minimum elevation."""
        lowest = self.central_angle(math.radians(self.max_elevation_deg))
        edge = self.central_angle(math.radians(self.min_elevation_deg))
        if edge <= lowest:
            return 0.0
        return 2.0 * math.acos(math.cos(edge) / math.cos(lowest)) / self.angular_speed

    def geometric_db(self, distance_km: float) -> float:
        """Diffraction: the part of a Gaussian beam that misses the telescope."""
        radius = self.divergence_urad * 1e-6 * distance_km * 1e3 / 2.0
        return db(-math.expm1(-((self.aperture_m / radius) ** 2) / 2.0))

    def atmosphere_db(self, elevation_rad: float) -> float:
        return self.zenith_db * airmass(elevation_rad)

    @property
    def pointing_db(self) -> float:
        """Mean loss of a Gaussian beam whose direction jitters."""
        spread = (4.0 * self.pointing_urad / self.divergence_urad) ** 2
        return 10.0 * math.log10(1.0 + spread)

    def loss_db(self, time_s: float) -> float:
        """All of it but the receiver's detectors; a cut below the minimum elevation."""
        distance, elevation = self.position(time_s)
        if abs(time_s) > self.duration_s / 2.0:
            return CUT_DB
        return (
            self.geometric_db(distance)
            + self.atmosphere_db(elevation)
            + self.pointing_db
            + self.receiver_db
        )

    def background(self, gate_s: float, efficiency: float) -> float:
        """Detected photons of the sky per gate; ``efficiency`` of the detectors."""
        solid_angle = math.pi * (self.field_urad * 1e-6) ** 2 / 4.0
        area = math.pi * self.aperture_m**2 / 4.0
        energy = self.sky * solid_angle * area * self.filter_nm * 1e-3 * gate_s
        photons = energy * self.wavelength_nm * 1e-9 / (PLANCK * LIGHT)
        return float(photons * transmittance(self.receiver_db) * efficiency)


def airmass(elevation_rad: float) -> float:
    """Relative to the zenith: 1/sin, and Kasten and Young's formula (1989) below 10 degrees."""
    degrees = math.degrees(elevation_rad)
    if degrees >= 10.0:
        return 1.0 / math.sin(elevation_rad)
    return 1.0 / (
        math.sin(elevation_rad) + 0.50572 * math.pow(max(degrees, 0.0) + 6.07995, -1.6364)
    )


class Clouds:
    """Clear or cloudy over one station: a Markov chain in continuous time, exactly sampled."""

    def __init__(self, downlink: Downlink, rng: np.random.Generator) -> None:
        self._downlink = downlink
        self._rng = rng
        share = downlink.cloudy_s / (downlink.clear_s + downlink.cloudy_s)
        self.cloudy = bool(rng.random() < share)

    def advance(self, seconds: float) -> bool:
        """Whether it is cloudy ``seconds`` later."""
        rates = 1.0 / self._downlink.clear_s + 1.0 / self._downlink.cloudy_s
        stationary = 1.0 / self._downlink.clear_s / rates  # of cloudy
        start = 1.0 if self.cloudy else 0.0
        chance = stationary + (start - stationary) * math.exp(-rates * seconds)
        self.cloudy = bool(self._rng.random() < chance)
        return self.cloudy


class Pass:
    """Conditions along a pass, for a link model whose channel loses nothing by itself."""

    def __init__(
        self,
        downlink: Downlink,
        *,
        gate_s: float,
        efficiency: float,
        rng: np.random.Generator | None = None,
    ) -> None:
        """``rng``: for weather; without it the sky is clear."""
        self._downlink = downlink
        self._clouds = Clouds(downlink, rng) if rng is not None else None
        self._background = downlink.background(gate_s, efficiency)
        self._last: float | None = None

    def conditions(self, time_s: float) -> Conditions:
        """``time_s`` counts from the moment the satellite comes up. Call with rising times."""
        link = self._downlink
        loss = link.loss_db(math.fmod(time_s, link.revisit_s) - link.duration_s / 2.0)
        if self._clouds is not None:
            passed = 0.0 if self._last is None else time_s - self._last
            self._last = time_s
            if self._clouds.advance(max(passed, 0.0)):
                loss = min(loss + link.cloud_db, CUT_DB)
        return Conditions(loss_db=loss, y0_add=self._background, sync_lost=loss >= CUT_DB)
