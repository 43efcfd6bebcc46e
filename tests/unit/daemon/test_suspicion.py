"""An eavesdropping alarm of the quantum link, from the KME's status to the SAs in both kernels."""

from __future__ import annotations

import asyncio

import pytest

from gateway.model import Protection, QkdPolicy
from tests.support.memory_site import MemorySite
from tests.support.virtual_loop import run_virtually


def alarms(gateway) -> set[str]:
    return {alarm.id for alarm in gateway.bulletin.alarms}


def raised(gateway, alarm: str) -> int:
    return sum(event.fields["alarm"] == alarm for event in gateway.happened("alarm-raised"))


@pytest.mark.parametrize("sees", [("moon", "sun"), ("moon",), ("sun",)])
def test_the_sa_is_replaced_at_once_and_hybrid_comes_back_after_the_dwell(sees) -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic()
            await asyncio.sleep(8)
            used = {event.fields["key_id"] for event in site.moon.happened("child-up")}
            site.link.report("suspect", *sees)
            took = await site.until_both(Protection.PQC_ONLY, 30)
            assert took <= 5 + 1 + 1.5  # the poll of the KME, the responder's grace, the exchange
            await asyncio.sleep(6)
            for name in sees:
                gateway = getattr(site, name)
                assert {"qkd-suspect", "pqc-only"} <= alarms(gateway)
                assert raised(gateway, "qkd-suspect") == 1
                assert gateway.happened("keys-quarantined")
            await asyncio.sleep(60)
            if len(sees) == 2:
                assert site.moon.protection is site.sun.protection is Protection.PQC_ONLY

            site.link.report("up", *sees)
            took = await site.until_both(Protection.HYBRID, 120)
            if "moon" in sees:
                assert took >= 20  # restore_dwell
            await asyncio.sleep(25)
            assert site.moon.bulletin.alarms == site.sun.bulletin.alarms == ()
            assert (site.lost, site.leaked) == (0, 0)
            fresh = [
                event.fields["key_id"] for event in site.moon.happened("child-up")[len(used) :]
            ]
            assert used.isdisjoint(fresh)

    run_virtually(scenario())


def test_keys_delivered_after_the_last_good_report_are_dropped_and_older_ones_kept() -> None:
    """The link was attacked between two looks at the KME: what came in between is tainted."""

    async def scenario() -> None:
        async with MemorySite(pool_target=4, rekey_min=600.0, rekey_max=1200.0) as site:
            await site.until_both(Protection.HYBRID, 15)
            site.link.report("up")
            keys, kme = site.moon.tunnel.keys, site.link.kmes["moon"]
            polls = kme.calls.count("status")
            await site.until(lambda: kme.calls.count("status") > polls + 1, 15)  # all is well
            delivered = len(kme.delivered)
            while keys.view().pool > 2:  # some are used, so that new ones are delivered
                keys.settle(keys.take().key_id, used=False)
            await asyncio.sleep(2.5)  # the observer sees a full pool and a link that was fine
            tainted = len(kme.delivered) - delivered
            assert (tainted, keys.view().pool) == (2, 4)

            site.link.report("suspect", "moon")
            await site.until(lambda: site.moon.happened("keys-quarantined"), 10)
            assert site.moon.happened("keys-quarantined")[0].fields["keys"] == tainted
            assert keys.view().pool == 2

    run_virtually(scenario())


def test_a_kme_that_tells_events_is_heeded_at_once_and_not_at_the_next_look() -> None:
    """Both gateways are off HYBRID, and sun's keys are dropped, before any status is asked for."""

    async def scenario() -> None:
        async with MemorySite() as site:
            site.link.report("up", events="events")
            await site.until_both(Protection.HYBRID, 15)
            kme = site.link.kmes["sun"]
            await site.until(lambda: kme.streams, 10)
            looks = kme.calls.count("status")
            await site.until(lambda: kme.calls.count("status") > looks, 10)
            await asyncio.sleep(0.5)
            looks = kme.calls.count("status")
            site.link.report("suspect", events="events", suspect_age=0.1)
            await site.until(lambda: site.sun.happened("keys-quarantined"), 0.2)
            await site.until_both(Protection.PQC_ONLY, 3)
            assert kme.calls.count("status") == looks
            site.link.report("up", events="events")
            await site.until_both(Protection.HYBRID, 120)

    run_virtually(scenario())


