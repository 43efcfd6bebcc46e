"""MACsec links of two whole gateways: keyed by the connection, as its policy would have it."""

from __future__ import annotations

import asyncio

from gateway.model import PortState, Protection
from tests.support.macsec_site import MacsecSite
from tests.support.virtual_loop import run_virtually


def test_a_link_comes_up_with_a_hybrid_cak_and_loses_nothing_in_rollovers() -> None:
    async def scenario() -> None:
        async with MacsecSite() as site:
            took = await site.until_links(Protection.HYBRID, 30)
            assert took < 12
            await asyncio.sleep(5)
            site.start_frames()
            for name in ("moon", "sun"):
                view = await site.view(name)
                assert (view.protection, view.port) == (Protection.HYBRID, PortState.SECURED)
                assert [sak.in_kernel for sak in view.saks] == [True]
                assert [cak.protection for cak in view.caks] == [Protection.HYBRID]
            tally = site.link_of("moon").events.tally
            await site.until(lambda: tally.cak_rollovers_hybrid >= 4, 400)
            await asyncio.sleep(10)
            assert site.deaf == []
            for name in ("moon", "sun"):
                assert site.shown(name) == ["HYBRID"]
                assert site.alarms(name) == set()
                view = await site.view(name)
                assert len(view.caks) == len(view.saks) == 1

    run_virtually(scenario())


def test_what_is_shown_is_published_when_it_changes_and_not_with_every_look() -> None:
    async def scenario() -> None:
        async with MacsecSite(rekey_max=3600.0) as site:
            await site.until_links(Protection.HYBRID, 30)
            assert site.moon.changes
            await asyncio.sleep(8)
            site.moon.changes.clear()
            await asyncio.sleep(60)
            assert site.moon.changes == []
            site.link_of("moon").new_sak()
            await asyncio.sleep(8)
            assert site.moon.changes

    run_virtually(scenario())
