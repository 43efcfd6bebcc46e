"""Simulated light through the real post-processing, two ends in memory.

What a block gives is held against the plan, which puts expected counts through the same bounds
with the leak that the preset states. Reconciliation does better than that, so more may come out.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from qkd_adapters.optics.conditions import NEUTRAL, Conditions
from qkd_adapters.optics.presets import preset
from qkd_adapters.optics.sampler import detections, expose
from qkd_adapters.plan import plan, scheme_of
from qkd_adapters.postprocessing.outcome import Outcome
from qkd_adapters.postprocessing.settings import Settings
from tests.support.postprocessing import carry, ends
from tests.validate.checks import Check, at_least, exactly, near

OURS = "the plan for the same link and block (qkd_adapters/plan.py)"
LINKS = {
    "lab-decoy": 2.0,
    "gig-apd-1decoy": 0.6,
    "lab-plain": 20.0,
    "pairs-metro": 3.0,
    "tf-300km": 30.0,
}


@lru_cache(maxsize=16)
def play(name: str, seconds: float, seen: Conditions = NEUTRAL) -> tuple[Outcome, Outcome]:
    model = preset(name)
    rng = np.random.default_rng(11)
    alice, bob = detections(expose(model, seen, seconds, rng), rng)
    sender, receiver = ends(Settings(link="validate", scheme=scheme_of(model)))
    one, other = sender.block(alice), receiver.block(bob)
    carry(one, other)
    assert one.outcome is not None
    assert other.outcome is not None
    return one.outcome, other.outcome


def expected(name: str, seconds: float) -> float:
    model = preset(name)
    sifted = plan(model)[0].sifted_rate
    point = plan(model, block_bits=round(sifted * seconds))[0]
    return point.secret_rate_finite * point.block_seconds


def same_keys(name: str, seconds: float) -> bool:
    one, other = play(name, seconds)
    return bool(one.keys) and one.keys == other.keys


def keys_under(name: str, seen: Conditions) -> int:
    return len(play(name, LINKS[name], seen)[0].keys)


CHECKS: tuple[Check, ...] = (
    *(
        near(
            f"{name}: secret bits of a block of {seconds:g} s",
            expected(name, seconds),
            lambda name=name, seconds=seconds: float(play(name, seconds)[0].estimate.secret_bits),
            relative=0.3,
            source=OURS,
        )
        for name, seconds in LINKS.items()
    ),
    *(
        exactly(
            f"{name}: both ends hold the same keys",
            True,
            lambda name=name, seconds=seconds: same_keys(name, seconds),
            source="ETSI GS QKD 014: one key_ID, one key",
        )
        for name, seconds in LINKS.items()
    ),
    *(
        exactly(
            f"{name}, {share:.0%} intercepted: keys of a block",
            0,
            lambda name=name, share=share: keys_under(name, Conditions(intercept=share)),
            source="beyond the zero-key QBER nothing may be left",
        )
        for name, share in (
            ("lab-decoy", 0.4),
            ("lab-decoy", 1.0),
            ("lab-plain", 0.4),
            ("pairs-metro", 0.5),
        )
    ),
    exactly(
        "lab-decoy, photon-number splitting: keys of a block",
        0,
        lambda: keys_under("lab-decoy", Conditions(pns=1.0)),
        source="the decoys' bounds collapse: quant-ph/0503005",
    ),
    at_least(
        "lab-plain, photon-number splitting: keys of a block",
        1,
        lambda: keys_under("lab-plain", Conditions(pns=1.0)),
        source="seen by nothing without decoys; paid for in advance by GLLP, quant-ph/0212066",
    ),
)
