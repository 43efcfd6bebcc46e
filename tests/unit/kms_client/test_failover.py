"""Order, failover, circuit breaker and return to the preferred KME."""

from __future__ import annotations

import asyncio

import pytest

from kms_client.breaker import Breaker, BreakerSettings, BreakerState
from kms_client.errors import (
    KmeEmptyError,
    KmeNonsenseError,
    KmeRefusedError,
    KmeTimeoutError,
    KmeTlsError,
    KmeUnauthorizedError,
    KmeUnavailableError,
    KmeUnreachableError,
    NoKeyError,
)
from kms_client.failover import KmeGroup
from tests.support.fake_clock import FakeClock, settle
from tests.support.fake_kme import FakeKme

KEY_ID = "6a1c1c9e-0a36-4b1e-9d5c-0f1c6f0c2a01"
BROKEN = [
    KmeUnreachableError,
    KmeTimeoutError,
    KmeTlsError,
    KmeNonsenseError,
    KmeUnavailableError,
    KmeUnauthorizedError,
]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def first() -> FakeKme:
    return FakeKme("first")


@pytest.fixture
def second() -> FakeKme:
    return FakeKme("second")


@pytest.fixture
def group(first, second, clock) -> KmeGroup:
    return KmeGroup([first, second], clock=clock)


def active(group: KmeGroup) -> str | None:
    return next((kme.name for kme in group.health() if kme.active), None)


# --- breaker ---------------------------------------------------------------------------------


def test_breaker_opens_after_failures_in_a_row_and_only_then():
    breaker = Breaker(BreakerSettings(failures=2, cool_down=5.0))
    breaker.failed(0.0)
    breaker.succeeded()
    breaker.failed(1.0)
    assert breaker.state(1.0) is BreakerState.CLOSED
    breaker.failed(2.0)
    assert breaker.state(2.0) is BreakerState.OPEN
    assert breaker.state(6.9) is BreakerState.OPEN
    assert breaker.state(7.0) is BreakerState.HALF_OPEN


def test_breaker_lets_one_probe_through_and_waits_longer_when_it_fails():
    breaker = Breaker(BreakerSettings(failures=1, cool_down=5.0, cool_down_max=12.0))
    breaker.failed(0.0)
    now = 0.0
    for pause in (5.0, 10.0, 12.0, 12.0):
        assert breaker.state(now + pause - 0.1) is BreakerState.OPEN
        now += pause
        assert breaker.state(now) is BreakerState.HALF_OPEN
        assert breaker.begin()
        assert breaker.state(now) is BreakerState.OPEN
        assert not breaker.begin()
        breaker.failed(now)
    now += 12.0
    assert breaker.begin()
    breaker.abandoned()
    assert breaker.state(now) is BreakerState.HALF_OPEN
    assert breaker.begin()
    breaker.succeeded()
    assert breaker.state(now) is BreakerState.CLOSED
    breaker.failed(now)
    assert breaker.state(now + 5.0) is BreakerState.HALF_OPEN  # the first pause again


# --- group -----------------------------------------------------------------------------------


async def test_the_preferred_kme_is_asked_and_nobody_else(group, first, second):
    assert len((await group.enc_keys("sun", number=3)).keys) == 3
    assert (first.calls, second.calls) == (["enc_keys"], [])
    assert active(group) == "first"


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_broken_kme_is_passed_over_and_returned_to(group, first, second, clock, kind):
    first.fault = kind("first", "is ill")
    for _ in range(4):
        assert await group.enc_keys("sun")
    assert first.calls == ["enc_keys"] * 2  # then the breaker was open
    assert active(group) == "second"
    ill, well = group.health()
    assert (ill.healthy, ill.last_error, ill.failures) == (False, "is ill", 2)
    assert (well.healthy, well.last_error, well.requests) == (True, None, 4)

    first.fault = None
    await clock.advance(5.0)
    await group.enc_keys("sun")
    assert len(first.calls) == 3
    assert active(group) == "first"
    assert group.health()[0].healthy
    assert group.health()[0].last_error is None


async def test_one_lost_answer_does_not_open_the_breaker(group, first):
    first.fault = KmeUnreachableError("first", "closed")
    await group.enc_keys("sun")
    first.fault = None
    await group.enc_keys("sun")
    assert len(first.calls) == 2
    assert group.health()[0].healthy


@pytest.mark.parametrize("kind", [KmeEmptyError, KmeRefusedError])
async def test_a_kme_without_keys_hands_over_but_is_not_broken(group, first, second, kind):
    first.fault = kind("first", "no keys")
    for _ in range(5):
        assert await group.enc_keys("sun")
    assert len(first.calls) == 5
    assert active(group) == "second"
    assert group.health()[0].healthy
    assert group.health()[0].failures == 0


