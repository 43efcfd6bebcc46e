"""Presets that send weak coherent pulses: generic devices and published links.

Loss, rate and error rate of a published link are facts of its publication. Clock, efficiencies,
dark counts, intensities and probabilities are fitted: each preset's provenance says so, and also
where the published figure was not read in the publication itself but in others' restatement.
"""

from __future__ import annotations

import math
from dataclasses import replace

from qkd_adapters.optics.detector import Detector
from qkd_adapters.optics.fibre import Fibre
from qkd_adapters.optics.model import LinkModel, Published
from qkd_adapters.optics.weak_coherent import best_mu
from qkd_adapters.records import Protocol

FITTED = "; figures second-hand, parameters fitted"
VACUUM = 0.0007  # mean photons of a "vacuum" decoy behind a real modulator


def decoy(
    name: str,
    provenance: str,
    *,
    clock_hz: float,
    channel: Fibre,
    detector: Detector,
    receiver_db: float,
    ed: float,
    signal: float = 0.5,
    weak: float = 0.18,
    shares: tuple[float, ...] = (0.5, 0.3, 0.2),
    p_z: float = 0.85,
    published: Published | None = None,
) -> LinkModel:
    intensities = (signal, weak, VACUUM)[: len(shares)]
    return LinkModel(
        name=name,
        provenance=provenance,
        protocol=Protocol.DECOY_BB84,
        clock_hz=clock_hz,
        channel=channel,
        detector=detector,
        receiver_db=receiver_db,
        ed=ed,
        intensities=intensities,
        probabilities=shares,
        p_z=p_z,
        published=published or Published(),
    )


def plain(
    name: str,
    provenance: str,
    *,
    clock_hz: float,
    channel: Fibre,
    detector: Detector,
    receiver_db: float,
    ed: float,
    p_z: float = 0.7,
    published: Published | None = None,
) -> LinkModel:
    """Without decoys, at the mean photon number that suits its loss best."""
    model = LinkModel(
        name=name,
        provenance=provenance,
        protocol=Protocol.BB84,
        clock_hz=clock_hz,
        channel=channel,
        detector=detector,
        receiver_db=receiver_db,
        ed=ed,
        intensities=(0.1,),
        probabilities=(1.0,),
        p_z=p_z,
        published=published or Published(),
    )
    return retuned(model)


def retuned(model: LinkModel) -> LinkModel:
    """A link without decoys at the mean photon number that suits its loss; others as they are."""
    if model.protocol is not Protocol.BB84:
        return model
    mu = best_mu(model.eta, model.y0, model.ed, f=model.error_correction)
    return replace(model, intensities=(mu,))


def _gigahertz(dark_hz: float = 10_000.0, **options: float) -> Detector:
    """Self-differencing InGaAs avalanche diodes at 1 GHz."""
    return Detector(
        efficiency=options.get("efficiency", 0.2),
        dark_hz=dark_hz,
        gate_ps=500.0,
        afterpulse=0.02,
        jitter_ps=60.0,
        max_click_rate=options.get("max_click_rate", math.inf),
    )


def _slow(dark_hz: float = 5_000.0, *, efficiency: float = 0.1, dead_us: float = 10.0) -> Detector:
    """Gated InGaAs avalanche diodes with a long dead time."""
    return Detector(
        efficiency=efficiency,
        dark_hz=dark_hz,
        gate_ps=1_000.0,
        dead_time_s=dead_us * 1e-6,
        afterpulse=0.01,
        jitter_ps=150.0,
    )


_QUIET = Detector(efficiency=0.8, dark_hz=100.0, gate_ps=1_000.0, dead_time_s=50e-9, jitter_ps=50.0)


