"""The estimate of keys per second that the link generates."""

from __future__ import annotations

import pytest

from kms_client.rate import TIME_CONSTANT, RateEstimator


def test_stored_growth_and_our_own_draws_add_up():
    rate = RateEstimator(0.0)
    rate.look(0.5, stored=10)
    rate.drawn(8)
    rate.look(10.5, stored=22)
    assert rate.rate == pytest.approx(2.0)


def test_keys_drawn_before_the_first_look_are_not_counted():
    rate = RateEstimator(0.0)
    rate.drawn(4)
    rate.look(1.0, stored=10)
    rate.look(11.0, stored=10)
    assert rate.rate == 0.0


def test_a_cut_link_shows_within_a_time_constant_and_a_healed_one_too():
    rate = RateEstimator(0.0)
    rate.look(5.0, stored=0)
    rate.look(10.0, stored=20)
    assert rate.rate == pytest.approx(4.0)
    now = 10.0
    while now < 10.0 + TIME_CONSTANT:
        now += 5.0
        rate.look(now, stored=20)
    assert rate.rate == pytest.approx(4.0 * 0.368, rel=0.01)
    rate.look(now + TIME_CONSTANT, stored=20 + int(4 * TIME_CONSTANT))
    assert 3.0 < rate.rate < 4.0


def test_a_full_store_says_only_at_least():
    rate = RateEstimator(0.0)
    rate.look(5.0, stored=80)
    rate.look(15.0, stored=100, full=True)
    before = rate.rate
    for now in range(20, 200, 5):
        rate.look(float(now), stored=100, full=True)
    assert rate.rate == before > 0
    rate.drawn(500)
    rate.look(200.0, stored=100, full=True)
    assert rate.rate > before


def test_a_store_that_shrinks_by_itself_is_no_negative_rate():
    rate = RateEstimator(0.0)
    rate.look(5.0, stored=80)
    rate.look(10.0, stored=3)
    assert rate.rate == 0.0


def test_counts_of_two_kmes_are_not_compared():
    rate = RateEstimator(0.0)
    rate.look(5.0, stored=10, source="a")
    rate.look(10.0, stored=5000, source="b")
    assert rate.rate == 0.0
    rate.look(15.0, stored=5010, source="b")
    assert rate.rate == pytest.approx(2.0)


def test_without_a_count_a_starving_pool_measures_exactly():
    rate = RateEstimator(0.0)
    rate.drawn(5)
    rate.shortage()
    rate.look(10.0, stored=None)
    assert rate.rate == pytest.approx(0.5)


def test_without_a_count_a_full_pool_says_only_at_least():
    rate = RateEstimator(0.0)
    rate.drawn(5)
    rate.look(10.0, stored=None)
    first = rate.rate
    assert 0.0 < first < 0.5  # the first fill came out of stock, not off the link
    rate.look(20.0, stored=None)
    assert rate.rate == first


def test_a_look_at_the_same_moment_changes_nothing():
    rate = RateEstimator(0.0)
    rate.look(0.0, stored=5)
    rate.look(0.0, stored=500)
    assert rate.rate == 0.0