def test_the_kmes_own_last_good_moment_counts_where_it_is_the_earlier() -> None:
    """It noticed late: keys of the last minute go, although it called the link good meanwhile."""

    async def scenario() -> None:
        async with MemorySite(pool_target=4, rekey_min=600.0, rekey_max=1200.0) as site:
            site.link.report("up")
            await site.until_both(Protection.HYBRID, 15)
            keys = site.moon.tunnel.keys
            await asyncio.sleep(100)
            while keys.view().pool > 2:
                keys.settle(keys.take().key_id, used=False)
            await asyncio.sleep(40)  # four looks at least found the link good
            assert keys.view().pool == 4
            site.link.report("suspect", "moon", suspect_age=60.0)
            await site.until(lambda: site.moon.happened("keys-quarantined"), 10)
            assert site.moon.happened("keys-quarantined")[0].fields["keys"] == 2
            assert keys.view().pool == 2

    run_virtually(scenario())


@pytest.mark.parametrize("sees", [("moon", "sun"), ("moon",), ("sun",)])
def test_require_blocks_at_once_and_comes_back_by_itself(sees) -> None:
    async def scenario() -> None:
        async with MemorySite(qkd=QkdPolicy.REQUIRE) as site:
            await site.until_both(Protection.HYBRID, 15)
            site.link.report("suspect", *sees)
            for name in sees:
                gateway = getattr(site, name)
                took = await site.until(lambda g=gateway: g.protection is Protection.BLOCKED, 30)
                assert took <= 6
            await asyncio.sleep(3)
            for gateway in (site.moon, site.sun):
                assert gateway.dataplane.sas == ()
            for _ in range(3):
                site.fates.clear()
                site.send_both_ways()
                assert (site.lost, site.leaked) == (2, 0)
                await asyncio.sleep(20)
            for name in sees:
                assert {"qkd-suspect", "blocked"} <= alarms(getattr(site, name))
            site.link.report("up", *sees)
            await site.until_both(Protection.HYBRID, 200)
            site.fates.clear()
            site.send_both_ways()
            assert (site.lost, site.leaked) == (0, 0)
            assert "PQC_ONLY" not in site.moon.protections() + site.sun.protections()

    run_virtually(scenario())


def test_the_ends_see_it_at_different_times() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic()
            site.link.report("suspect", "sun")
            await asyncio.sleep(17)
            site.link.report("suspect", "moon")
            await asyncio.sleep(40)
            assert site.moon.protection is site.sun.protection is Protection.PQC_ONLY
            site.link.report("up", "moon")
            await asyncio.sleep(40)  # moon trusts its keys again and sun does not yet
            assert site.sun.protection is Protection.PQC_ONLY
            site.link.report("up", "sun")
            await site.until_both(Protection.HYBRID, 120)
            assert (site.lost, site.leaked) == (0, 0)
            assert site.sun.protections() == ["HYBRID", "PQC_ONLY", "HYBRID"]

    run_virtually(scenario())


def test_a_link_that_comes_and_goes_raises_one_alarm_and_changes_protection_once() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic(every=0.1)
            for _ in range(12):
                site.link.report("suspect")
                await asyncio.sleep(7)
                site.link.report("up")
                await asyncio.sleep(7)
            for gateway in (site.moon, site.sun):
                assert raised(gateway, "qkd-suspect") == 1
                assert raised(gateway, "pqc-only") == 1
                assert gateway.protections() == ["HYBRID", "PQC_ONLY"]
            await site.until_both(Protection.HYBRID, 120)
            assert (site.lost, site.leaked) == (0, 0)

    run_virtually(scenario())


def test_a_reload_during_suspicion_changes_nothing_about_it() -> None:
    """The IKE core must go on refusing QKD keys from the peer, whatever the file says."""

    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            site.link.report("suspect", "sun")
            await site.until_both(Protection.PQC_ONLY, 60)
            await site.sun.reload(site.sun.config)
            await asyncio.sleep(120)
            assert site.sun.protections() == ["HYBRID", "PQC_ONLY"]
            assert site.moon.protections() == ["HYBRID", "PQC_ONLY"]

    run_virtually(scenario())