def _generic() -> list[LinkModel]:
    metro = Fibre(length_km=25.0, db_per_km=0.2)
    return [
        decoy(
            "gig-apd",
            "modelled: a 1 GHz device with avalanche diodes, two decoys",
            clock_hz=1e9,
            channel=Fibre(length_km=50.0, db_per_km=0.2),
            detector=_gigahertz(),
            receiver_db=2.5,
            ed=0.015,
        ),
        decoy(
            "gig-apd-1decoy",
            "modelled: as gig-apd, one decoy",
            clock_hz=1e9,
            channel=Fibre(length_km=50.0, db_per_km=0.2),
            detector=_gigahertz(),
            receiver_db=2.5,
            ed=0.015,
            signal=0.4,
            weak=0.12,
            shares=(0.7, 0.3),
            p_z=0.8,
        ),
        decoy(
            "metro-10us",
            "modelled: a 100 MHz device with 10 us dead time, two decoys",
            clock_hz=1e8,
            channel=metro,
            detector=_slow(efficiency=0.15),
            receiver_db=3.0,
            ed=0.01,
            signal=0.45,
            p_z=0.8,
        ),
        plain(
            "metro-plain",
            "modelled: as metro-10us, without decoys",
            clock_hz=1e8,
            channel=metro,
            detector=_slow(efficiency=0.15),
            receiver_db=3.0,
            ed=0.01,
            p_z=0.6,
        ),
    ]


def _lab() -> list[LinkModel]:
    return [
        decoy(
            "lab-decoy",
            "modelled: superconducting detectors at a slow clock, so that blocks of a second have"
            " key and a small machine keeps up",
            clock_hz=5e7,
            channel=Fibre(length_km=50.0, db_per_km=0.2),
            detector=_QUIET,
            receiver_db=3.0,
            ed=0.01,
            signal=0.6,
            weak=0.25,
            shares=(0.4, 0.3, 0.3),
            p_z=0.7,
        ),
        plain(
            "lab-plain",
            "modelled: as lab-decoy, without decoys",
            clock_hz=5e7,
            channel=Fibre(length_km=50.0, db_per_km=0.2),
            detector=_QUIET,
            receiver_db=3.0,
            ed=0.01,
            p_z=0.6,
        ),
    ]


def _toshiba() -> list[LinkModel]:
    cambridge = (
        ("cambridge-cape-trel", 10.6, 3.9, 2.58e6),
        ("cambridge-trel-engi", 9.8, 4.2, 2.40e6),
        ("cambridge-engi-cape", 5.0, 2.5, 2.22e6),
    )
    found = [
        decoy(
            name,
            "published: Dynes et al., npj Quantum Information 5, 101 (2019), 580-day average with"
            " outages; figures second-hand, throughput cap and parameters fitted",
            clock_hz=1e9,
            channel=Fibre(length_km=km, db_per_km=loss / km),
            detector=_gigahertz(max_click_rate=rate / 0.18),
            receiver_db=1.5,
            ed=0.02,
            published=Published(secret_rate=rate),
        )
        for name, km, loss, rate in cambridge
    ]
    tokyo = Fibre(length_km=45.0, db_per_km=14.5 / 45.0)
    return [
        *found,
        decoy(
            "tokyo-trel",
            "published: Sasaki et al., Optics Express 19, 10387 (2011), 45 km, 24 h average"
            + FITTED,
            clock_hz=1e9,
            channel=tokyo,
            detector=_gigahertz(),
            receiver_db=0.9,
            ed=0.02,
            published=Published(secret_rate=304e3),
        ),
        decoy(
            "toshiba-2db",
            "published: arXiv:1807.04484, 2 dB, average over 4.4 days; parameters fitted",
            clock_hz=1e9,
            channel=Fibre(length_km=10.0, db_per_km=0.2),
            detector=_gigahertz(efficiency=0.4),
            receiver_db=0.9,
            ed=0.02,
            p_z=0.9,
            published=Published(secret_rate=13.72e6),
        ),
        decoy(
            "secoqc-toshiba",
            "published: Peev et al., New J. Phys. 11, 075001 (2009), SIE-BRT 33 km, 7.5 dB"
            + FITTED,
            clock_hz=7.14e6,
            channel=Fibre(length_km=33.0, db_per_km=7.5 / 33.0),
            detector=Detector(efficiency=0.1, dark_hz=5e3, gate_ps=3500.0, afterpulse=0.005),
            receiver_db=4.4,
            ed=0.015,
            signal=0.55,
            published=Published(secret_rate=3.1e3, qber=0.026),
        ),
    ]


