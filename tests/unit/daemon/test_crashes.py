"""A daemon killed at any moment of a set-up or a rekey, and started again on the same kernel."""

from __future__ import annotations

import asyncio

import pytest

from gateway.dataplane.reconcile import is_pin
from gateway.model import Protection
from gateway.protection.inputs import OperatorRekey
from tests.support.memory_site import MemorySite
from tests.support.slow_kernel import SlowKernel
from tests.support.virtual_loop import run_virtually

# Seconds into the exchange. One way takes 5 ms, a request to the kernel 2 ms: a set-up is over
# after 60 ms, a rekey with its Delete after 50.
MOMENTS = [step / 1000 for step in range(1, 76, 5)]


def spotless(gateway) -> bool:
    plane = gateway.dataplane
    pins = {policy.outbound_spi for policy in plane.policies if is_pin(policy)}
    return len(plane.sas) == 2 and pins <= {sa.spi for sa in plane.sas} and len(pins) == 1


async def comes_back(site: MemorySite) -> None:
    await site.until_both(Protection.HYBRID, 300)
    await asyncio.sleep(45)  # what was replaced goes
    for gateway in (site.moon, site.sun):
        gateway.check_tasks()
        assert gateway.protection is Protection.HYBRID
        assert gateway.dataplane.violations == []
        assert spotless(gateway), [hex(sa.spi) for sa in gateway.dataplane.sas]
        assert gateway.tunnel.keys.view().reused == 0


@pytest.mark.parametrize("name", ["moon", "sun"])
def test_killed_in_a_rekey_no_packet_is_lost(name: str) -> None:
    async def scenario(moment: float) -> None:
        async with MemorySite(kernel=SlowKernel) as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic(every=0.05)
            site.moon.tunnel.feed(OperatorRekey())
            await asyncio.sleep(moment)
            await site.kill(name)
            await asyncio.sleep(3)
            await site.bring_back(name)
            await comes_back(site)
            assert (site.losses, site.leaked) == ([], 0), moment

    for moment in MOMENTS:
        run_virtually(scenario(moment))


@pytest.mark.parametrize("name", ["moon", "sun"])
def test_killed_in_a_set_up_nothing_is_in_the_clear(name: str) -> None:
    async def scenario(moment: float) -> None:
        async with MemorySite(kernel=SlowKernel) as site:
            site.start_traffic(every=0.05)
            await asyncio.sleep(moment)
            await site.kill(name)
            await asyncio.sleep(3)
            await site.bring_back(name)
            await comes_back(site)
            assert site.leaked == 0
            site.fates.clear()
            await asyncio.sleep(1)
            assert site.lost == 0

    for moment in MOMENTS:
        run_virtually(scenario(moment))


@pytest.mark.parametrize("names", [("moon", "sun"), ("sun", "moon")])
def test_both_killed_one_after_the_other(names: tuple[str, str]) -> None:
    async def scenario(gap: float) -> None:
        async with MemorySite(kernel=SlowKernel) as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic(every=0.05)
            for name in names:
                await site.kill(name)
                await asyncio.sleep(gap)
            for name in names:
                await site.bring_back(name)
                await asyncio.sleep(gap)
            await comes_back(site)
            # where both set up at once, one of the two SAs is deleted with a packet under way
            assert site.lost <= (2 if gap == 0.0 else 0), site.losses
            assert site.leaked == 0

    for gap in (0.0, 0.02, 0.04, 0.5, 5.0):
        run_virtually(scenario(gap))


def test_killed_again_while_it_takes_over() -> None:
    async def scenario(moment: float) -> None:
        async with MemorySite(kernel=SlowKernel) as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic(every=0.05)
            for _ in range(2):
                await site.kill("moon")
                await site.bring_back("moon")
                await asyncio.sleep(moment)
            await comes_back(site)
            assert (site.losses, site.leaked) == ([], 0), moment

    for moment in MOMENTS[::3]:
        run_virtually(scenario(moment))


def test_no_task_and_no_timer_outlives_a_gateway() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            site.moon.tunnel.feed(OperatorRekey())
            await asyncio.sleep(0.012)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        for gateway in (site.moon, site.sun):
            assert gateway.executor._queue.empty()
            assert gateway.driver._loop._timer is None
            assert gateway.tunnel._timer is None

    run_virtually(scenario())
