"""A suspicion that one end alone hears of: the other may still hold keys of that time."""

from __future__ import annotations

import asyncio

import pytest

from gateway.model import Protection, QkdPolicy
from gateway.protection.quantum import QuantumSide
from tests.support.memory_site import MemorySite
from tests.support.virtual_loop import run_virtually

POOL_AGE = 900.0  # seconds, kms_client.pool.PoolSettings.max_age


async def _suspicion_at_sun(site: MemorySite, *, lasts: float) -> set[str]:
    """Returns the key_IDs delivered to moon between sun's last good moment and the all-clear."""
    await site.until_both(Protection.HYBRID, 15)
    site.link.report("up")
    await asyncio.sleep(12)  # sun has seen a good report
    keys, kme = site.moon.tunnel.keys, site.link.kmes["moon"]
    good = len(kme.delivered)
    while (key := keys.take()) is not None:  # as if rekeys had taken them: new ones come in
        keys.settle(key.key_id, used=False)
    await asyncio.sleep(1)
    site.link.report("suspect", "sun")
    await site.until(lambda: site.sun.happened("keys-quarantined"), 10)
    await asyncio.sleep(lasts)
    site.link.report("up", "sun")
    await site.until(lambda: not site.sun.tunnel.protection._facts.quantum.suspect, 10)
    tainted = {key.key_id for key in kme.delivered[good:]}
    assert len(tainted) >= 3
    return tainted


def used(site: MemorySite) -> set[object]:
    """key_IDs of the SAs of both ends."""
    return {
        event.fields["key_id"]
        for gateway in (site.moon, site.sun)
        for event in gateway.happened("child-up")
    }


@pytest.mark.parametrize("lasts", [3.0, 40.0, 200.0])
@pytest.mark.parametrize("qkd", [QkdPolicy.PREFER, QkdPolicy.REQUIRE])
def test_no_key_of_that_time_is_used_after_the_all_clear(qkd, lasts) -> None:
    async def scenario() -> None:
        async with MemorySite(qkd=qkd) as site:
            tainted = await _suspicion_at_sun(site, lasts=lasts)
            await site.until_both(Protection.HYBRID, POOL_AGE + 120)
            await asyncio.sleep(300)
            assert site.moon.protection is site.sun.protection is Protection.HYBRID
            assert tainted.isdisjoint(used(site))
            assert site.moon.bulletin.alarms == site.sun.bulletin.alarms == ()
            assert site.leaked == 0

    run_virtually(scenario())


def test_without_the_doubt_one_would_be(monkeypatch) -> None:
    monkeypatch.setattr(QuantumSide, "admit_peer_key", lambda self, now: not self.suspect)

    async def scenario() -> None:
        async with MemorySite() as site:
            tainted = await _suspicion_at_sun(site, lasts=3.0)
            await site.until_both(Protection.HYBRID, 400)
            await asyncio.sleep(120)
            assert not tainted.isdisjoint(used(site))

    run_virtually(scenario())


def test_where_both_ends_heard_it_the_doubt_costs_one_key_and_one_dwell() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic(every=0.05)
            site.link.report("suspect")
            await site.until_both(Protection.PQC_ONLY, 30)
            await asyncio.sleep(60)
            site.link.report("up")
            took = await site.until_both(Protection.HYBRID, 200)
            assert took <= 5 + 20 + 20 + 2  # the poll, restore_dwell, and once more
            assert site.lost == site.leaked == 0

    run_virtually(scenario())


def test_the_doubt_ends_when_the_peer_can_hold_no_such_key_any_more() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            site.link.report("suspect", "sun")
            await site.until_both(Protection.PQC_ONLY, 30)
            site.wire.loses = lambda _data: True  # nothing is offered for a long time
            site.link.report("up", "sun")
            await asyncio.sleep(POOL_AGE + 60)
            refused = len(site.sun.happened("ppk-not-used"))
            site.wire.loses = lambda _data: False
            await site.until_both(Protection.HYBRID, 300)
            assert len(site.sun.happened("ppk-not-used")) == refused

    run_virtually(scenario())


def test_a_reload_does_not_end_the_doubt() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            tainted = await _suspicion_at_sun(site, lasts=3.0)
            await site.reload("sun", restore_dwell=25.0)
            await site.until_both(Protection.HYBRID, 400)
            await asyncio.sleep(120)
            assert tainted.isdisjoint(used(site))

    run_virtually(scenario())
