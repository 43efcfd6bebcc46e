"""The pool: filled ahead, bounded, aged, quarantined, wiped, and never spinning."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from kms_client.errors import KmeEmptyError, KmeRefusedError, KmeUnreachableError
from kms_client.failover import KmeGroup
from kms_client.models import LinkState, QkdKey
from kms_client.pool import KeyPool, PoolSettings
from kms_client.secret import Secret
from tests.support.fake_clock import FakeClock, settle
from tests.support.fake_kme import FakeKme

SUSPECT = {"qsgw_link": {"state": "suspect", "alarms": ["QBER 12 %"]}}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def kme() -> FakeKme:
    return FakeKme()


@pytest_asyncio.fixture
async def make(kme, clock):
    """``make(target=4, ...)``: a pool on the fake KME, stopped at the end."""
    pools: list[KeyPool] = []

    def build(**settings) -> KeyPool:
        pool = KeyPool(
            KmeGroup([kme], clock=clock, sleep=clock.sleep),
            peer_sae="sun",
            settings=PoolSettings(**settings),
            clock=clock,
            sleep=clock.sleep,
            jitter=lambda: 1.0,
        )
        pools.append(pool)
        return pool

    yield build
    for pool in pools:
        await pool.stop()


async def filled(pool: KeyPool) -> KeyPool:
    pool.start()
    await settle()
    assert pool.stock().ready == pool.stock().target
    return pool


# --- filling ---------------------------------------------------------------------------------


async def test_nothing_is_asked_before_start(make, kme):
    pool = make()
    await settle()
    assert kme.calls == []
    assert pool.take() is None


async def test_the_pool_fills_to_its_target_and_stops_there(make, kme, clock):
    pool = await filled(make(target=4))
    await clock.advance(60.0)
    assert len(kme.delivered) == 4
    stock = pool.stock()
    assert (stock.ready, stock.target, stock.burned, stock.last_error) == (4, 4, 0, None)
    assert stock.stored_at_kme == 1_000_000 - 4


async def test_take_gives_the_oldest_key_at_once_and_each_only_once(make, kme):
    pool = await filled(make(target=4))
    taken = [pool.take() for _ in range(4)]
    assert taken == kme.delivered
    assert pool.take() is None


async def test_take_wakes_the_refill_below_low_water_and_not_above(make, kme):
    pool = await filled(make(target=4, low_water=2))
    pool.take()
    await settle()
    assert pool.stock().ready == 3
    pool.take()
    await settle()
    assert pool.stock().ready == 4


@pytest.mark.parametrize(("target", "low_water"), [(1, 2), (2, 2), (4, 0)])
async def test_small_pools_refill_too(make, target, low_water):
    pool = await filled(make(target=target, low_water=low_water))
    for _ in range(target):
        pool.take()
    await settle()
    assert pool.stock().ready == target


async def test_target_zero_only_polls(make, kme, clock):
    pool = await filled(make(target=0))
    await clock.advance(20.0)
    assert set(kme.calls) == {"status"}
    assert pool.stock().stored_at_kme == 1_000_000


async def test_keys_come_one_by_one_so_that_a_lost_answer_costs_one(make, kme):
    await filled(make(target=6))
    assert kme.asked == [1] * 6


async def test_a_kme_that_never_holds_more_than_one_key_fills_the_pool(make, kme, clock):
    kme.stored = 1
    pool = make(target=4, poll_interval=1000.0)
    pool.start()
    for _ in range(40):
        await clock.advance(1.0)
        kme.stored = 1
    assert pool.stock().ready == 4


async def test_nothing_grows_and_nothing_spins_over_a_day(make, kme, clock):
    pool = await filled(make(target=4, poll_interval=60.0))
    before = clock.sleeps
    for _ in range(24):
        await clock.advance(3600.0)
        assert pool.stock().ready >= 4
        assert len(pool._held) <= 8
    assert clock.sleeps - before < 24 * 60 * 2 * 1.1  # two per poll, a few per renewal


# --- trouble ---------------------------------------------------------------------------------


async def test_pauses_between_failures_double_up_to_a_limit(make, kme, clock):
    kme.stored = 0
    pool = make(target=2, retry_min=0.5, retry_max=4.0, poll_interval=1000.0)
    pool.start()
    await settle()
    seen = [len(kme.asked)]
    for pause in (0.5, 1.0, 2.0, 4.0, 4.0):
        await clock.advance(pause - 0.01)
        assert len(kme.asked) == seen[-1]
        await clock.advance(0.01)
        seen.append(len(kme.asked))
    assert seen == [1, 2, 3, 4, 5, 6]
    assert pool.stock().last_error == "no QKD key for sun: KME primary: no keys"
    assert pool.stock().ready == 0


async def test_jitter_shortens_a_pause_to_no_less_than_half(kme, clock):
    kme.stored = 0
    settings = PoolSettings(retry_min=2.0, poll_interval=1000.0)
    group = KmeGroup([kme], clock=clock, sleep=clock.sleep)
    pool = KeyPool(group, peer_sae="sun", settings=settings, clock=clock,
                   sleep=clock.sleep, jitter=lambda: 0.0)  # fmt: skip
    pool.start()
    await clock.advance(0.99)
    assert len(kme.asked) == 1
    await clock.advance(0.01)
    assert len(kme.asked) == 2
    await pool.stop()


async def test_waking_an_empty_pool_again_and_again_does_not_hurry_it(make, kme, clock):
    kme.stored = 0
    pool = make(retry_min=5.0, poll_interval=1000.0)
    pool.start()
    for _ in range(50):
        await settle()
        assert pool.take() is None
    assert len(kme.asked) == 1


async def test_keys_seen_in_a_status_end_a_long_pause(make, kme, clock):
    kme.stored = 0
    pool = make(target=2, retry_min=100.0, retry_max=100.0, poll_interval=5.0)
    pool.start()
    await clock.advance(4.0)
    kme.stored = 50
    await clock.advance(1.0)
    assert pool.stock().ready == 2
    assert pool.stock().last_error is None


async def test_a_kme_that_dies_behind_a_full_pool_shows_in_the_stock(make, kme, clock):
    pool = await filled(make(poll_interval=5.0))
    kme.fault = KmeUnreachableError("primary", "cannot connect")
    await clock.advance(5.0)
    stock = pool.stock()
    assert stock.last_error == "no QKD key for sun: KME primary: cannot connect"
    assert (stock.ready, stock.stored_at_kme) == (4, None)
    kme.fault = None
    await clock.advance(5.0)
    assert pool.stock().last_error is None


async def test_a_kme_without_status_gives_keys_all_the_same(make, kme, clock):
    kme.status_fault = KmeRefusedError("primary", "status answered with HTTP 404 Not Found")
    pool = await filled(make(target=3))
    await clock.advance(60.0)
    assert pool.stock().last_error is None
    assert pool.stock().stored_at_kme is None


async def test_a_crash_of_a_task_is_told_to_the_loop(kme, clock):
    told: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    group = KmeGroup([kme], sleep=clock.sleep)
    pool = KeyPool(group, peer_sae="sun", settings=PoolSettings(), clock=clock,
                   sleep=clock.sleep, on_change=lambda: 1 // 0)  # fmt: skip
    pool.start()
    await settle()
    assert {type(context["exception"]) for context in told} == {ZeroDivisionError}
    with pytest.raises(ZeroDivisionError):
        await pool.stop()


# --- age -------------------------------------------------------------------------------------


async def test_keys_are_renewed_before_they_are_too_old_and_then_burned(make, kme, clock):
    pool = await filled(make(target=4, max_age=100.0))
    old = list(kme.delivered)
    await clock.advance(89.0)
    assert len(kme.delivered) == 4
    await clock.advance(2.0)
    assert len(kme.delivered) == 8  # renewed: at no moment is the pool empty
    assert pool.stock().ready == 8
    await clock.advance(9.0)
    assert all(key.key.wiped for key in old)
    stock = pool.stock()
    assert (stock.ready, stock.burned) == (4, 4)


async def test_take_never_gives_a_key_that_is_too_old(make, kme, clock):
    pool = await filled(make(target=2, max_age=100.0))
    clock.now += 100.0  # the tasks have not run yet
    assert pool.stock().ready == 0
    assert pool.take() is None
    assert all(key.key.wiped for key in kme.delivered)


# --- quarantine ------------------------------------------------------------------------------


async def test_quarantine_wipes_what_came_since_and_nothing_else(make, kme, clock):
    pool = await filled(make(target=2, low_water=1))
    await clock.advance(10.0)
    pool.take()
    await settle()
    kept, dropped = kme.delivered[1], kme.delivered[2]
    kme.hold = asyncio.Event()
    assert pool.quarantine(clock.now - 5.0) == 1
    assert dropped.key.wiped
    assert not kept.key.wiped
    assert pool.stock().ready == 1
    assert pool.take() is kept


async def test_quarantine_counts_the_moment_itself_and_not_the_one_before(make, clock):
    pool = await filled(make(target=2))
    assert pool.quarantine(clock.now + 0.1) == 0
    assert pool.quarantine(clock.now) == 2


async def test_keys_on_their_way_during_a_quarantine_are_wiped_on_arrival(make, kme, clock):
    pool = make(target=1)
    kme.hold = asyncio.Event()
    pool.start()
    await settle()
    assert pool.quarantine(clock.now) == 0
    kme.hold.set()
    await settle()
    assert kme.delivered[0].key.wiped
    assert pool.stock().burned == 1
    assert not kme.delivered[1].key.wiped
    assert pool.stock().ready == 1


async def test_no_key_is_pulled_from_a_suspect_link_until_it_is_clear(make, kme, clock):
    pool = await filled(make(target=2, low_water=1, poll_interval=5.0))
    kme.extension = SUSPECT
    await clock.advance(5.0)
    link = pool.stock().link
    assert link is not None
    assert (link.state, link.reason) == (LinkState.SUSPECT, "QBER 12 %")
    pool.quarantine(0.0)
    await clock.advance(60.0)
    assert pool.stock().ready == 0
    kme.extension = {"qsgw_link": {"state": "up"}}
    await clock.advance(5.0)
    assert pool.stock().ready == 2


async def test_what_a_kme_last_said_of_its_link_stands_while_it_is_silent(make, kme, clock):
    kme.extension = SUSPECT
    pool = make(poll_interval=5.0)
    pool.start()
    await settle()
    kme.fault = KmeUnreachableError("primary", "cannot connect")
    await clock.advance(60.0)
    assert pool.stock().link is not None


# --- rest ------------------------------------------------------------------------------------


async def test_stop_wipes_everything_and_asks_no_more(make, kme, clock):
    pool = await filled(make(target=4))
    await pool.stop()
    assert all(key.key.wiped for key in kme.delivered)
    assert (pool.stock().ready, pool.stock().burned) == (0, 4)
    calls = len(kme.calls)
    await clock.advance(1000.0)
    assert len(kme.calls) == calls
    await pool.stop()


async def test_a_taken_key_is_not_wiped_by_stop(make):
    pool = await filled(make(target=2))
    key = pool.take()
    await pool.stop()
    assert key is not None
    assert not key.key.wiped


async def test_rate_follows_the_store_and_our_draws(make, kme, clock):
    kme.stored = 100
    pool = await filled(make(target=2, low_water=1, poll_interval=5.0))
    for _ in range(20):
        pool.take()
        pool.take()
        kme.stored += 10
        await clock.advance(5.0)
    assert pool.stock().rate == pytest.approx(2.0, rel=0.1)
    kme.max_count = kme.stored  # full: keys made now are thrown away
    await clock.advance(300.0)
    assert pool.stock().rate == pytest.approx(2.0, rel=0.1)
    kme.max_count = None
    await clock.advance(300.0)
    assert pool.stock().rate < 0.1


async def test_on_change_is_called_for_deliveries_takes_and_failures(kme, clock):
    changes: list[int] = []
    group = KmeGroup([kme], sleep=clock.sleep)
    pool = KeyPool(group, peer_sae="sun", settings=PoolSettings(), clock=clock,
                   sleep=clock.sleep, on_change=lambda: changes.append(1))  # fmt: skip
    pool.start()
    await settle()
    for act in (pool.take, lambda: pool.quarantine(0.0)):
        before = len(changes)
        act()
        assert len(changes) > before
    kme.fault = KmeEmptyError("primary", "no keys")
    before = len(changes)
    await clock.advance(5.0)
    assert len(changes) > before
    await pool.stop()


@pytest.mark.parametrize(
    "settings",
    [
        {"target": -1},
        {"target": 1000},
        {"low_water": -1},
        {"key_size": 128},
        {"key_size": 257},
        {"max_age": 0.0},
        {"poll_interval": 0.0},
        {"retry_min": 0.0},
        {"retry_min": 5.0, "retry_max": 1.0},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError):
        PoolSettings(**settings)


def test_no_key_in_any_repr():
    key = QkdKey(key_id="x", key=Secret(b"\xab" * 32))
    assert "xab" not in repr(key)
    assert "ab" * 4 not in repr(key)


async def test_key_ids_of_what_is_ready_stand_in_the_order_of_use(make, kme):
    pool = await filled(make(target=3, low_water=0))
    assert pool.stock().key_ids == tuple(key.key_id for key in kme.delivered)
    taken = pool.take()
    assert taken is not None
    assert taken.key_id not in pool.stock().key_ids
    assert len(pool.stock().key_ids) == pool.stock().ready
