"""What deviates at this moment from the link's model: drift, weather, attacks."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

CUT_DB = 200.0  # a fibre that is cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Deviations; the defaults are no deviation at all.

    Each field names how several causes of it come together, see ``compose``.
    """

    # The way of the light
    loss_db: float = 0.0
    gain_factor: float = 1.0  # of light that arrives, whatever the reason
    mu_factor: float = 1.0  # of the mean photon number of every intensity
    ed_add: float = 0.0  # misalignment, both bases
    ed_add_x: float = 0.0  # misalignment, X beyond Z
    excess_noise: float = 0.0  # CV: shot-noise units at the channel's input
    # Clicks without light of the sender
    y0_factor: float = 1.0  # of dark counts
    y0_add: float = 0.0  # noise photons detected per gate, all detectors together
    # Timing
    sync_offset_ps: float = 0.0
    sync_lost: bool = False
    arrival_shift_ps: float = 0.0
    arrival_split_ps: float = 0.0  # half the distance between two humps
    # An eavesdropper
    intercept: float = 0.0  # share of pulses measured and sent again
    pns: float = 0.0  # share of single photons blocked, multi-photon pulses forwarded instead
    blinded: bool = False
    efficiency_ratio: float = 1.0  # detector 0 to detector 1
    # Randomness
    bit_bias: float = 0.0  # P(bit = 0) - 1/2 at the sender
    basis_bias: float = 0.0  # added to P(Z) at the receiver
    # Read-outs of the devices' own monitors
    photocurrent: float = 1.0
    efficiency_check: float | None = None  # None: as physics has it
    input_power: float = 0.0  # added, in alarm thresholds
    source_power: float = 1.0
    temperature: float = 0.0  # added, K
    shot_noise: float = 1.0  # CV: what the receiver takes for shot noise


NEUTRAL = Conditions()

_PRODUCTS = {
    "gain_factor",
    "mu_factor",
    "y0_factor",
    "efficiency_ratio",
    "photocurrent",
    "source_power",
    "shot_noise",
}
_SHARES = {"intercept", "pns"}  # two that act independently
_SWITCHES = {"sync_lost", "blinded"}


def compose(base: Conditions, *effects: Conditions) -> Conditions:
    """All of them at once: terms are added, factors multiplied, shares joined as independent."""
    for effect in effects:
        base = Conditions(
            **{
                field.name: _join(
                    field.name, getattr(base, field.name), getattr(effect, field.name)
                )
                for field in fields(Conditions)
            }
        )
    return base


def _join(name: str, one: Any, other: Any) -> Any:
    if one is None or other is None:
        return one if other is None else other
    if name == "efficiency_check":
        return other
    if name in _PRODUCTS:
        return one * other
    if name in _SHARES:
        return 1.0 - (1.0 - one) * (1.0 - other)
    if name in _SWITCHES:
        return bool(one or other)
    if name == "bit_bias":
        return max(-0.5, min(0.5, one + other))
    return math.fsum((one, other))
