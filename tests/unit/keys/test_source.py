"""The keys of one tunnel in both roles."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from gateway.errors import KeyReusedError
from gateway.keys.source import MAX_FETCHES, MAX_UNKNOWN, UNKNOWN_FOR, TunnelKeys
from gateway.model import KeyId
from gateway.protection.health import HealthMonitor
from gateway.protection.inputs import Health
from kms_client.errors import KmeEmptyError, KmeUnauthorizedError, KmeUnreachableError, NoKeyError
from kms_client.failover import KmeGroup
from kms_client.models import QkdKey
from kms_client.pool import PoolSettings
from kms_client.secret import Secret
from tests.support.fake_clock import FakeClock, settle
from tests.support.fake_kme import FakeKme

KEY = bytes(range(32))


def key_id(number: int) -> KeyId:
    return KeyId(f"6a1c1c9e-0a36-4b1e-9d5c-{number:012x}")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def kme() -> FakeKme:
    return FakeKme()


@pytest_asyncio.fixture
async def keys(kme, clock):
    source = TunnelKeys(
        group=KmeGroup([kme], clock=clock, sleep=clock.sleep),
        peer_sae="sun",
        settings=PoolSettings(target=4, low_water=2),
        clock=clock,
        sleep=clock.sleep,
    )
    source.start()
    await settle()
    yield source
    await source.stop()


# --- master role -----------------------------------------------------------------------------


async def test_take_gives_a_fresh_key_each_time(keys, kme):
    taken = [keys.take() for _ in range(4)]
    assert [ppk.key_id for ppk in taken] == [key.key_id for key in kme.delivered[:4]]
    assert all(len(ppk.key) == 32 for ppk in taken)
    assert keys.take() is None


async def test_a_kme_that_repeats_a_key_id_is_found_out(keys, kme):
    first = keys.take()
    kme.repeat = QkdKey(key_id=first.key_id, key=Secret(KEY))
    for _ in range(3):
        keys.take()
    await settle()
    assert keys.take() is None
    assert all(key.key.wiped for key in kme.delivered[4:8])
    assert keys.view().reused == 4
    kme.repeat = None
    await settle()
    assert keys.take() is not None


async def test_settling_counts_used_and_burned(keys):
    for used in (True, False, True):
        keys.settle(keys.take().key_id, used=used)
    view = keys.view()
    assert (view.used, view.burned, view.reused) == (2, 1, 0)


async def test_quarantine_burns_the_pool_and_the_count_shows(keys, clock, kme):
    kme.hold = asyncio.Event()
    assert keys.quarantine(clock.now - 1.0) == 4
    assert keys.take() is None
    assert keys.view().burned == 4
    assert keys.quarantine(clock.now - 1.0) == 0


async def test_stop_wipes_the_pool(keys, kme):
    await keys.stop()
    assert all(key.key.wiped for key in kme.delivered)
    assert keys.take() is None


# --- slave role ------------------------------------------------------------------------------


async def test_fetch_gives_the_named_key_once(keys, kme):
    kme.for_us[key_id(1)] = KEY
    ppk = await keys.fetch(KeyId(key_id(1).upper()), timeout=3.0)
    assert (ppk.key_id, ppk.key.expose()) == (key_id(1), KEY)
    kme.for_us[key_id(1)] = KEY  # a KME that allows repeated reads
    asked = len(kme.calls)
    with pytest.raises(KeyReusedError):
        await keys.fetch(key_id(1), timeout=3.0)
    assert len(kme.calls) == asked
    assert keys.view().reused == 1


async def test_a_key_we_took_cannot_be_named_back_to_us(keys, kme):
    ours = keys.take().key_id
    kme.for_us[ours] = KEY
    with pytest.raises(KeyReusedError):
        await keys.fetch(ours, timeout=3.0)


async def test_a_key_we_fetched_is_never_taken(keys, kme):
    kme.for_us[key_id(1)] = KEY
    await keys.fetch(key_id(1), timeout=3.0)
    kme.repeat = QkdKey(key_id=key_id(1), key=Secret(KEY))
    for _ in range(4):
        assert keys.take() is not None
    await settle()
    assert keys.take() is None
    assert keys.view().reused == 4


async def test_the_same_key_named_twice_at_once_is_given_once(keys, kme):
    kme.for_us[key_id(1)] = KEY
    kme.hold = asyncio.Event()
    first = asyncio.create_task(keys.fetch(key_id(1), timeout=3.0))
    await settle()
    with pytest.raises(KeyReusedError):
        await keys.fetch(key_id(1), timeout=3.0)
    kme.hold.set()
    assert (await first).key_id == key_id(1)


async def test_an_unknown_key_is_not_asked_for_again_for_a_while(keys, kme, clock):
    for _ in range(3):
        with pytest.raises(NoKeyError, match="not found on KME"):
            await keys.fetch(key_id(1), timeout=3.0)
    assert kme.calls.count("dec_keys") == 1
    kme.for_us[key_id(1)] = KEY  # it was on its way between the KMEs
    await clock.advance(UNKNOWN_FOR)
    assert (await keys.fetch(key_id(1), timeout=3.0)).key.expose() == KEY
    assert keys.view().reused == 0


async def test_unknown_keys_remembered_are_bounded(keys, kme):
    for number in range(MAX_UNKNOWN + 5):
        with pytest.raises(NoKeyError):
            await keys.fetch(key_id(number), timeout=3.0)
    assert len(keys._unknown) == MAX_UNKNOWN


@pytest.mark.parametrize("kind", [KmeUnreachableError, KmeEmptyError])
async def test_a_kme_in_trouble_says_nothing_about_the_key(keys, kme, kind):
    kme.fault = kind("primary", "trouble")
    with pytest.raises(NoKeyError):
        await keys.fetch(key_id(1), timeout=3.0)
    kme.fault = None
    kme.for_us[key_id(1)] = KEY
    assert await keys.fetch(key_id(1), timeout=3.0)


async def test_a_key_of_another_pair_counts_as_unknown(keys, kme):
    kme.fault = KmeUnauthorizedError("primary", "dec_keys answered with HTTP 401 Unauthorized")
    for _ in range(2):
        with pytest.raises(NoKeyError, match="401"):
            await keys.fetch(key_id(1), timeout=3.0)
    assert kme.calls.count("dec_keys") == 1


async def test_fetch_ends_when_its_time_is_over(keys, kme):
    kme.hold = asyncio.Event()
    with pytest.raises(NoKeyError, match=r"no QKD key for sun: no KME delivered it within 0.01 s"):
        await keys.fetch(key_id(1), timeout=0.01)
    kme.hold = None
    kme.for_us[key_id(1)] = KEY
    assert await keys.fetch(key_id(1), timeout=3.0)


async def test_only_so_many_fetches_at_once(keys, kme):
    kme.hold = asyncio.Event()
    tasks = [
        asyncio.create_task(keys.fetch(key_id(number), timeout=3.0))
        for number in range(MAX_FETCHES)
    ]
    await settle()
    with pytest.raises(NoKeyError, match="4 requests are under way already"):
        await keys.fetch(key_id(99), timeout=3.0)
    for number in (*range(MAX_FETCHES), 99):
        kme.for_us[key_id(number)] = KEY
    kme.hold.set()
    assert len(await asyncio.gather(*tasks)) == MAX_FETCHES
    assert await keys.fetch(key_id(99), timeout=3.0)


async def test_a_cancelled_fetch_leaves_no_claim_and_no_place_taken(keys, kme):
    kme.hold = asyncio.Event()
    for _ in range(MAX_FETCHES + 1):
        task = asyncio.create_task(keys.fetch(key_id(1), timeout=3.0))
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert keys.view().reused == 0


@pytest.mark.parametrize("text", ["", "42", "../status", "6a1c1c9e0a364b1e9d5c0f1c6f0c2a01"])
async def test_a_ppk_id_that_is_no_uuid_never_reaches_a_kme(keys, kme, text):
    with pytest.raises(NoKeyError, match="not a UUID"):
        await keys.fetch(KeyId(text), timeout=3.0)
    assert "dec_keys" not in kme.calls


# --- what others see -------------------------------------------------------------------------


async def test_view_shows_the_stock(keys, clock):
    await clock.advance(5.0)
    view = keys.view()
    assert (view.peer_sae, view.pool, view.pool_target) == ("sun", 4, 4)
    assert view.stored_at_kme == 1_000_000 - 4


async def test_observation_of_a_healthy_source_is_judged_healthy_at_any_level(keys, clock):
    monitor = HealthMonitor()
    monitor.observe(keys.observe())
    keys.take()  # 3 of 4: above low water, so no refill and nothing missing
    for _ in range(100):
        await clock.advance(10.0)
        monitor.observe(keys.observe())
        assert monitor.state is Health.HEALTHY


async def test_observation_of_a_dead_kme_is_judged_lost_and_then_healthy_again(keys, kme, clock):
    monitor = HealthMonitor()
    kme.fault = KmeUnreachableError("primary", "cannot connect")
    while keys.take() is not None:
        pass
    monitor.observe(keys.observe())
    await clock.advance(60.0)
    monitor.observe(keys.observe())
    assert monitor.state is Health.LOST
    assert "cannot connect" in monitor.reason
    kme.fault = None
    await clock.advance(60.0)
    monitor.observe(keys.observe())
    assert monitor.state is Health.HEALTHY


async def test_observation_passes_on_the_link_report(keys, kme, clock):
    assert keys.observe().link_state is None
    kme.extension = {"qsgw_link": {"state": "suspect", "alarms": ["QBER 12 %"]}}
    await clock.advance(5.0)
    seen = keys.observe()
    assert (seen.link_state, seen.link_reason, seen.at) == ("suspect", "QBER 12 %", clock.now)


async def test_a_fetched_key_is_a_delivery(keys, kme, clock):
    before = keys.observe().last_delivery
    await clock.advance(10.0)
    kme.for_us[key_id(1)] = KEY
    await keys.fetch(key_id(1), timeout=3.0)
    assert keys.observe().last_delivery == clock.now > before
