from __future__ import annotations

import math

import numpy as np
import pytest

from qkd_adapters.detection.charts import (
    CUSUM_LIMIT,
    EWMA_LIMIT,
    SINGLE_LIMIT,
    SLACK,
    Charts,
    Trip,
)
from qkd_adapters.detection.hotelling import Hotelling

NAN = math.nan


def feed(charts: Charts, *rows: list[float]) -> tuple[Trip, ...]:
    trips: tuple[Trip, ...] = ()
    for row in rows:
        z = np.array(row)
        trips = charts.update(z, np.nan_to_num(z))
        if trips:
            break
    return trips


@pytest.mark.parametrize("sign", [1, -1])
def test_a_change_that_stays_trips_after_what_it_exceeds_the_slack_by(sign: int) -> None:
    charts = Charts(1)
    needed = math.ceil(CUSUM_LIMIT / (1.25 - SLACK))
    assert feed(charts, *[[1.25 * sign]] * (needed - 1)) == ()
    assert feed(charts, [1.25 * sign]) == (Trip(feature=0, sign=sign, run=needed),)


def test_the_cusum_dates_the_change() -> None:
    charts = Charts(1)
    feed(charts, *[[-0.2]] * 50)
    (trip,) = feed(charts, *[[2.0]] * 50)
    assert trip.run == math.ceil(CUSUM_LIMIT / 1.5)


def test_what_is_less_than_the_slack_never_trips() -> None:
    assert feed(Charts(2), *[[0.45, -0.45]] * 2000) == ()


def test_one_block_far_out_trips_at_once() -> None:
    assert feed(Charts(1), [SINGLE_LIMIT - 0.1]) == ()
    assert feed(Charts(1), [SINGLE_LIMIT + 0.1]) == (Trip(feature=0, sign=1, run=1),)


def test_the_ewma_is_in_its_own_sigma() -> None:
    charts = Charts(1)
    feed(charts, *[[1.0]] * 20)
    share = 1 - 0.9**20
    assert charts.ewma[0] == pytest.approx(share / math.sqrt(0.1 / 1.9))
    assert charts.ewma[0] < EWMA_LIMIT


def test_a_block_without_a_value_leaves_the_charts_alone() -> None:
    charts = Charts(2)
    feed(charts, *[[1.0, 1.0]] * 10)
    before = charts.cusum.copy()
    feed(charts, *[[NAN, 1.0]] * 10)
    assert charts.cusum[0] == before[0]
    assert charts.cusum[1] > before[1]


def test_a_latched_feature_does_not_trip_again() -> None:
    charts = Charts(1)
    feed(charts, *[[3.0]] * 20)
    charts.latch(0, 1, 3.0)
    assert feed(charts, *[[3.0]] * 100) == ()
    assert charts.latched[0] == 1


@pytest.mark.parametrize("shift", [1.0, 3.0, 50.0])
def test_a_latched_feature_is_free_once_it_is_back(shift: float) -> None:
    charts = Charts(1)
    charts.latch(0, -1, -shift)
    feed(charts, *[[0.0]] * 30)
    assert charts.latched[0] == 0


def test_noise_around_the_change_does_not_free_it() -> None:
    rng = np.random.default_rng(3)
    charts = Charts(1)
    charts.latch(0, 1, 2.0)
    for z in rng.normal(2.0, 1.0, 2000):
        charts.update(np.array([z]), np.array([z]))
        assert charts.latched[0] == 1


def test_noise_alone_is_quiet_for_long() -> None:
    rng = np.random.default_rng(4)
    charts = Charts(50)
    assert feed(charts, *rng.normal(size=(2000, 50)).tolist()) == ()


def test_evidence_is_the_mean_in_its_own_sigma() -> None:
    charts = Charts(2)
    feed(charts, *[[0.0, 0.0]] * 10, *[[1.0, NAN]] * 4, *[[1.0, 0.5]] * 5)
    found = charts.evidence(9)
    assert found[0] == pytest.approx(3.0)
    assert found[1] == pytest.approx(2.5 / math.sqrt(5))


def test_t2_sees_a_joint_move_no_chart_sees() -> None:
    rng = np.random.default_rng(8)
    joint = Hotelling(2)
    for common in rng.normal(size=3000):
        joint.learn(common + 0.1 * rng.normal(size=2))
    along, _ = joint.score(np.array([3.0, 3.0]))
    across, shares = joint.score(np.array([3.0, -3.0]))
    assert across > joint.limit > along
    assert shares.sum() == pytest.approx(across)


def test_t2_has_the_chi_square_limit() -> None:
    # Quantiles for a tail of 9.87e-10, computed with scipy's chi2.isf. The approximation errs on
    # the side of fewer alarms.
    for size, quantile in ((5, 50.72), (10, 62.98), (17, 77.68)):
        assert quantile < Hotelling(size).limit < 1.09 * quantile
