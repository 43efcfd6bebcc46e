"""Many pools, one look: what is asked once is told to all, and old news never covers new."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from kms_client.errors import KmeNonsenseError, KmeUnreachableError
from kms_client.failover import KmeGroup
from kms_client.models import LinkState
from kms_client.pool import KeyPool, PoolSettings
from tests.support.fake_clock import FakeClock, settle
from tests.support.fake_kme import FakeKme


def link(state: str, **members: object) -> dict[str, object]:
    alarms = [] if state == "up" else ["QBER 12 %"]
    return {"qsgw_link": {"state": state, "alarms": alarms, "events": "events", **members}}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def kme(clock) -> FakeKme:
    kme = FakeKme()
    kme.clock = clock
    return kme


@pytest.fixture
def second(clock) -> FakeKme:
    kme = FakeKme("secondary")
    kme.clock = clock
    return kme


@pytest_asyncio.fixture
async def make(kme, second, clock):
    """``make(peer="sun")``: one more pool of the group, stopped at the end."""
    group = KmeGroup([kme, second], clock=clock, sleep=clock.sleep)
    pools: list[KeyPool] = []

    def build(*, peer: str = "sun", started: bool = True, **settings) -> KeyPool:
        pool = KeyPool(
            group,
            peer_sae=peer,
            settings=PoolSettings(**{"target": 1, "poll_interval": 5.0, **settings}),
            clock=clock,
            sleep=clock.sleep,
            jitter=lambda: 1.0,
        )
        pools.append(pool)
        if started:
            pool.start()
        return pool

    yield build
    for pool in pools:
        await pool.stop()


def state(pool: KeyPool) -> LinkState | None:
    report = pool.stock().link
    return None if report is None else report.state


def streams(kme: FakeKme) -> int:
    return sum(call.startswith("events") for call in kme.calls)


# --- shared ----------------------------------------------------------------------------------


async def test_three_hundred_pools_of_one_peer_ask_as_often_as_one(make, kme, clock):
    kme.extension = link("up")
    pools = [make() for _ in range(300)]
    await settle()
    assert (kme.calls.count("status"), streams(kme)) == (1, 1)
    await clock.advance(50.0)
    assert (kme.calls.count("status"), streams(kme)) == (11, 1)
    assert all(pool.stock().stored_at_kme is not None for pool in pools)
    kme.extension = link("suspect")
    kme.tell()
    await settle()
    assert {state(pool) for pool in pools} == {LinkState.SUSPECT}
    assert kme.calls.count("status") == 11


async def test_pools_of_other_peers_and_of_other_groups_ask_for_themselves(make, kme, clock):
    make()
    make(peer="mars")
    await settle()
    assert kme.calls.count("status") == 2
    other = KmeGroup([kme], clock=clock, sleep=clock.sleep)
    pool = KeyPool(other, peer_sae="sun", settings=PoolSettings(), clock=clock, sleep=clock.sleep)
    pool.start()
    await settle()
    assert kme.calls.count("status") == 3
    await pool.stop()


async def test_a_pool_that_comes_later_knows_at_once_what_the_others_know(make, kme, clock):
    kme.extension = link("up")
    make()
    await settle()
    kme.extension = link("suspect")
    kme.tell()
    await clock.advance(1.0)
    late = make()
    assert state(late) is LinkState.SUSPECT
    assert late.stock().stored_at_kme is not None
    assert kme.calls.count("status") == 1


async def test_the_shortest_interval_counts_while_its_pool_is_there(make, kme, clock):
    make(poll_interval=10.0)
    hasty = make(poll_interval=1.0)
    await clock.advance(20.5)
    assert kme.calls.count("status") == 21
    await hasty.stop()
    await clock.advance(100.0)
    assert kme.calls.count("status") <= 21 + 11


async def test_the_last_pool_to_leave_ends_looks_and_streams(make, kme, clock):
    kme.extension = link("up")
    first, last = make(), make()
    await settle()
    await first.stop()
    await clock.advance(5.0)
    assert (kme.calls.count("status"), len(kme.streams)) == (2, 1)
    await last.stop()
    await clock.advance(100.0)
    assert (kme.calls.count("status"), len(kme.streams)) == (2, 0)
    again = make()
    await settle()
    assert kme.calls.count("status") == 3
    assert state(again) is LinkState.UP


async def test_a_pool_that_rests_a_kme_looks_elsewhere_and_the_others_do_not(
    make, kme, second, clock
):
    """Its peer does not take the keys of the first one; that is no business of other tunnels."""
    kme.extension = link("up")
    marked, other = make(), make()
    await settle()
    key = marked.take()
    assert key is not None
    marked.report(key.key_id, taken=False)
    second.extension = link("down")
    await clock.advance(5.0)
    assert (state(marked), state(other)) == (LinkState.DOWN, LinkState.UP)
    assert (second.calls.count("status"), len(second.streams)) == (1, 1)
    kme.extension = link("suspect")
    kme.tell()
    await settle()
    assert (state(marked), state(other)) == (LinkState.DOWN, LinkState.SUSPECT)


# --- events ----------------------------------------------------------------------------------


async def test_a_kme_that_advertises_no_stream_is_polled_as_ever(make, kme, clock):
    kme.extension = link("up", events=None)
    pool = make()
    await clock.advance(20.0)
    assert streams(kme) == 0
    kme.extension = link("suspect", events=None)
    await clock.advance(5.0)
    assert state(pool) is LinkState.SUSPECT


async def test_a_pool_goes_on_filling_as_soon_as_the_link_is_up_again(make, kme, clock):
    kme.extension = link("suspect")
    pool = make(target=2)
    await settle()
    pool.drop()
    await settle()
    assert pool.stock().ready == 0
    await clock.advance(1.0)
    kme.extension = link("up")
    kme.tell()
    await settle()
    assert pool.stock().ready == 2


async def test_an_event_of_a_kme_that_is_not_the_one_looked_at_changes_nothing(
    make, kme, second, clock
):
    kme.extension, second.extension = link("up"), link("up")
    pool = make()
    await settle()
    kme.fault = KmeUnreachableError("primary", "cannot connect")
    await clock.advance(5.0)
    assert len(second.streams) == 1
    assert len(kme.streams) == 0, "nothing keeps a stream that nobody heeds"
    await clock.advance(0.1)
    second.extension = link("down")
    second.tell()
    await settle()
    assert state(pool) is LinkState.DOWN


@pytest.mark.parametrize("error", [KmeNonsenseError, KmeUnreachableError])
async def test_a_stream_that_fails_is_counted_and_the_status_asked_at_once(make, kme, clock, error):
    kme.extension = link("up")
    pool = make()
    await clock.advance(1.0)
    (before, _) = pool._group.health()
    kme.extension = link("suspect")  # and nobody is told
    kme.tell(error("primary", "an event that cannot be read"))
    await settle()
    (after, _) = pool._group.health()
    assert after.failures == before.failures + 1
    assert after.healthy, "keys may be had all the same"
    assert after.last_error is None
    assert state(pool) is LinkState.SUSPECT
    await clock.advance(1.0)
    assert len(kme.streams) == 1


async def test_a_stream_that_can_never_be_had_does_not_hurry_the_looks(make, kme, clock):
    kme.extension = link("up")
    make()
    await settle()
    kme.tell(KmeUnreachableError("primary", "gone"))
    await settle()
    real, kme.events = kme.events, _refused
    await clock.advance(600.0)
    kme.events = real
    assert kme.calls.count("status") <= 600 / 5 + 1 + 20


async def _refused(peer_sae: str, path: str):
    raise KmeUnreachableError("primary", "no stream")
    yield


# --- old news and new ------------------------------------------------------------------------


async def hold_answer(kme: FakeKme, clock: FakeClock) -> asyncio.Event:
    """Have the next status answered with what the KME says now, but arrive later."""
    arrive = asyncio.Event()
    real = kme.status

    async def status(peer_sae: str):
        answer = await real(peer_sae)
        kme.status = real
        await arrive.wait()
        return answer

    kme.status = status
    await clock.advance(5.0)
    return arrive


async def test_an_event_is_not_undone_by_an_answer_that_was_on_its_way(make, kme, clock):
    kme.extension = link("up")
    pool = make()
    await settle()
    arrive = await hold_answer(kme, clock)
    kme.extension = link("suspect")
    kme.tell()
    await clock.advance(0.1)
    arrive.set()
    await settle()
    assert state(pool) is LinkState.SUSPECT
    kme.extension = link("up")
    await clock.advance(5.0)
    assert state(pool) is LinkState.UP, "the next look was asked for after the event"


async def test_bad_news_is_believed_even_if_it_may_be_old(make, kme, clock):
    kme.extension = link("suspect")
    pool = make()
    await settle()
    arrive = await hold_answer(kme, clock)
    kme.extension = link("up")
    kme.tell()
    await clock.advance(0.1)
    assert state(pool) is LinkState.UP
    arrive.set()
    await settle()
    assert state(pool) is LinkState.SUSPECT
    await clock.advance(5.0)
    assert state(pool) is LinkState.UP


async def test_the_stream_alone_can_end_a_suspicion(make, kme, clock):
    kme.extension = link("up")
    pool = make(poll_interval=3600.0)
    await settle()
    for each in ("suspect", "up", "suspect", "down", "up"):
        kme.extension = link(each)
        kme.tell()
        await clock.advance(0.01)
        assert state(pool) == each


async def test_events_of_one_stream_keep_their_order_although_each_seems_older(make, kme, clock):
    """Opening the stream took half a second, so every event is dated that much too early."""
    pool = make(poll_interval=3600.0)
    kme.extension = link("up")
    await settle()
    await clock.advance(10.0)
    (queue,) = kme.streams
    for name in ("suspect", "up"):
        kme.extension = link(name)
        queue.put_nowait(kme._event(clock.now - 0.5))
        await settle()
        assert state(pool) == name


async def test_a_kme_that_ceases_to_report_its_link_is_not_held_to_old_reports(make, kme, clock):
    kme.extension = link("suspect")
    pool = make()
    await settle()
    kme.extension = None
    await clock.advance(5.0)
    assert state(pool) is None
    assert len(kme.streams) == 0


async def test_each_event_dates_the_link_no_later_than_it_was_said(make, kme, clock):
    kme.extension = link("up")
    pool = make(poll_interval=3600.0)
    await settle()
    await clock.advance(20.0)
    kme.tell()
    await settle()
    assert pool.stock().link_at == clock.now
    (queue,) = kme.streams
    event = kme._event(clock.now)
    await clock.advance(10.0)  # under way for so long
    queue.put_nowait(event)
    await settle()
    assert pool.stock().link_at == clock.now - 10.0