def _tokyo() -> list[LinkModel]:
    tokyo = "published: Sasaki et al., Optics Express 19, 10387 (2011)"
    return [
        decoy(
            "tokyo-nec-nict",
            tokyo + ", 45 km, asymptotic rate" + FITTED,
            clock_hz=1.25e9,
            channel=Fibre(length_km=45.0, db_per_km=14.5 / 45.0),
            detector=Detector(efficiency=0.15, dark_hz=100.0, gate_ps=400.0, jitter_ps=40.0),
            receiver_db=7.0,
            ed=0.026,
            published=Published(secret_rate=81.7e3, qber=0.027),
        ),
        decoy(
            "tokyo-mitsubishi",
            tokyo + ", 24 km, 13 dB" + FITTED,
            clock_hz=1e8,
            channel=Fibre(length_km=24.0, db_per_km=13.0 / 24.0),
            detector=_slow(1_000.0, efficiency=0.08),
            receiver_db=6.0,
            ed=0.038,
            published=Published(secret_rate=2e3, qber=0.045),
        ),
        decoy(
            "tokyo-ntt-dps",
            tokyo + ", 90 km, 27 dB; the device speaks DPS, played by decoy BB84" + FITTED,
            clock_hz=1e9,
            channel=Fibre(length_km=90.0, db_per_km=0.3),
            detector=Detector(efficiency=0.15, dark_hz=30.0, gate_ps=400.0, jitter_ps=40.0),
            receiver_db=10.1,
            ed=0.021,
            published=Published(secret_rate=2.1e3, qber=0.023),
        ),
        decoy(
            "tokyo-idq",
            tokyo + ", 13 km, 11 dB; the device speaks SARG04, played by decoy BB84" + FITTED,
            clock_hz=5e6,
            channel=Fibre(length_km=13.0, db_per_km=11.0 / 13.0),
            detector=_slow(1_500.0),
            receiver_db=8.4,
            ed=0.014,
            published=Published(secret_rate=410.0, qber=0.02),
        ),
    ]


def _fields() -> list[LinkModel]:
    return [
        LinkModel(
            name="gys",
            provenance="published: Gobby, Yuan, Shields (2004) as used in quant-ph/0503005",
            protocol=Protocol.DECOY_BB84,
            clock_hz=2e6,
            channel=Fibre(length_km=50.0, db_per_km=0.21),
            detector=Detector(efficiency=1.0, dark_hz=850.0, gate_ps=1000.0),
            receiver_db=13.467_874_862_246_563,  # eta_Bob = 0.045 has the detectors in it
            ed=0.033,
            intensities=(0.48, 0.05, 0.0),
            probabilities=(0.8, 0.1, 0.1),
            p_z=0.5,
            error_correction=1.22,
        ),
        decoy(
            "secoqc-idq-1",
            "published: Peev et al., New J. Phys. 11, 075001 (2009), ERD-BRT 25 km, 5.75 dB; the"
            " device speaks SARG04, played by decoy BB84" + FITTED,
            clock_hz=5e6,
            channel=Fibre(length_km=25.0, db_per_km=5.75 / 25.0),
            detector=_slow(2_000.0),
            receiver_db=9.0,
            ed=0.02,
            published=Published(secret_rate=1e3),
        ),
        decoy(
            "beijing-shanghai-span",
            "modelled: one of 31 spans, 2032 km and 32 nodes published (Nature 589, 214), the"
            " length and device of a span are not",
            clock_hz=1e9,
            channel=Fibre(length_km=65.5, db_per_km=14.0 / 65.5),
            detector=_gigahertz(),
            receiver_db=2.5,
            ed=0.015,
        ),
    ]


def models() -> list[LinkModel]:
    return [*_generic(), *_lab(), *_toshiba(), *_tokyo(), *_fields()]
