"""Which proof is applied to the counts of which protocol."""

from __future__ import annotations

from typing import assert_never

from qkd_adapters.postprocessing import continuous, decoy, single_photon, twin_field
from qkd_adapters.postprocessing.estimate import Counts, Estimate, Moments
from qkd_adapters.postprocessing.settings import (
    Bbm92,
    ContinuousVariable,
    DecoyBb84,
    PlainBb84,
    Settings,
    TwinField,
)


def estimate(settings: Settings, counts: Counts | Moments) -> Estimate:
    """How many secret bits the block is worth, 0 with a reason where it is worth none."""
    scheme = settings.scheme
    sec, cor = settings.eps_sec, settings.eps_cor
    if isinstance(counts, Moments) or isinstance(scheme, ContinuousVariable):
        if not isinstance(counts, Moments) or not isinstance(scheme, ContinuousVariable):
            raise TypeError("moments belong to continuous variables, counts to clicks")
        return continuous.estimate(scheme, counts, eps_sec=sec, eps_cor=cor)
    match scheme:
        case DecoyBb84():
            return decoy.estimate(scheme, counts, eps_sec=sec, eps_cor=cor)
        case PlainBb84():
            return single_photon.estimate_plain(scheme, counts, eps_sec=sec, eps_cor=cor)
        case Bbm92():
            return single_photon.estimate_pairs(counts, eps_sec=sec, eps_cor=cor)
        case TwinField():
            return twin_field.estimate(scheme, counts, eps_sec=sec, eps_cor=cor)
        case _:
            assert_never(scheme)
