"""Loss of a fibre, and the Raman noise that classical light in the same fibre makes."""

from __future__ import annotations

import math
from dataclasses import dataclass

PLANCK = 6.626_070_15e-34  # J s (SI, exact)
LIGHT = 299_792_458.0  # m/s (SI, exact)

GROUP_VELOCITY = 2.04e5  # km/s in silica: group index 1.468


def transmittance(loss_db: float) -> float:
    return math.pow(10.0, -loss_db / 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fibre:
    """A fibre of ``length_km`` with ``db_per_km``, plus splices and connectors in ``extra_db``."""

    length_km: float
    db_per_km: float = 0.2
    extra_db: float = 0.0

    @property
    def loss_db(self) -> float:
        return self.length_km * self.db_per_km + self.extra_db


@dataclass(frozen=True, slots=True, kw_only=True)
class Raman:
    """Classical channels in the same fibre: spontaneous Raman scattering into the quantum channel.

    ``launch_mw``: power of all classical channels together, sent along with the quantum light.
    ``per_km_nm``: power scattered per mW of pump, km of fibre and nm of received width; a few
    1e-9 for a quantum channel in the C band near C-band pumps, about a hundredth of that for a
    quantum channel in the O band.
    """

    launch_mw: float
    per_km_nm: float = 2e-9
    width_nm: float = 0.2
    wavelength_nm: float = 1550.0

    def photons(self, fibre: Fibre, gate_s: float) -> float:
        """Mean noise photons that leave the fibre in one gate.

        Co-propagating pump: pump and noise see the same loss, so the power that arrives is
        P per_km_nm L exp(-a L) width.
        """
        power_w = (
            self.launch_mw
            * 1e-3
            * self.per_km_nm
            * fibre.length_km
            * transmittance(fibre.loss_db)
            * self.width_nm
        )
        return power_w * gate_s * self.wavelength_nm * 1e-9 / (PLANCK * LIGHT)


def db(ratio: float) -> float:
    """Loss in dB of a transmittance; infinite for none."""
    return math.inf if ratio <= 0 else -10.0 * math.log10(ratio)
