"""The sampler against the formulas: counts of 1e8 pulses and more, and what they cost."""

from __future__ import annotations

import math

import numpy as np

from qkd_adapters.optics.conditions import NEUTRAL, Conditions
from qkd_adapters.optics.model import LinkModel
from qkd_adapters.optics.presets import preset
from qkd_adapters.optics.rates import rates
from qkd_adapters.optics.sampler import cells_of, detections, expose
from tests.validate.checks import Check, at_most, exactly

OURS = "formulas of qkd_adapters/optics"
LINKS = {
    "decoy BB84": (preset("metro-10us"), NEUTRAL),
    "decoy BB84, one decoy": (preset("gig-apd-1decoy"), NEUTRAL),
    "plain BB84": (preset("metro-plain"), NEUTRAL),
    "BBM92": (preset("pairs-metro"), NEUTRAL),
    "twin-field": (preset("tf-300km"), NEUTRAL),
    "decoy BB84 under attack": (
        preset("metro-10us"),
        Conditions(intercept=0.3, pns=0.2, efficiency_ratio=1.5, y0_add=1e-4),
    ),
}
LEAST = 10.0  # expected counts below which outcomes are taken together


def chi_square(model: LinkModel, conditions: Conditions, seed: int) -> float:
    """Standard deviations that chi-square of all outcomes is from its degrees of freedom."""
    exposure = expose(model, conditions, 1e8 / model.clock_hz, np.random.default_rng(seed))
    cells = cells_of(model, conditions)
    expected = (cells.shares[:, None] * cells.outcomes).ravel() * exposure.pulses
    large = expected >= LEAST
    seen = [*exposure.counts[large], exposure.counts[~large].sum()]
    wanted = [*expected[large], max(expected[~large].sum(), 1e-9)]
    if wanted[-1] < LEAST:
        seen, wanted = seen[:-1], wanted[:-1]
    value = sum((s - w) ** 2 / w for s, w in zip(seen, wanted, strict=True))
    # Wilson and Hilferty's cube root makes it normal for few degrees of freedom too.
    spread = 2.0 / (9.0 * len(wanted))
    return abs(((value / len(wanted)) ** (1 / 3) - (1.0 - spread)) / math.sqrt(spread))


def counts_kept() -> bool:
    """Records of about a million sifted bits hold exactly the counts drawn."""
    model = preset("gig-apd")
    rng = np.random.default_rng(1)
    exposure = expose(model, NEUTRAL, 1e6 / rates(model).sifted, rng)
    alice, bob = detections(exposure, rng)
    matched = (alice.columns["basis"] == 0) & (bob.columns["basis"] == 0)
    wrong = (alice.columns["bit"] != bob.columns["bit"])[matched].sum()
    truth = exposure.levels()
    return bool(
        matched.sum() == sum(level.sifted_z for level in truth)
        and wrong == sum(level.errors_z for level in truth)
    )


def zero_key_qber(model: LinkModel) -> float:
    """Z error rate at which an intercepted link has no asymptotic key left."""
    low, high = 0.0, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        some = rates(model, Conditions(intercept=middle)).secret > 0
        low, high = (middle, high) if some else (low, middle)
    return rates(model, Conditions(intercept=high)).qber


def key_at_and_above() -> float:
    """Secret rate from the zero-key error rate up, summed over a sweep."""
    model = preset("gig-apd").with_loss(5.0)
    edge = zero_key_qber(model)
    total = 0.0
    for fraction in np.linspace(0.0, 1.0, 201):
        found = rates(model, Conditions(intercept=float(fraction)))
        if found.qber >= edge:
            total += found.secret
    return total


CHECKS: tuple[Check, ...] = (
    *(
        at_most(
            f"Sampler, {name}: chi-square of 1e8 pulses (sigma)",
            4.0,
            lambda link=link, seed=seed: chi_square(*link, seed),
            source=OURS,
        )
        for seed, (name, link) in enumerate(LINKS.items())
    ),
    exactly("Sampler: records hold the counts drawn", True, counts_kept, source=OURS),
    at_most(
        "Zero-key QBER of a decoy link, below the Shannon limit",
        0.11003,
        lambda: zero_key_qber(preset("gig-apd").with_loss(5.0)),
        source="1 - 2 h2(Q) = 0 at Q = 11.003 % (Shor, Preskill, 2000)",
    ),
    at_most(
        "Asymptotic key at and above the zero-key QBER (bit/s)",
        0.0,
        key_at_and_above,
        source=OURS,
    ),
)
