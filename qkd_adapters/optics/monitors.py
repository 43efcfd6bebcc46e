"""What the devices' own monitors read during a block, with their reading noise."""

from __future__ import annotations

import math

import numpy as np

from qkd_adapters.optics.conditions import Conditions
from qkd_adapters.optics.model import CALIBRATED_TEMPERATURE, LinkModel
from qkd_adapters.records import Monitor

# Reading noise, one standard deviation.
PHOTOCURRENT_NOISE = 0.02
INPUT_POWER = 0.01  # of the alarm threshold, while nobody shines in
INPUT_POWER_NOISE = 0.05  # relative
SOURCE_POWER_NOISE = 0.005
TEMPERATURE_NOISE = 0.05  # K
SYNC_NOISE = 3.0  # ps
VISIBILITY_NOISE = 0.001
SHOT_NOISE_NOISE = 0.001

SELF_TEST_SHARE = 1 / 64  # of the gates, with the receiver's attenuator in; as many to compare
SELF_TEST_LEAST = 20.0  # clicks of light below which the test says nothing
LOST_SYNC = 5000.0  # ps, the scale of the offset of a clock that follows nothing


def read(
    model: LinkModel,
    conditions: Conditions,
    *,
    clicks: float,
    noise: float,
    rng: np.random.Generator,
) -> tuple[Monitor, Monitor]:
    """Alice's and Bob's read-outs. ``clicks`` in the block, a share ``noise`` of them dark."""
    draw = rng.standard_normal(10).tolist()
    temperature = CALIBRATED_TEMPERATURE + conditions.temperature
    visibility = 1.0 - 2.0 * min(0.5, model.ed + conditions.ed_add + conditions.ed_add_x / 2.0)
    sync = conditions.sync_offset_ps + SYNC_NOISE * draw[0]
    if conditions.sync_lost:
        sync, visibility = LOST_SYNC * draw[0], 0.0
    alice = Monitor(
        source_power=conditions.source_power * (1.0 + SOURCE_POWER_NOISE * draw[1]),
        input_power=INPUT_POWER * (1.0 + INPUT_POWER_NOISE * draw[2]) + conditions.input_power,
        temperature=temperature + TEMPERATURE_NOISE * draw[3],
        sync_offset=0.0,
    )
    bob = Monitor(
        photocurrent=conditions.photocurrent * (1.0 + PHOTOCURRENT_NOISE * draw[4]),
        efficiency_check=_efficiency_check(conditions, clicks * (1.0 - noise), draw[5]),
        input_power=INPUT_POWER * (1.0 + INPUT_POWER_NOISE * draw[6]),
        temperature=temperature + TEMPERATURE_NOISE * draw[7],
        sync_offset=sync,
        visibility=min(1.0, max(0.0, visibility + VISIBILITY_NOISE * draw[8])),
        shot_noise=conditions.shot_noise * (1.0 + SHOT_NOISE_NOISE * draw[9]),
    )
    return alice, bob


def _efficiency_check(conditions: Conditions, light: float, draw: float) -> float:
    """Clicks with 3 dB put in over clicks without, dark counts subtracted."""
    tested = light * SELF_TEST_SHARE
    if tested < SELF_TEST_LEAST:
        return 0.5
    ratio = 0.5 if conditions.efficiency_check is None else conditions.efficiency_check
    spread = math.sqrt((ratio + ratio**2) / tested)
    return max(0.0, ratio + spread * draw)
