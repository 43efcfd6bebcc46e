"""What policy does to a MACsec link: loss, suspicion, block, return; and how fast."""

from __future__ import annotations

import asyncio

import pytest

from gateway.model import PortState, Protection, QkdPolicy
from gateway.protection.inputs import OperatorInitiate, OperatorTerminate
from tests.support.macsec_site import LINK, MacsecSite
from tests.support.virtual_loop import run_virtually

NAMES = ("moon", "sun")


def test_loss_falls_back_at_the_next_rekey_and_returns_without_losing_a_frame() -> None:
    async def scenario() -> None:
        async with MacsecSite() as site:
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(3)
            site.start_frames()
            site.link.cut()
            await site.until_links(Protection.PQC_ONLY, 600)
            for name in NAMES:
                view = await site.view(name)
                assert view.protection is Protection.PQC_ONLY
                assert view.caks[-1].key_id is None
            await asyncio.sleep(100)
            site.link.heal()
            await site.until_links(Protection.HYBRID, 200)
            await asyncio.sleep(10)
            assert site.deaf == []
            for name in NAMES:
                assert site.shown(name) == ["HYBRID", "PQC_ONLY", "HYBRID"]
                assert site.alarms(name) == set()

    run_virtually(scenario())


@pytest.mark.parametrize("sees", [("moon", "sun"), ("moon",), ("sun",)])
def test_a_suspicion_has_another_sak_in_use_within_two_seconds(sees: tuple[str, ...]) -> None:
    async def scenario() -> None:
        async with MacsecSite() as site:
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(8)
            site.start_frames()
            loop = asyncio.get_running_loop()
            site.link.report("suspect", *sees)
            await site.until(
                lambda: any(getattr(site, n).happened("keys-quarantined") for n in NAMES), 10
            )
            decided = loop.time()
            await site.until_links(Protection.PQC_ONLY, 10)
            assert loop.time() - decided < 2.0
            assert site.deaf == []

    run_virtually(scenario())


def test_require_blocks_and_nothing_passes_until_keys_are_back() -> None:
    async def scenario() -> None:
        async with MacsecSite(qkd=QkdPolicy.REQUIRE) as site:
            await site.until_links(Protection.HYBRID, 30)
            site.link.cut()
            await site.until(lambda: site.moon.protection is Protection.BLOCKED, 900)
            assert site.link_of("moon").protection is Protection.BLOCKED
            await asyncio.sleep(0.01)
            assert not site.hears("moon")
            assert not site.hears("sun")
            await asyncio.sleep(20)
            for name in NAMES:
                view = await site.view(name)
                assert view.port is PortState.BLOCKED
                assert view.saks == ()
                assert view.protection is not Protection.PQC_ONLY
                assert "PQC_ONLY" not in site.shown(name)
            assert "macsec-blocked" in site.alarms("moon")
            site.link.heal()
            await site.until_links(Protection.HYBRID, 200)
            await asyncio.sleep(5)
            site.start_frames()
            await asyncio.sleep(20)
            assert site.deaf == []
            assert all(site.alarms(name) == set() for name in NAMES)

    run_virtually(scenario())


def test_suspicion_where_qkd_is_required_blocks_at_once() -> None:
    async def scenario() -> None:
        async with MacsecSite(qkd=QkdPolicy.REQUIRE) as site:
            await site.until_links(Protection.HYBRID, 30)
            site.link.report("suspect", *NAMES)
            await site.until(lambda: site.moon.protection is Protection.BLOCKED, 30)
            await asyncio.sleep(0.01)
            assert not site.hears("moon")
            assert not site.hears("sun")

    run_virtually(scenario())


def test_degraded_max_blocks_the_link() -> None:
    async def scenario() -> None:
        async with MacsecSite(degraded_max=100.0) as site:
            await site.until_links(Protection.HYBRID, 30)
            site.link.cut()
            await site.until_links(Protection.PQC_ONLY, 600)
            await site.until(lambda: site.moon.protection is Protection.BLOCKED, 200)
            await asyncio.sleep(1)
            assert site.link_of("moon").protection is Protection.BLOCKED
            assert not site.hears("moon")
            assert not site.hears("sun")

    run_virtually(scenario())


def test_terminate_and_initiate() -> None:
    async def scenario() -> None:
        async with MacsecSite() as site:
            await site.until_links(Protection.HYBRID, 30)
            site.moon.tunnel.feed(OperatorTerminate())
            await asyncio.sleep(20)
            assert not site.hears("moon")
            assert not site.hears("sun")
            assert site.link_of("moon").protection is Protection.DOWN
            assert "macsec-down" not in site.alarms("moon"), "the operator wants it so"
            site.moon.tunnel.feed(OperatorInitiate())
            await site.until_links(Protection.HYBRID, 30)

    run_virtually(scenario())


def test_the_ike_sa_is_lost_and_traffic_goes_on() -> None:
    """The management network is down: the CAK there is goes on, and it is told; not for ever."""

    async def scenario() -> None:
        async with MacsecSite() as site:
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(5)
            site.start_frames()
            site.wire.loses = lambda _data: True
            await site.until(lambda: "cak-not-renewed" in site.alarms("moon"), 400)
            assert site.link_of("moon").protection is Protection.HYBRID
            texts = [a.text for a in site.moon.bulletin.alarms if a.id == "tunnel-down"]
            assert texts
            assert not [text for text in texts if "traffic" in text or "tunnel" in text]
            assert site.deaf == []
            await site.until(lambda: site.link_of("moon").protection is Protection.DOWN, 400)
            await asyncio.sleep(10)
            assert not site.hears("moon")
            site.wire.loses = lambda _data: False
            await site.until_links(Protection.HYBRID, 400)
            await asyncio.sleep(5)
            assert site.alarms("moon") == set()

    run_virtually(scenario())


def test_what_the_operator_reads_names_the_link() -> None:
    async def scenario() -> None:
        async with MacsecSite() as site:
            await site.until_links(Protection.HYBRID, 30)
            (event,) = [e for e in site.moon.happened("protection") if e.tunnel == LINK]
            assert event.fields == {"old": "DOWN", "new": "HYBRID"}

    run_virtually(scenario())
