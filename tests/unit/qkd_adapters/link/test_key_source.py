"""The emulated source: its schedule does not drift, its state says what was done to it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkd_adapters.link.messages import BLOCK_BITS
from qkd_adapters.link.source import EmulatedSource, Pacer


def taken(pacer: Pacer, now: float) -> int:
    count = 0
    while pacer.take(now):
        count += 1
    return count


@given(
    st.floats(0.5, 500),
    st.lists(st.floats(0.001, 0.9), min_size=1, max_size=50),
)
def test_irregular_wakeups_do_not_make_the_schedule_drift(rate: float, waits: list[float]) -> None:
    pacer = Pacer(rate, 0.0)
    now, count = 0.0, 0
    for wait in waits:
        now += wait
        count += taken(pacer, now)
    assert abs(count - now * rate) <= 1.001


def test_a_long_stop_is_not_made_good_in_one_burst() -> None:
    pacer = Pacer(10.0, 0.0)
    assert taken(pacer, 3600.0) <= 12
    assert taken(pacer, 3601.0) == 10


def test_new_rate_holds_at_once() -> None:
    pacer = Pacer(0.01, 0.0)
    assert taken(pacer, 50.0) == 0
    pacer.set_rate(10.0, 50.0)
    assert taken(pacer, 51.05) == 10
    pacer.set_rate(0.1, 51.05)
    assert taken(pacer, 61.0) == 1


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.now)


def test_since_moves_with_the_state_only() -> None:
    clock = Clock()
    source = EmulatedSource(rate=4.0, clock=clock.monotonic, wall_clock=clock.wall)
    changes = []
    source.on_change(lambda: changes.append(source.state.state.value))
    history = []
    for action in (
        lambda: source.suspect("one"),
        lambda: source.suspect("two"),
        source.cut,
        lambda: source.set_rate(8.0),
        source.heal,
        source.clear,
    ):
        clock.now += 10
        action()
        state = source.state
        history.append((state.state.value, state.since.second, state.alarms, state.key_rate))
    assert history == [
        ("suspect", 10, ("one",), 0.0),
        ("suspect", 10, ("one", "two"), 0.0),
        ("down", 30, ("quantum channel cut", "one", "two"), 0.0),
        ("down", 30, ("quantum channel cut", "one", "two"), 0.0),
        ("suspect", 50, ("one", "two"), 0.0),
        ("up", 0, (), 8.0),
    ]
    assert len(changes) == 6


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf"), 20_000.0])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        EmulatedSource(rate=rate)
    source = EmulatedSource(rate=1.0)
    with pytest.raises(ValueError, match="rate"):
        source.set_rate(rate)
    assert source.rate == 1.0


async def test_blocks_are_distinct_and_of_block_size() -> None:
    source = EmulatedSource(rate=10_000.0)
    blocks = []
    async for block in source.blocks():
        blocks.append(block)
        if len(blocks) == 20:
            break
    assert {len(block) for block in blocks} == {BLOCK_BITS // 8}
    assert len({block.expose() for block in blocks}) == 20


def test_the_last_good_moment_of_a_suspicion_moves_back_only() -> None:
    clock = Clock()
    source = EmulatedSource(rate=4.0, clock=clock.monotonic, wall_clock=clock.wall)
    assert source.state.suspect_age is None
    source.suspect("one", since=5.0)
    clock.now += 2
    assert source.state.suspect_age == 7.0
    source.suspect("two", since=1.0)
    assert source.state.suspect_age == 7.0
    source.suspect("three", since=60.0)
    assert source.state.suspect_age == 60.0
    source.clear()
    assert source.state.suspect_age is None


async def test_a_suspect_link_makes_no_keys_and_goes_on_when_cleared() -> None:
    clock = Clock()
    source = EmulatedSource(rate=1.0, clock=clock.monotonic, wall_clock=clock.wall)
    blocks = source.blocks()
    source.suspect("one")
    clock.now += 10
    waiting = asyncio.ensure_future(anext(blocks))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    source.clear()
    clock.now += 1
    assert len(await waiting) == BLOCK_BITS // 8
