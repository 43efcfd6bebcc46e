from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from qkd_adapters.detection.baseline import (
    BIN,
    BINS,
    MIN_BLOCKS,
    Baseline,
    Normal,
    Reference,
    calibrate,
)
from qkd_adapters.detection.errors import BaselineError
from qkd_adapters.detection.features import Receiver
from qkd_adapters.detection.telemetry import Protocol
from tests.support.link_telemetry import DARK, Link, baseline, block, blocks


def simple(**normals: Normal) -> Baseline:
    return Baseline(
        protocol=Protocol.BB84, blocks=100, receiver=Receiver(), gain=0.01, features=normals
    )


def normal(mean: float = 1.0, drift: float = 0.1) -> Normal:
    return Normal(mean=mean, block_sigma=0.01, run_sigma=0.02, drift=drift)


def test_a_calibration_finds_what_the_link_is() -> None:
    found = baseline()
    assert found.features["qber"].mean == pytest.approx(0.02, rel=0.03)
    assert found.receiver.dark_yield == pytest.approx(DARK, rel=0.03)
    assert found.gain == pytest.approx(0.005, rel=0.01)
    assert found.blocks == 200


def test_dark_counts_follow_from_two_intensities_where_none_is_dark() -> None:
    rng = np.random.default_rng(1)
    seen = []
    for each in blocks(200, rng, Link(eta=2e-4)):
        fields = {name: getattr(each, name) for name in each.__dataclass_fields__}
        seen.append(type(each)(**{**fields, "levels": each.levels[:2]}))
    assert calibrate(seen).receiver.dark_yield == pytest.approx(DARK, rel=0.1)


def test_a_link_without_decoys_does_not_know_its_dark_counts() -> None:
    assert baseline(Link(decoys=False)).receiver.dark_yield == 0.0


def test_a_baseline_survives_a_file() -> None:
    found = baseline()
    assert Baseline.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize(
    "damage",
    [
        {"format": 99},
        {"protocol": "smoke-signals"},
        {"features": {}},
        {"features": {"qber": {"mean": 0.02}}},
        {"gain": "nan"},
        {"gain": None},
    ],
)
def test_a_damaged_file_is_refused(damage: dict[str, Any]) -> None:
    with pytest.raises(BaselineError):
        Baseline.from_dict({**baseline().to_dict(), **damage})
    with pytest.raises(BaselineError):
        Baseline.from_dict({})


def test_a_standard_deviation_of_zero_is_refused() -> None:
    data = baseline().to_dict()
    data["features"]["qber"]["block_sigma"] = 0.0
    with pytest.raises(BaselineError):
        Baseline.from_dict(data)


def test_too_few_blocks_are_no_calibration() -> None:
    with pytest.raises(BaselineError, match="at least"):
        calibrate(list(blocks(MIN_BLOCKS - 1, np.random.default_rng(1))))


def test_blocks_of_two_links_are_no_calibration() -> None:
    rng = np.random.default_rng(1)
    mixed = [*blocks(MIN_BLOCKS, rng), block(99, rng, Link(decoys=False))]
    with pytest.raises(BaselineError, match="different links"):
        calibrate(mixed)


def test_the_links_own_noise_is_told_from_that_of_the_counts() -> None:
    rng = np.random.default_rng(2)
    wild = [
        block(i, rng, Link(error=0.02 + 0.003 * float(rng.standard_normal()))) for i in range(600)
    ]
    assert calibrate(wild).features["qber"].block_sigma == pytest.approx(0.003, rel=0.15)
    assert baseline().features["qber"].block_sigma < 4e-4


def test_slow_noise_weighs_more_in_a_run() -> None:
    rng = np.random.default_rng(3)
    state, slow = 0.0, []
    for i in range(1500):
        state = 0.95 * state + 0.31 * float(rng.standard_normal())
        slow.append(block(i, rng, Link(error=0.02 + 0.001 * state)))
    found = calibrate(slow).features["qber"]
    assert found.run_sigma > 3 * found.block_sigma


def test_errors_that_come_with_loss_are_expected_with_loss() -> None:
    rng = np.random.default_rng(4)
    gusty = []
    for i in range(600):
        gust = max(0.0, float(rng.standard_normal())) ** 2
        link = Link(error=0.02 + 0.004 * gust, eta=0.01 * 10 ** (-0.008 * gust))
        gusty.append(block(i, rng, link))
    found = calibrate(gusty).features["qber"]
    assert found.slope == pytest.approx(0.05, rel=0.1)  # per dB
    assert found.block_sigma < 0.002


def test_the_reference_follows_slowly() -> None:
    reference = Reference(simple(x=normal()))
    for _ in range(BIN * BINS):
        reference.follow(np.array([1.05]))
    assert reference.values[0] == pytest.approx(1.05)


def test_a_short_excursion_does_not_move_the_reference() -> None:
    reference = Reference(simple(x=normal()))
    for _ in range(BIN * BINS // 3):
        reference.follow(np.array([1.05]))
    assert reference.values[0] == pytest.approx(1.0)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_reference_never_leaves_the_record_behind(sign: int) -> None:
    reference = Reference(simple(x=normal(drift=0.1)))
    for step in range(4 * BIN * BINS):
        reference.follow(np.array([1.0 + sign * step * 1e-3]))
    assert reference.values[0] == pytest.approx(1.0 + 0.1 * sign)
    assert abs(reference.wander[0]) > 1


def test_blocks_without_a_value_leave_the_reference_alone() -> None:
    reference = Reference(simple(x=normal(), y=normal()))
    for _ in range(BIN * BINS):
        reference.follow(np.array([np.nan, 1.05]))
    assert reference.values.tolist() == pytest.approx([1.0, 1.05])
