"""The satellite: geometry against textbook cases, weather as long as it says."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from qkd_adapters.optics.conditions import CUT_DB
from qkd_adapters.optics.presets_other import MICIUS_LIKE
from qkd_adapters.optics.satellite import Clouds, Pass, airmass


def test_overhead_the_range_is_the_altitude() -> None:
    link = replace(MICIUS_LIKE, max_elevation_deg=90.0)
    distance, elevation = link.position(0.0)
    assert distance == pytest.approx(500.0)
    assert math.degrees(elevation) == pytest.approx(90.0, abs=1e-3)


def test_the_pass_is_symmetric_and_highest_in_the_middle() -> None:
    link = MICIUS_LIKE
    assert link.position(-60.0) == pytest.approx(link.position(60.0))
    distance, elevation = link.position(0.0)
    assert math.degrees(elevation) == pytest.approx(49.0, abs=0.01)
    assert distance == pytest.approx(645.0, rel=0.01)
    edge = link.position(link.duration_s / 2)
    assert math.degrees(edge[1]) == pytest.approx(10.0, abs=0.01)


def test_below_the_horizon_there_is_no_link() -> None:
    run = Pass(MICIUS_LIKE, gate_s=1e-9, efficiency=0.5)
    assert run.conditions(MICIUS_LIKE.duration_s / 2).loss_db < 32
    dark = run.conditions(MICIUS_LIKE.duration_s + 1)
    assert dark.loss_db == CUT_DB
    assert dark.sync_lost
    again = run.conditions(MICIUS_LIKE.revisit_s + MICIUS_LIKE.duration_s / 2)
    assert again.loss_db < 32


def test_daylight_drowns_the_signal() -> None:
    night = MICIUS_LIKE.background(1e-9, 0.5)
    day = replace(MICIUS_LIKE, sky=1.5).background(1e-9, 0.5)
    assert night < 1e-8
    assert day == pytest.approx(night * 1e6)


def test_airmass_is_one_above_and_finite_at_the_horizon() -> None:
    assert airmass(math.pi / 2) == 1.0
    assert airmass(math.radians(30)) == pytest.approx(2.0)
    assert airmass(math.radians(9.9)) == pytest.approx(airmass(math.radians(10.1)), rel=0.04)
    assert 30 < airmass(0.0) < 45


def test_clouds_stay_as_long_as_they_should() -> None:
    link = replace(MICIUS_LIKE, clear_s=1000.0, cloudy_s=500.0)
    clouds = Clouds(link, np.random.default_rng(1))
    seen = np.array([clouds.advance(100.0) for _ in range(20_000)])
    assert seen.mean() == pytest.approx(1 / 3, abs=0.03)
    changes = np.abs(np.diff(seen.astype(int))).mean()
    rate = (1 / 1000 + 1 / 500) * 100
    assert changes == pytest.approx(2 * (1 / 3) * (2 / 3) * (1 - math.exp(-rate)), rel=0.1)
