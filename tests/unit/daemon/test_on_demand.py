"""On-demand tunnels, idle ones and lost peers, with everything but sockets and the kernel."""

from __future__ import annotations

import asyncio

import pytest

from gateway.config.schema import Start
from gateway.daemon.idle import IdleWatch
from gateway.daemon.operator import Operator
from gateway.dataplane.port import TrafficWaiting
from gateway.dataplane.reconcile import is_pin
from gateway.model import KernelSnapshot, Protection, Renewal
from tests.support.memory_site import ALICE, BOB, MemorySite
from tests.support.virtual_loop import run_virtually

ON_DEMAND = {"start": Start.TRAP}


def traps(gateway) -> int:
    """Outbound policies that lead into an SA and name none."""
    return sum(is_pin(policy) and not policy.outbound_spi for policy in gateway.dataplane.policies)


def test_traffic_sets_it_up_and_nothing_leaves_in_the_clear() -> None:
    async def scenario() -> None:
        async with MemorySite(moon=ON_DEMAND) as site:
            await asyncio.sleep(60)
            assert site.moon.protection is Protection.DOWN
            assert site.moon.bulletin.alarms == ()
            assert (traps(site.moon), traps(site.sun)) == (1, 0)
            site.send_both_ways()
            assert (site.lost, site.leaked) == (2, 0)
            await site.until_both(Protection.HYBRID, 10)
            site.send_both_ways()
            assert (site.lost, site.leaked) == (2, 0)
            assert (traps(site.moon), traps(site.sun)) == (0, 0)
            await site.until(lambda: site.moon.tunnel.tally.rekeys >= 2, 300)
            for gateway in (site.moon, site.sun):
                assert gateway.dataplane.violations == []

    run_virtually(scenario())


def test_both_ends_on_demand_and_traffic_from_both_at_once() -> None:
    async def scenario() -> None:
        async with MemorySite(**ON_DEMAND) as site:
            await asyncio.sleep(5)
            site.start_traffic()
            await site.until_both(Protection.HYBRID, 60)
            await asyncio.sleep(60)  # two IKE SAs become one
            before = site.lost
            await asyncio.sleep(300)
            assert (site.lost - before, site.leaked) == (0, 0)
            for gateway in (site.moon, site.sun):
                assert len(gateway.driver.endpoint.views()[0].ike) == 1
                assert gateway.dataplane.violations == []

    run_virtually(scenario())


def test_an_idle_tunnel_closes_at_both_ends_and_opens_again() -> None:
    async def scenario() -> None:
        async with MemorySite(**ON_DEMAND, moon={"idle_timeout": 120.0}) as site:
            await asyncio.sleep(5)
            site.send_both_ways()
            await site.until_both(Protection.HYBRID, 10)
            for _ in range(30):  # traffic, and rekeys, keep it up
                await asyncio.sleep(20)
                site.send_both_ways()
            assert site.moon.tunnel.tally.rekeys >= 5
            assert site.moon.protection is Protection.HYBRID
            took = await site.until_both(Protection.DOWN, 200)
            assert 110 <= took <= 140
            assert site.moon.tunnel.protection.reason == "no traffic for 120 s"
            assert site.moon.bulletin.alarms == site.sun.bulletin.alarms == ()
            await asyncio.sleep(1)
            assert site.moon.dataplane.sas == ()
            assert (traps(site.moon), traps(site.sun)) == (1, 1)
            await asyncio.sleep(600)
            assert site.moon.protection is Protection.DOWN
            site.send_both_ways()
            await site.until_both(Protection.HYBRID, 30)
            assert site.leaked == 0

    run_virtually(scenario())


def test_a_flood_of_tellings_is_one_attempt() -> None:
    async def scenario() -> None:
        async with MemorySite(moon=ON_DEMAND) as site:
            await asyncio.sleep(5)
            site.wire.loses = lambda _data: True
            plane, reqid = site.moon.dataplane, site.moon.tunnel.reqid
            for _ in range(10_000):
                plane.emit(TrafficWaiting(reqid=reqid, source=ALICE, destination=BOB))
            await asyncio.sleep(1)
            assert len(site.moon.driver.endpoint.views()[0].ike) == 1
            assert site.moon.tunnel.protection.attempt_under_way
            site.wire.loses = lambda _data: False
            await site.until_both(Protection.HYBRID, 60)

    run_virtually(scenario())


