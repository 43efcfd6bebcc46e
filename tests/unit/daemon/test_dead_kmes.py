"""KMEs that die, at either end or both, alone or with a twin that lives."""

from __future__ import annotations

import asyncio

import pytest

from gateway.model import Protection, QkdPolicy
from tests.support.memory_site import MemorySite
from tests.support.virtual_loop import run_virtually

TWO = ("primary", "secondary")


@pytest.mark.parametrize("dead", [("sun",), ("moon",), ("moon", "sun")])
def test_prefer_goes_on_without_and_comes_back(dead) -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic(every=0.05)
            site.link.kill(*dead)
            await site.until_both(Protection.PQC_ONLY, 900)
            await asyncio.sleep(300)
            alarms = {alarm.id for alarm in getattr(site, dead[0]).bulletin.alarms}
            assert {"kme-unreachable", "pqc-only"} <= alarms
            site.link.revive()
            await site.until_both(Protection.HYBRID, 400)
            await asyncio.sleep(40)
            assert (site.lost, site.leaked) == (0, 0)
            assert site.moon.protections() == ["HYBRID", "PQC_ONLY", "HYBRID"]
            assert site.sun.protections() == ["HYBRID", "PQC_ONLY", "HYBRID"]
            assert site.moon.bulletin.alarms == site.sun.bulletin.alarms == ()

    run_virtually(scenario())


@pytest.mark.parametrize("dead", [("sun",), ("moon",), ("moon", "sun")])
def test_require_blocks_and_comes_back(dead) -> None:
    async def scenario() -> None:
        async with MemorySite(qkd=QkdPolicy.REQUIRE) as site:
            await site.until_both(Protection.HYBRID, 15)
            site.link.kill(*dead)
            await site.until(lambda: site.moon.protection is Protection.BLOCKED, 900)
            await asyncio.sleep(120)
            for gateway in (site.moon, site.sun):
                assert gateway.dataplane.sas == ()
                assert gateway.protection in (Protection.BLOCKED, Protection.DOWN)
            site.link.revive()
            await site.until_both(Protection.HYBRID, 200)
            for gateway in (site.moon, site.sun):
                assert "PQC_ONLY" not in gateway.protections()
                blocked = [e for e in gateway.happened("alarm-raised") if "blocked" in e.text]
                assert len(blocked) <= 2, blocked

    run_virtually(scenario())


@pytest.mark.parametrize("dead", [("sun",), ("moon",), ("moon", "sun")])
@pytest.mark.parametrize("qkd", [QkdPolicy.PREFER, QkdPolicy.REQUIRE])
def test_dead_from_the_start(qkd, dead) -> None:
    async def scenario() -> None:
        site = MemorySite(qkd=qkd)
        site.link.kill(*dead)
        async with site:
            if qkd is QkdPolicy.PREFER:
                took = await site.until_both(Protection.PQC_ONLY, 60)
                assert took < 20
            else:
                await asyncio.sleep(60)
                assert site.moon.dataplane.sas == site.sun.dataplane.sas == ()
                assert site.moon.protection is Protection.BLOCKED
            site.link.revive()
            await site.until_both(Protection.HYBRID, 300)

    run_virtually(scenario())


@pytest.mark.parametrize("dead", [("sun",), ("moon",), ("moon", "sun")])
@pytest.mark.parametrize("qkd", [QkdPolicy.PREFER, QkdPolicy.REQUIRE])
def test_a_twin_takes_over_and_nobody_notices(qkd, dead) -> None:
    async def scenario() -> None:
        async with MemorySite(qkd=qkd, kmes=TWO) as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic(every=0.05)
            site.link.kill(*dead)
            rekeys = site.moon.tunnel.tally.rekeys_hybrid
            await site.until(lambda: site.moon.tunnel.tally.rekeys_hybrid >= rekeys + 6, 900)
            assert site.moon.protections() == site.sun.protections() == ["HYBRID"]
            for name in dead:
                alarms = getattr(site, name).bulletin.alarms
                assert [(a.id, a.subject) for a in alarms] == [("kme-unreachable", f"kme-{name}")]
            site.link.revive()
            await asyncio.sleep(300)
            assert site.moon.bulletin.alarms == site.sun.bulletin.alarms == ()
            assert (site.lost, site.leaked) == (0, 0)
            for gateway in (site.moon, site.sun):
                assert gateway.tunnel.keys.view().reused == 0

    run_virtually(scenario())


def test_a_kme_taken_out_of_the_configuration_takes_its_alarm_along() -> None:
    async def scenario() -> None:
        async with MemorySite(kmes=TWO) as site:
            await site.until_both(Protection.HYBRID, 15)
            site.link.kill("moon")
            await site.until(lambda: site.moon.bulletin.alarms, 200)
            await site.reload("moon", kmes=("secondary",))
            await asyncio.sleep(5)
            assert site.moon.bulletin.alarms == ()

    run_virtually(scenario())
