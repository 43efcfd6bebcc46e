"""Decoy-state BB84: the golden vector of Gobby, Yuan and Shields' link, and its reach."""

from __future__ import annotations

import math
from collections.abc import Callable

from qkd_adapters.optics import weak_coherent as wc
from tests.validate.checks import exactly, near

MA = (
    "Ma, Qi, Zhao, Lo, PRA 72, 012326 (quant-ph/0503005), GYS parameters; computed apart, and"
    " as an open simulator restates them"
)
ALPHA, ETA_BOB, Y0, ED, F, MU = 0.21, 0.045, 1.7e-6, 0.033, 1.22, 0.48
NU = 0.05


def _eta(km: float) -> float:
    return ETA_BOB * 10 ** (-ALPHA * km / 10)


def infinite(km: float) -> float:
    eta = _eta(km)
    return wc.gllp(
        MU,
        wc.gain(MU, eta, Y0),
        wc.qber(MU, eta, Y0, ED),
        wc.infinite_decoys(eta, Y0, ED),
        f=F,
    )


def vacuum_and_weak(km: float) -> float:
    eta = _eta(km)
    gains = (wc.gain(MU, eta, Y0), wc.gain(NU, eta, Y0), Y0)
    wrongs = (wc.errors(MU, eta, Y0, ED), wc.errors(NU, eta, Y0, ED), Y0 / 2)
    single = wc.two_decoys((MU, NU, 0.0), gains, wrongs)
    return wc.gllp(MU, gains[0], wrongs[0] / gains[0], single, f=F)


def reach(rate: Callable[[float], float]) -> float:
    """km at which the rate falls to zero."""
    low, high = 0.0, 300.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if rate(middle) > 0 else (low, middle)
    return low


CHECKS = (
    near("GYS 0 km: Q_mu", 2.137e-2, lambda: wc.gain(MU, _eta(0), Y0), source=MA, relative=1e-3),
    near(
        "GYS 0 km: E_mu", 3.304e-2, lambda: wc.qber(MU, _eta(0), Y0, ED), source=MA, relative=1e-3
    ),
    near(
        "GYS 0 km: Q_1",
        1.3367e-2,
        lambda: wc.infinite_decoys(_eta(0), Y0, ED).y1 * MU * math.exp(-MU),
        source=MA,
        relative=1e-3,
    ),
    near("GYS 0 km: R, infinite decoys", 2.555e-3, lambda: infinite(0), source=MA, relative=1e-3),
    near(
        "GYS reach, infinite decoys (km)", 142.0, lambda: reach(infinite), source=MA, absolute=0.1
    ),
    near(
        "GYS reach, vacuum + weak decoy (km)",
        140.6,
        lambda: reach(vacuum_and_weak),
        source=MA,
        absolute=0.1,
    ),
    exactly("GYS beyond its reach: no key", True, lambda: infinite(145.0) <= 0, source=MA),
)