def test_terminated_means_no_trap() -> None:
    async def scenario() -> None:
        async with MemorySite(moon=ON_DEMAND) as site:
            await asyncio.sleep(5)
            await Operator(site.moon).terminate("sun")
            await asyncio.sleep(1)
            assert traps(site.moon) == 0
            site.start_traffic()
            await asyncio.sleep(100)
            assert site.moon.protection is Protection.DOWN
            assert site.leaked == 0

    run_virtually(scenario())


def test_a_reload_lays_and_removes_traps() -> None:
    async def scenario() -> None:
        async with MemorySite(start=Start.RESPOND) as site:
            await asyncio.sleep(5)
            assert traps(site.moon) == 0
            await site.reload("moon", start=Start.TRAP)
            await asyncio.sleep(1)
            assert traps(site.moon) == 1
            await site.reload("moon", start=Start.RESPOND)
            await asyncio.sleep(1)
            assert traps(site.moon) == 0
            site.send_both_ways()
            assert (site.lost, site.leaked) == (2, 0)

    run_virtually(scenario())


def test_a_restart_of_the_daemon_finds_its_trap() -> None:
    async def scenario() -> None:
        async with MemorySite(moon=ON_DEMAND) as site:
            await asyncio.sleep(5)
            await site.restart("moon")
            await asyncio.sleep(15)  # an audit
            assert traps(site.moon) == 1
            site.send_both_ways()
            await site.until_both(Protection.HYBRID, 30)
            assert site.leaked == 0

    run_virtually(scenario())


@pytest.mark.parametrize("renewal", list(Renewal))
def test_dpd_action_when_the_peer_is_gone(renewal: Renewal) -> None:
    async def scenario() -> None:
        async with MemorySite(moon={"dpd_action": renewal}) as site:
            await site.until_both(Protection.HYBRID, 15)
            site.wire.loses = lambda _data: True
            await site.until(lambda: site.moon.protection is Protection.DOWN, 300)
            await asyncio.sleep(30)
            assert traps(site.moon) == (renewal is Renewal.TRAP)
            site.wire.loses = lambda _data: False
            await asyncio.sleep(120)
            up = site.moon.protection is Protection.HYBRID
            assert up is (renewal is Renewal.RESTART)
            site.send_both_ways()
            await asyncio.sleep(60)
            up = site.moon.protection is Protection.HYBRID
            assert up is (renewal is not Renewal.NONE)
            assert site.leaked == 0

    run_virtually(scenario())


@pytest.mark.parametrize("renewal", list(Renewal))
def test_close_action_when_the_peer_closes(renewal: Renewal) -> None:
    async def scenario() -> None:
        async with MemorySite(sun={"close_action": renewal}) as site:
            await site.until_both(Protection.HYBRID, 15)
            await asyncio.sleep(70)  # it has lived long enough to be set up again at once
            await Operator(site.moon).terminate("sun")
            await asyncio.sleep(20)
            assert site.moon.protection is Protection.DOWN, "terminated stays terminated"
            assert traps(site.sun) == (renewal is Renewal.TRAP)
            attempts = len(site.sun.happened("ike-established"))
            assert (attempts > 1) is (renewal is Renewal.RESTART)

    run_virtually(scenario())


def test_without_liveness_a_silent_peer_is_not_asked() -> None:
    async def scenario() -> None:
        quiet = {"liveness": 0.0, "rekey_min": 3600.0, "rekey_max": 7200.0}
        async with MemorySite(**quiet) as site:
            await site.until_both(Protection.HYBRID, 15)
            before = site.wire.sent
            await asyncio.sleep(1800)
            assert site.wire.sent == before
            await site.reload("moon", liveness=30.0)
            await asyncio.sleep(120)
            assert site.wire.sent > before, "switched on for the IKE SA that is there"

    run_virtually(scenario())


def test_an_idle_watch_without_an_sa_waits() -> None:
    watch = IdleWatch(10.0)
    nothing = KernelSnapshot(sas=(), policies=())
    assert not any(watch.ceased((), nothing, now) for now in (0.0, 100.0, 1000.0))
