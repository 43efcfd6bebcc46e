"""Marks against KMEs whose keys the peer does not take, and what the pool does about them."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from kms_client.errors import KmeUnreachableError
from kms_client.failover import KmeGroup
from kms_client.marks import REST_MAX, REST_MIN, PeerMarks
from kms_client.pool import KeyPool, PoolSettings
from tests.support.fake_clock import FakeClock, settle
from tests.support.fake_kme import FakeKme

POLL = 5.0
BACK = REST_MIN + 2 * POLL  # seconds from a mark to the next key
DOWN = {"qsgw_link": {"state": "down", "alarms": ["KME second half is not connected"]}}


# --- the decision ----------------------------------------------------------------------------


def test_a_mark_rests_and_doubles_up_to_a_limit():
    marks, now = PeerMarks(("one", "two"), look_first=10.0), 0.0
    for rest in (60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3600.0, 3600.0):
        marks.refused("one", now)
        assert marks.resting(now + rest - 0.1) == {"one"}
        assert marks.resting(now + rest) == frozenset()
        assert marks.avoided(now + rest + 9.9, ()) == {"one"}
        assert marks.avoided(now + rest + 10.0, ()) == frozenset()
        now += rest + 10.0
    assert rest == REST_MAX


def test_a_second_refusal_during_the_rest_is_the_same_news():
    marks = PeerMarks(("one", "two"), look_first=10.0)
    marks.refused("one", 0.0)
    marks.refused("one", 30.0)
    assert marks.resting(REST_MIN) == frozenset()


def test_one_key_at_a_time_is_tried_and_a_key_that_is_taken_ends_it():
    marks = PeerMarks(("one", "two"), look_first=10.0)
    marks.refused("one", 0.0)
    assert marks.avoided(1000.0, ["two"]) == frozenset()
    assert marks.avoided(1000.0, ["one"]) == {"one"}
    assert not marks.taken("two", 1000.0)
    assert marks.taken("one", 1000.0)
    assert not marks.taken("one", 1000.0)
    assert (marks.standing, marks.avoided(0.0, ["one"])) == ((), frozenset())


def test_a_link_that_is_known_to_be_broken_prolongs_the_rest_without_doubling_it():
    marks = PeerMarks(("one", "two"), look_first=10.0)
    marks.refused("one", 0.0)
    assert marks.postpone("one", 60.0)
    assert marks.resting(119.9) == {"one"}
    assert not marks.postpone("two", 60.0)
    marks.refused("one", 130.0)
    assert marks.resting(130.0 + 119.9) == {"one"}


def test_the_mark_of_a_kme_that_is_not_needed_ends_with_its_rest():
    marks = PeerMarks(("one", "two"), look_first=10.0)
    marks.refused("two", 0.0)
    assert not marks.taken("one", REST_MIN - 0.1)
    assert marks.taken("one", REST_MIN)
    assert marks.standing == ()


# --- the pool --------------------------------------------------------------------------------


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def first() -> FakeKme:
    return FakeKme("first")


@pytest.fixture
def second() -> FakeKme:
    return FakeKme("second")


def pool_of(clock: FakeClock, *kmes: FakeKme) -> KeyPool:
    return KeyPool(
        KmeGroup(kmes, clock=clock, sleep=clock.sleep),
        peer_sae="sun",
        settings=PoolSettings(target=4, low_water=3, poll_interval=POLL),
        clock=clock,
        sleep=clock.sleep,
        jitter=lambda: 1.0,
    )


@pytest_asyncio.fixture
async def pool(clock, first, second):
    pool = pool_of(clock, first, second)
    pool.start()
    await settle()
    yield pool
    await pool.stop()


async def offer(pool: KeyPool, *, taken: bool | None) -> str:
    """Have the peer answer to one key; returns which KME it was from."""
    key = pool.take()
    assert key is not None
    await settle()
    pool.report(key.key_id, taken=taken)
    key.key.wipe()
    await settle()
    return key.key_id


def is_from(kme: FakeKme, key_id: str) -> bool:
    return any(key.key_id == key_id for key in kme.delivered)


async def test_after_one_refusal_the_next_kme_gives_and_the_other_keys_are_dropped(
    pool, first, second
):
    held = first.delivered[1:]
    assert is_from(first, await offer(pool, taken=False))
    assert pool.refused == ("first",)
    assert all(key.key.wiped for key in held)
    assert (pool.stock().ready, len(second.delivered)) == (4, 4)
    assert is_from(second, await offer(pool, taken=True))
    assert pool.refused == ("first",)


@pytest.mark.parametrize("outcome", [True, None])
async def test_a_key_taken_or_lost_for_another_reason_marks_nobody(pool, second, outcome):
    for _ in range(10):
        await offer(pool, taken=outcome)
    assert pool.refused == ()
    assert second.delivered == []


async def test_a_lone_kme_goes_on_giving_new_keys(clock, first):
    pool = pool_of(clock, first)
    pool.start()
    await settle()
    for tried in range(1, 6):
        held = {key.key_id for key in first.delivered}
        await offer(pool, taken=False)
        assert (pool.stock().ready, pool.stock().burned) == (4, 4 * tried)
        assert held.isdisjoint(key.key_id for key in first.delivered[-4:])
    assert pool.refused == ("first",)
    await offer(pool, taken=True)
    assert pool.refused == ()
    await pool.stop()


async def test_when_the_other_one_fails_the_marked_one_is_asked_all_the_same(pool, first, second):
    second.fault = KmeUnreachableError("second", "connection refused")
    await offer(pool, taken=False)
    assert is_from(first, await offer(pool, taken=True))
    assert pool.refused == ()


async def test_the_first_one_is_tried_again_with_one_key_only(pool, clock, first, second):
    await offer(pool, taken=False)
    given = len(first.delivered)
    await clock.advance(BACK)
    for _ in range(4):  # those of the second are older
        assert is_from(second, await offer(pool, taken=True))
    assert len(first.delivered) == given + 1
    assert is_from(first, await offer(pool, taken=False))
    assert len(first.delivered) == given + 1
    await clock.advance(BACK)
    for _ in range(6):  # a longer rest
        assert is_from(second, await offer(pool, taken=True))


async def test_once_a_key_is_taken_the_first_one_is_preferred_again(pool, clock, first, second):
    await offer(pool, taken=False)
    await clock.advance(BACK)
    for _ in range(4):
        await offer(pool, taken=True)
    assert is_from(first, await offer(pool, taken=True))
    assert pool.refused == ()
    drawn = len(second.delivered)
    for _ in range(10):
        await offer(pool, taken=True)
    assert len(second.delivered) == drawn


async def test_no_key_is_tried_while_the_kme_itself_says_its_link_is_down(
    pool, clock, first, second
):
    await offer(pool, taken=False)
    given = len(first.delivered)
    first.extension = DOWN
    for _ in range(60):
        await clock.advance(30.0)
        assert is_from(second, await offer(pool, taken=True))
        assert pool.stock().link is None  # as of the KME that keys come from
    assert len(first.delivered) == given
    first.extension = None
    await clock.advance(REST_MIN + BACK)
    for _ in range(5):
        await offer(pool, taken=True)
    assert pool.refused == ()


async def test_a_key_that_was_asked_for_before_the_mark_is_dropped_on_arrival(
    pool, clock, first, second
):
    first.hold = asyncio.Event()
    key, other = pool.take(), pool.take()
    await settle()  # one more is under way
    pool.report(key.key_id, taken=False)
    first.hold.set()
    await settle()
    assert pool.stock().ready == 4
    for _ in range(4):
        assert is_from(second, await offer(pool, taken=True))
    pool.report(other.key_id, taken=None)
