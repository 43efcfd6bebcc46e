"""What a pair of devices is built to do, as their maker states it; the same file at both ends.

It says nothing of the fibre between them: that is for the calibration to find out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from qkd_adapters.config_file import ConfigFile, Table
from qkd_adapters.postprocessing.settings import (
    Bbm92,
    ContinuousVariable,
    DecoyBb84,
    Detection,
    PlainBb84,
    Scheme,
    TwinField,
)
from qkd_adapters.records import Protocol

_VACUUM = 0.005  # mean photons at and below which a level is called vacuum


class _PairTable(Table, frozen=True, kw_only=True):
    model: str
    protocol: Protocol
    intensities: tuple[float, ...] = ()
    probabilities: tuple[float, ...] = ()
    p_z: float = 0.5
    modulation: float = 0.0
    efficiency: float = 1.0
    electronic_noise: float = 0.0
    detection: Detection = Detection.HOMODYNE


class _SheetFile(Table, frozen=True, kw_only=True):
    pair: _PairTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Datasheet:
    """``intensities``: mean photon numbers by intensity number, signal first; none for CV.

    ``p_z``: probability with which both ends choose the key basis.
    """

    model: str
    protocol: Protocol
    scheme: Scheme
    intensities: tuple[float, ...]
    p_z: float

    @property
    def level_names(self) -> tuple[str, ...]:
        return level_names(self.intensities)


def level_names(intensities: tuple[float, ...]) -> tuple[str, ...]:
    """signal, decoy, decoy2, ...; vacuum for one that sends next to nothing."""
    names = []
    for number, mean in enumerate(intensities):
        if number == 0:
            names.append("signal")
        elif mean <= _VACUUM:
            names.append("vacuum")
        else:
            names.append("decoy" if number == 1 else f"decoy{number}")
    return tuple(names)


def load_datasheet(path: Path) -> Datasheet:
    """Raises KmeConfigError."""
    file = ConfigFile(path)
    pair = file.read(_SheetFile).pair
    wanted = {
        Protocol.DECOY_BB84: (2, 3),
        Protocol.BB84: (1,),
        Protocol.TWIN_FIELD: (4,),
        Protocol.BBM92: (0, 1),
        Protocol.CV: (0,),
    }[pair.protocol]
    if len(pair.intensities) not in wanted or len(pair.intensities) != len(pair.probabilities):
        raise file.error("pair", "intensities", f"do not fit {pair.protocol} or the probabilities")
    return Datasheet(
        model=pair.model,
        protocol=pair.protocol,
        scheme=_scheme(pair),
        intensities=pair.intensities,
        p_z=pair.p_z,
    )


def _scheme(pair: _PairTable) -> Scheme:
    match pair.protocol:
        case Protocol.DECOY_BB84:
            return DecoyBb84(intensities=pair.intensities, probabilities=pair.probabilities)
        case Protocol.BB84:
            return PlainBb84(mu=pair.intensities[0], receiver_z=pair.p_z)
        case Protocol.BBM92:
            return Bbm92()
        case Protocol.TWIN_FIELD:
            return TwinField(intensities=pair.intensities, probabilities=pair.probabilities)
        case Protocol.CV:
            return ContinuousVariable(
                modulation=pair.modulation,
                efficiency=pair.efficiency,
                electronic_noise=pair.electronic_noise,
                detection=pair.detection,
            )
        case _:
            assert_never(pair.protocol)
