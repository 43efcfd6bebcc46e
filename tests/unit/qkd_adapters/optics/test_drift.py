"""Benign drift: seeded, as large as its profile says, whatever the step."""

from __future__ import annotations

import numpy as np
import pytest

from qkd_adapters.optics.drift import DAY, PROFILES, Drift


def _series(profile: str, step: float, count: int, seed: int = 1) -> np.ndarray:
    drift = Drift(profile, np.random.default_rng(seed))
    return np.array([drift.conditions(number * step).ed_add for number in range(count)])


def test_same_seed_same_run() -> None:
    assert np.array_equal(_series("aerial", 1.0, 50), _series("aerial", 1.0, 50))


@pytest.mark.parametrize("step", [10.0, 3000.0])
def test_wandering_has_its_size_whatever_the_step(step: float) -> None:
    series = _series("stationary", step, 20_000)
    assert series.std() == pytest.approx(PROFILES["stationary"].ed, rel=0.1)


def test_wandering_is_slow() -> None:
    series = _series("stationary", 1.0, 5000)
    assert np.abs(np.diff(series)).mean() < 0.1 * series.std()


def test_the_day_swings_by_what_it_says() -> None:
    drift = Drift("diurnal", np.random.default_rng(2))
    seen = np.array([drift.conditions(t).ed_add for t in np.arange(0.0, 3 * DAY, 600.0)])
    assert seen.max() - seen.min() == pytest.approx(4e-3, rel=0.35)


def test_gusts_only_make_it_worse_and_move_loss_too() -> None:
    drift = Drift("aerial", np.random.default_rng(3))
    seen = [drift.conditions(30.0 * number) for number in range(5000)]
    ed = np.array([one.ed_add for one in seen])
    loss = np.array([one.loss_db for one in seen])
    assert np.corrcoef(ed, loss)[0, 1] > 0.7
    assert np.quantile(ed, 0.99) > 4 * -np.quantile(ed, 0.01)


def test_unknown_profile_and_strength_are_refused() -> None:
    rng = np.random.default_rng(1)
    with pytest.raises(ValueError, match="stationary"):
        Drift("stormy", rng)
    with pytest.raises(ValueError, match="strength"):
        Drift("aerial", rng, strength=-1.0)
