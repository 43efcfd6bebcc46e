"""Two ends that want different things: never weaker than either end's policy, and told why."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gateway.model import Protection, QkdPolicy
from tests.support.memory_site import MemorySite
from tests.support.virtual_loop import run_virtually

REQUIRE, PREFER, OFF = QkdPolicy.REQUIRE, QkdPolicy.PREFER, QkdPolicy.OFF


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What an operator sees at the default level."""
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.INFO]


@pytest.mark.parametrize(("moon", "sun"), [(REQUIRE, OFF), (OFF, REQUIRE)])
def test_require_never_meets_off(moon, sun, caplog) -> None:
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        async with MemorySite(moon={"qkd": moon}, sun={"qkd": sun}) as site:
            await asyncio.sleep(600)
            site.send_both_ways()
            assert (site.lost, site.leaked) == (2, 0)
            for gateway in (site.moon, site.sun):
                assert gateway.dataplane.sas == ()
                assert not gateway.happened("child-up")
                assert gateway.protection in (Protection.DOWN, Protection.BLOCKED)
            knows = [site.moon, site.sun] if sun is REQUIRE else [site.moon]
            for gateway in knows:  # an initiator that gives up says nothing to a stranger
                assert "QKD" in gateway.tunnel.protection.reason
                (alarm,) = gateway.bulletin.alarms
                assert "QKD" in alarm.text

    run_virtually(scenario())
    lines = logged(caplog)
    assert len(lines) <= 6, lines  # ten minutes of trying: each end says why, once


@pytest.mark.parametrize(("moon", "sun"), [(REQUIRE, PREFER), (PREFER, REQUIRE)])
def test_require_with_prefer_is_hybrid_or_nothing(moon, sun) -> None:
    async def scenario() -> None:
        async with MemorySite(moon={"qkd": moon}, sun={"qkd": sun}) as site:
            await site.until_both(Protection.HYBRID, 30)
            site.link.cut()
            await asyncio.sleep(900)
            for gateway in (site.moon, site.sun):
                assert gateway.dataplane.sas == ()
                assert "PQC_ONLY" not in gateway.protections()
            site.link.heal()
            await site.until_both(Protection.HYBRID, 300)

    run_virtually(scenario())


@pytest.mark.parametrize(("moon", "sun"), [(PREFER, OFF), (OFF, PREFER)])
def test_prefer_with_off_is_pqc_only_and_does_not_burn_keys(moon, sun, caplog) -> None:
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        site = MemorySite(moon={"qkd": moon}, sun={"qkd": sun}, rekey_max=3600.0)
        async with site:
            await site.until_both(Protection.PQC_ONLY, 30)
            site.start_traffic(every=0.2)
            await asyncio.sleep(5)
            caplog.clear()
            await asyncio.sleep(1800)
            assert (site.lost, site.leaked) == (0, 0)
            for gateway in (site.moon, site.sun):
                assert gateway.protections() == ["PQC_ONLY"]
                assert len(gateway.happened("child-up")) <= 9  # it looks ever more rarely
                keys = gateway.tunnel.keys
                assert keys is None or keys.view().burned <= 12
            alarms = {alarm.id for g in (site.moon, site.sun) for alarm in g.bulletin.alarms}
            assert alarms == {"pqc-only"}

    run_virtually(scenario())
    routine = ("carries traffic", ": SA ", "IKE SA with", "IKE SA closed")
    why = [line for line in logged(caplog) if not any(word in line for word in routine)]
    assert len(why) <= 2, why


def test_an_end_that_turns_qkd_on_again_is_found_out() -> None:
    async def scenario() -> None:
        async with MemorySite(sun={"qkd": OFF}, rekey_max=600.0) as site:
            await site.until_both(Protection.PQC_ONLY, 30)
            await asyncio.sleep(400)
            await site.reload("sun", qkd=PREFER)
            await site.until_both(Protection.HYBRID, 700)

    run_virtually(scenario())


def test_degraded_max_at_one_end_blocks_both_and_ends_by_itself() -> None:
    async def scenario() -> None:
        for limited in ("moon", "sun"):
            site = MemorySite(**{limited: {"degraded_max": 100.0}})
            async with site:
                await site.until_both(Protection.HYBRID, 30)
                site.link.cut()
                await site.until_both(Protection.PQC_ONLY, 600)
                gateway = getattr(site, limited)
                took = await site.until(lambda g=gateway: g.protection is Protection.BLOCKED, 200)
                assert 95 <= took <= 105
                await asyncio.sleep(60)
                for each in (site.moon, site.sun):
                    assert each.dataplane.sas == ()
                site.link.heal()
                await site.until_both(Protection.HYBRID, 120)
                assert gateway.protections() == ["HYBRID", "PQC_ONLY", "BLOCKED", "HYBRID"]

    run_virtually(scenario())


def test_off_at_both_ends_is_pqc_only_without_an_alarm() -> None:
    async def scenario() -> None:
        async with MemorySite(qkd=OFF, kmes=()) as site:
            took = await site.until_both(Protection.PQC_ONLY, 5)
            assert took < 1
            await site.until(lambda: site.moon.tunnel.tally.rekeys_pqc_only >= 2, 300)
            assert site.moon.bulletin.alarms == site.sun.bulletin.alarms == ()

    run_virtually(scenario())
