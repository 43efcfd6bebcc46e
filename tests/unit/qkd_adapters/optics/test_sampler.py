"""The sampler: counts follow the probabilities, records carry exactly the counts."""

from __future__ import annotations

import numpy as np
import pytest

from qkd_adapters.optics.conditions import NEUTRAL, Conditions, compose
from qkd_adapters.optics.presets import preset
from qkd_adapters.optics.pulses import levels
from qkd_adapters.optics.sampler import cells_of, detections, expose
from qkd_adapters.records import decode, encode

MODEL = preset("metro-10us")


def test_counts_follow_the_probabilities() -> None:
    rng = np.random.default_rng(1)
    cells = cells_of(MODEL, NEUTRAL)
    exposure = expose(MODEL, NEUTRAL, 10.0, rng)
    expected = np.outer(cells.shares, np.ones(8)) * cells.outcomes * exposure.pulses
    kept = expected.ravel() > 5
    z = (exposure.counts[kept] - expected.ravel()[kept]) / np.sqrt(expected.ravel()[kept])
    assert (z**2).sum() < kept.sum() + 5 * np.sqrt(2 * kept.sum())


def test_levels_agree_with_gain_and_error_rate() -> None:
    exposure = expose(MODEL, NEUTRAL, 100.0, np.random.default_rng(2))
    signal, model = exposure.levels()[0], levels(MODEL, NEUTRAL)[0]
    assert signal.clicks / signal.sent == pytest.approx(model.gain, rel=5e-3)
    found = signal.errors_z / signal.sifted_z
    assert found == pytest.approx(model.wrong_z / model.gain, rel=2e-2)


def test_records_hold_exactly_the_counts() -> None:
    rng = np.random.default_rng(3)
    exposure = expose(MODEL, NEUTRAL, 1.0, rng)
    alice, bob = detections(exposure, rng, block=7, start=1.5)
    assert alice.detections == bob.detections == exposure.clicks
    assert np.array_equal(alice.columns["index"], bob.columns["index"])
    index = alice.columns["index"]
    assert np.all(index[1:] > index[:-1])
    assert int(index[-1]) < alice.pulses
    for number, level in enumerate(exposure.levels()):
        mine = alice.columns["intensity"] == number
        assert mine.sum() == level.clicks
        in_z = mine & (alice.columns["basis"] == 0) & (bob.columns["basis"] == 0)
        assert in_z.sum() == level.sifted_z
        assert (alice.columns["bit"] != bob.columns["bit"])[in_z].sum() == level.errors_z
        assert alice.totals["sent_z"][number] + alice.totals["sent_x"][number] == level.sent
    assert sum(bob.totals["clicks"]) == exposure.clicks + exposure.double_clicks
    assert (alice.block, bob.start) == (7, 1.5)


def test_records_travel() -> None:
    rng = np.random.default_rng(4)
    for record in detections(expose(MODEL, NEUTRAL, 0.2, rng), rng):
        again = decode(encode(record))
        assert again.totals == record.totals
        assert all(np.array_equal(again.columns[k], v) for k, v in record.columns.items())


def test_no_side_sees_what_is_the_others() -> None:
    rng = np.random.default_rng(5)
    alice, bob = detections(expose(MODEL, NEUTRAL, 0.2, rng), rng)
    assert set(alice.columns) == {"index", "basis", "bit", "intensity"}
    assert set(bob.columns) == {"index", "basis", "bit", "arrival"}
    assert set(alice.totals) == {"sent_z", "sent_x"}
    assert set(bob.totals) == {"double", "clicks"}


def test_order_in_time_is_random() -> None:
    rng = np.random.default_rng(6)
    alice, _ = detections(expose(MODEL, NEUTRAL, 2.0, rng), rng)
    bits = alice.columns["bit"].astype(int)
    half = len(bits) // 2
    assert abs(bits[:half].mean() - 0.5) < 5 * 0.5 / np.sqrt(half)
    together = (bits[1:] == bits[:-1]).mean()
    assert abs(together - 0.5) < 5 * 0.5 / np.sqrt(len(bits))


def test_arrival_has_the_moments_said() -> None:
    rng = np.random.default_rng(7)
    for conditions in (NEUTRAL, Conditions(arrival_shift_ps=80.0), Conditions(y0_add=1e-3)):
        exposure = expose(MODEL, conditions, 2.0, rng)
        _, bob = detections(exposure, rng)
        arrival = bob.columns["arrival"]
        spread = exposure.arrival_std / np.sqrt(len(arrival))
        assert abs(arrival.mean() - exposure.arrival_mean) < 7 * spread
        assert arrival.std() == pytest.approx(exposure.arrival_std, rel=0.02)


def test_same_seed_same_block() -> None:
    one, other = (detections(expose(MODEL, NEUTRAL, 0.1, r), r) for r in map(_rng, (8, 8)))
    assert encode(one[0]) == encode(other[0])
    assert encode(one[1]) == encode(other[1])


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_cut_leaves_dark_clicks_and_coin_tosses() -> None:
    exposure = expose(MODEL, Conditions(loss_db=200.0, sync_lost=True), 100.0, _rng(9))
    signal = exposure.levels()[0]
    assert signal.clicks / signal.sent == pytest.approx(MODEL.y0 * 1.01, rel=0.05)
    assert signal.errors_z / signal.sifted_z == pytest.approx(0.5, abs=0.05)
    assert exposure.bob.visibility < 0.01


def test_a_block_of_no_length_is_refused() -> None:
    with pytest.raises(ValueError, match="block"):
        expose(MODEL, NEUTRAL, 0.0, _rng(1))


def test_conditions_come_together() -> None:
    one = Conditions(loss_db=1.0, mu_factor=1.1, intercept=0.5, blinded=True)
    both = compose(one, Conditions(loss_db=0.5, mu_factor=2.0, intercept=0.5))
    assert both.loss_db == 1.5
    assert both.mu_factor == pytest.approx(2.2)
    assert both.intercept == 0.75
    assert both.blinded
    assert compose(one, NEUTRAL) == one
    assert compose(NEUTRAL, one) == one