@pytest.mark.parametrize("kind", [KmeRefusedError, KmeUnauthorizedError])
async def test_an_unknown_key_is_looked_for_at_the_next_kme(group, first, second, kind):
    second.for_us[KEY_ID] = bytes(31) + b"k"
    first.fault = kind("first", "one or more keys specified are not found on KME")
    (key,) = await group.dec_keys("sun", [KEY_ID])
    assert key.key_id == KEY_ID
    for _ in range(5):
        with pytest.raises(NoKeyError):
            await group.dec_keys("sun", [KEY_ID])
    assert len(first.calls) == 6  # it did not open the breaker
    assert all(kme.healthy for kme in group.health())


async def test_when_none_delivers_every_cause_is_told(group, first, second):
    first.fault = KmeTimeoutError("first", "no complete answer within 3 s")
    second.fault = KmeEmptyError("second", "no keys")
    with pytest.raises(NoKeyError) as caught:
        await group.enc_keys("sun")
    assert [type(cause) for cause in caught.value.causes] == [KmeTimeoutError, KmeEmptyError]
    assert str(caught.value) == (
        "no QKD key for sun: KME first: no complete answer within 3 s; KME second: no keys"
    )


async def test_the_last_hope_is_asked_although_its_breaker_is_open(group, first, second):
    first.fault = second.fault = KmeUnreachableError("x", "down")
    for _ in range(3):
        with pytest.raises(NoKeyError):
            await group.enc_keys("sun")
    assert active(group) is None
    first.fault = None  # back long before its cool-down is over
    assert await group.enc_keys("sun")
    assert active(group) == "first"


async def test_an_ill_kme_is_probed_by_one_request_at_a_time(group, first, second):
    first.fault = second.fault = KmeUnreachableError("x", "down")
    for _ in range(2):
        with pytest.raises(NoKeyError):
            await group.enc_keys("sun")
    first.hold = second.hold = asyncio.Event()
    asked = len(first.calls)
    waiting = asyncio.create_task(group.enc_keys("sun"))
    await settle()
    assert len(first.calls) == asked + 1
    probe_of_second = asyncio.create_task(group.enc_keys("sun"))
    await settle()
    assert len(first.calls) == asked + 1
    with pytest.raises(NoKeyError, match="KME first: down; KME second: down"):
        await group.enc_keys("sun")  # both are being asked: no third request waits with them
    waiting.cancel()
    await settle()
    first.hold.set()
    first.fault = None
    assert await group.enc_keys("sun")  # a cancelled probe proves nothing and blocks nothing
    with pytest.raises(NoKeyError):
        await probe_of_second


async def test_dec_keys_does_not_wait_for_an_ill_kme_that_might_be_back(
    group, first, second, clock
):
    first.fault = KmeTimeoutError("first", "silent")
    for _ in range(2):
        await group.enc_keys("sun")
    await clock.advance(100.0)  # half-open by now
    second.for_us[KEY_ID] = b"k" * 32
    asked = len(first.calls)
    await group.dec_keys("sun", [KEY_ID])
    assert len(first.calls) == asked
    await group.status("sun")
    assert len(first.calls) == asked + 1


async def test_a_good_status_does_not_hide_that_no_keys_come(group, first, second, clock):
    """A KME that answers key requests with garbage: one lasting complaint, not one per poll."""
    second.fault = KmeUnreachableError("second", "down")
    first.fault = KmeNonsenseError("first", "answer is not JSON")
    for _ in range(2):
        with pytest.raises(NoKeyError):
            await group.enc_keys("sun")
    fault, first.fault = first.fault, None
    for _ in range(3):
        await group.status("sun")
        await clock.advance(10.0)
        health = group.health()[0]
        assert not health.healthy
        assert health.last_error == fault.what
    await group.enc_keys("sun")
    assert group.health()[0].healthy
    assert group.health()[0].last_error is None


async def test_a_good_status_ends_what_only_status_had_shown(group, first, second, clock):
    second.fault = KmeUnreachableError("second", "down")
    first.status_fault = KmeTimeoutError("first", "no answer")
    for _ in range(2):
        with pytest.raises(NoKeyError):
            await group.status("sun")
    assert not group.health()[0].healthy
    first.status_fault = None
    await clock.advance(10.0)
    await group.status("sun")
    assert group.health()[0].healthy


async def test_close_closes_every_client(group, first, second):
    await group.close()
    assert first.closed
    assert second.closed


def test_a_group_of_nobody_is_refused():
    with pytest.raises(ValueError):
        KmeGroup([])
