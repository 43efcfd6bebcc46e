"""Single-photon detectors: efficiency, dark counts, afterpulses, dead time, jitter."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """The detectors of one receiver, two per basis, all alike.

    ``dark_hz`` is the rate of one detector that is always on; it counts while the gate of
    ``gate_ps`` is open, which is what keeps a gated receiver quiet.
    """

    efficiency: float
    dark_hz: float
    gate_ps: float
    dead_time_s: float = 0.0
    afterpulse: float = 0.0  # afterpulses per click
    jitter_ps: float = 60.0  # standard deviation of arrival, source and detector together
    max_click_rate: float = math.inf  # Hz that the electronics take from all detectors together

    @property
    def dark(self) -> float:
        """Dark counts of one detector per gate."""
        return self.dark_hz * self.gate_ps * 1e-12

    def live_fraction(self, click_rate: float) -> float:
        """Share of clicks that are counted, of ``click_rate`` clicks per second.

        Non-paralysable dead time, then the limit of the electronics.
        """
        counted = 1.0 / (1.0 + click_rate * self.dead_time_s)
        return min(counted, self.max_click_rate / click_rate) if click_rate > 0 else 1.0

    def in_gate(self, offset_ps: float) -> float:
        """Share of the photons that arrive inside a gate that is ``offset_ps`` off."""
        spread = self.jitter_ps * math.sqrt(2.0)
        half = self.gate_ps / 2.0
        return 0.5 * (math.erf((half - offset_ps) / spread) + math.erf((half + offset_ps) / spread))


def yield_of_dark(dark: float, detectors: int = 2) -> float:
    """Y0: probability that at least one of ``detectors`` clicks in the dark."""
    return -math.expm1(detectors * math.log1p(-dark))
