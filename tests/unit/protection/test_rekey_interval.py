"""The rekey interval follows the keys: its formula at its corners."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protection.interval import rekey_interval

FLOOR, CEILING = 30.0, 3600.0


def interval(ready: int, rate: float, reserve: int = 1) -> float:
    return rekey_interval(ready=ready, rate=rate, reserve=reserve, floor=FLOOR, ceiling=CEILING)


def test_ample_keys_give_the_floor() -> None:
    assert interval(4, 1.0) == FLOOR


@pytest.mark.parametrize("ready", [0, 1])
def test_no_key_beyond_the_reserve_gives_the_ceiling(ready: int) -> None:
    assert interval(ready, 100.0) == CEILING


def test_one_key_beyond_the_reserve_lasts_until_the_next_arrives() -> None:
    # 12.7 bit/s: one 256-bit key per 20 s, above the floor with a floor of 10 s
    gap = 256 / 12.7
    assert rekey_interval(
        ready=2, rate=1 / gap, reserve=1, floor=10.0, ceiling=CEILING
    ) == pytest.approx(gap)


def test_a_dead_link_spends_the_surplus_evenly_over_one_ceiling() -> None:
    assert interval(4, 0.0) == pytest.approx(CEILING / 2)
    assert interval(2, 0.0) == CEILING


def test_an_interval_measured_on_a_full_pool_recovers() -> None:
    """A full pool asks for keys only as fast as they are used: no lock-in at a long interval."""
    pace = 1800.0
    for _ in range(200):
        pace = interval(4, 1.0 / pace)
    assert pace == FLOOR


@given(
    ready=st.integers(0, 100),
    rate=st.floats(0, 1000),
    reserve=st.integers(0, 10),
)
def test_between_floor_and_ceiling_and_shorter_with_more_keys(
    ready: int, rate: float, reserve: int
) -> None:
    value = interval(ready, rate, reserve)
    assert FLOOR <= value <= CEILING
    assert interval(ready + 1, rate, reserve) <= value
    if ready == reserve + 1 and rate > 0:
        assert value >= min(CEILING, 1.0 / rate) - 1e-6, "faster than keys arrive"
