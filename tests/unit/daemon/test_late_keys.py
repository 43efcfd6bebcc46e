"""Keys that the peer's KME has seconds later than ours, where policy requires one."""

from __future__ import annotations

import asyncio

import pytest

from gateway.model import Protection, QkdPolicy
from tests.support.memory_site import MemorySite
from tests.support.virtual_loop import run_virtually


@pytest.mark.parametrize("lag", [2.0, 5.0, 10.0])
def test_a_rekey_with_a_late_key_leaves_the_running_sa_alone(lag: float) -> None:
    """One key in 25 s, none in reserve: each is there just when the next rekey is due."""

    async def scenario() -> None:
        site = MemorySite(
            qkd=QkdPolicy.REQUIRE, rekey_min=5.0, rekey_max=60.0, pool_target=1, key_reserve=0
        )
        site.link.heal(1)
        site.link.kmes["moon"].lag = lag

        async def supply() -> None:
            while True:
                await asyncio.sleep(25)
                site.link.kmes["moon"].stored = 1

        supplier = asyncio.get_running_loop().create_task(supply())
        async with site:
            await site.until_both(Protection.HYBRID, 300)
            site.start_traffic(0.5)
            await asyncio.sleep(600)
            assert (site.lost, site.leaked) == (0, 0)
            assert site.moon.tunnel.tally.rekeys_hybrid >= 10
        supplier.cancel()

    run_virtually(scenario())
