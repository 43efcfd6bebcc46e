"""Limits on what one SA carries: replaced at the soft one, nothing through it after the hard."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.daemon.lifetimes import SEQUENCE_NUMBERS, SEQUENCE_REKEY, SPREAD, SaLimits
from gateway.dataplane.memory import PACKET_SIZE
from gateway.model import Protection, SaId
from tests.support.memory_site import MemorySite
from tests.support.virtual_loop import run_virtually

LIMITS = SaLimits(octets=1000, packets=100, seconds=7260, early=True)


@pytest.mark.parametrize("drawn", [0.0, 0.5, 0.999])
def test_the_initiator_is_the_first_to_rekey(drawn: float) -> None:
    ours = LIMITS.draw(esn=True, random=lambda: drawn)
    theirs = replace(LIMITS, early=False).draw(esn=True, random=lambda: drawn)
    assert ours.soft_bytes == int(1000 * (1 - SPREAD * drawn))
    assert ours.soft_packets == int(100 * (1 - SPREAD * drawn))
    assert (theirs.soft_bytes, theirs.soft_packets) == (1000, 100)
    for lifetime in (ours, theirs):
        assert (lifetime.hard_bytes, lifetime.hard_packets) == (2000, 200)
        assert (lifetime.soft_seconds, lifetime.hard_seconds) == (None, 7260)


def test_without_limits_sequence_numbers_are_the_limit_where_they_end() -> None:
    free = replace(LIMITS, octets=None, packets=None)
    esn = free.draw(esn=True, random=lambda: 0.0)
    assert (esn.soft_bytes, esn.hard_bytes) == (None, None)
    assert (esn.soft_packets, esn.hard_packets) == (None, None)
    short = free.draw(esn=False, random=lambda: 0.0)
    assert (short.soft_packets, short.hard_packets) == (SEQUENCE_REKEY, SEQUENCE_NUMBERS)


def test_more_packets_than_sequence_numbers_is_not_possible() -> None:
    short = replace(LIMITS, packets=3 * 10**9).draw(esn=False, random=lambda: 0.0)
    assert short.soft_packets == SEQUENCE_REKEY < short.hard_packets == SEQUENCE_NUMBERS
    esn = replace(LIMITS, packets=3 * 10**9).draw(esn=True, random=lambda: 0.0)
    assert (esn.soft_packets, esn.hard_packets) == (3 * 10**9, 6 * 10**9)


@pytest.mark.parametrize("limit", [{"rekey_packets": 500}, {"rekey_bytes": 500 * PACKET_SIZE}])
def test_traffic_has_the_sa_replaced_and_loses_nothing(limit: dict[str, int]) -> None:
    async def scenario() -> None:
        async with MemorySite(rekey_min=3600.0, rekey_max=7200.0, **limit) as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic(every=0.02)
            took = await site.until(lambda: site.moon.tunnel.tally.rekeys >= 3, 60)
            assert took > 0.9 * 3 * 500 * 0.02 * 0.9
            assert (site.lost, site.leaked) == (0, 0)
            # One rekey per limit, not one from each end.
            assert site.moon.tunnel.tally.rekeys == site.sun.tunnel.tally.rekeys
            roles = {event.fields["role"] for event in site.moon.happened("child-up")}
            assert roles == {"initiator"}

    run_virtually(scenario())


def test_without_limits_traffic_alone_replaces_nothing() -> None:
    async def scenario() -> None:
        async with MemorySite(rekey_min=3600.0, rekey_max=7200.0) as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic(every=0.02)
            await asyncio.sleep(60)
            assert site.moon.tunnel.tally.rekeys == 0

    run_virtually(scenario())


def test_where_no_rekey_succeeds_the_hard_limit_drops_and_leaks_nothing() -> None:
    async def scenario() -> None:
        async with MemorySite(rekey_min=3600.0, rekey_max=7200.0, rekey_packets=200) as site:
            await site.until_both(Protection.HYBRID, 15)
            site.wire.loses = lambda _data: True
            for _ in range(1000):
                site.send_both_ways()
            assert site.leaked == 0
            assert site.fates["protected"] == 2 * 2 * 200  # both ways up to the hard limit
            await asyncio.sleep(0.1)
            assert site.moon.dataplane.sas == site.sun.dataplane.sas == ()
            site.wire.loses = lambda _data: False
            await site.until_both(Protection.HYBRID, 300)
            before = site.lost
            site.send_both_ways()
            assert (site.lost, site.leaked) == (before, 0)

    run_virtually(scenario())


def test_the_soft_limit_of_an_sa_that_was_replaced_is_no_news() -> None:
    async def scenario() -> None:
        async with MemorySite(rekey_min=3600.0, rekey_max=7200.0) as site:
            await site.until_both(Protection.HYBRID, 15)
            (old,) = site.moon.driver.endpoint.views()[0].children
            site.moon.dataplane.expire(SaId(site.moon.tunnel.local, old.spi_in), hard=False)
            await site.until(lambda: site.moon.tunnel.tally.rekeys == 1, 10)
            lingering = SaId(site.moon.tunnel.local, old.spi_in)
            assert lingering in {sa.sa_id for sa in site.moon.dataplane.sas}
            site.moon.dataplane.expire(lingering, hard=False)
            await asyncio.sleep(30)
            assert site.moon.tunnel.tally.rekeys == 1

    run_virtually(scenario())


def test_a_soft_limit_whose_telling_was_lost_is_found() -> None:
    async def scenario() -> None:
        limits = {"rekey_min": 3600.0, "rekey_max": 7200.0, "rekey_packets": 100}
        async with MemorySite(moon=limits, sun={**limits, "rekey_packets": None}) as site:
            await site.until_both(Protection.HYBRID, 15)
            plane = site.moon.dataplane
            tell, plane.emit = plane.emit, lambda _event: None
            for _ in range(120):
                site.send_both_ways()
            plane.emit = tell
            await asyncio.sleep(30)
            assert site.moon.tunnel.tally.rekeys == 0
            plane.lose_events()
            await site.until(lambda: site.moon.tunnel.tally.rekeys == 1, 10)
            assert (site.lost, site.leaked) == (0, 0)

    run_virtually(scenario())
