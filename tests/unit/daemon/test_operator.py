"""What an operator may ask, in every state a tunnel can be in."""

from __future__ import annotations

import asyncio

import pytest

from gateway.daemon.operator import Operator
from gateway.errors import ControlError
from gateway.model import Protection, QkdPolicy
from tests.support.memory_site import MemorySite
from tests.support.virtual_loop import run_virtually


def at(site: MemorySite) -> Operator:
    return Operator(site.moon)  # has the roster, which is all these requests need


def test_terminate_removes_the_sas_at_both_ends_and_holds() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            await at(site).terminate("sun")
            await asyncio.sleep(0.1)
            assert site.moon.dataplane.sas == site.sun.dataplane.sas == ()
            assert not [policy for policy in site.moon.dataplane.policies if policy.reqid]
            await asyncio.sleep(300)
            site.send_both_ways()
            assert (site.lost, site.leaked) == (2, 0)
            assert site.moon.protection is Protection.DOWN
            assert site.moon.tunnel.protection.reason == "terminated by the operator"
            with pytest.raises(ControlError, match=r"no SA to rekey: DOWN, terminated"):
                await at(site).rekey("sun")

            assert await at(site).initiate("sun") == "sun: setting up"
            await site.until_both(Protection.HYBRID, 10)
            assert await at(site).initiate("sun") == "sun: is up already (HYBRID)"

    run_virtually(scenario())


def test_ten_rekeys_at_once_are_one() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic()
            before = len(site.moon.happened("child-up"))
            answers = [await at(site).rekey("sun") for _ in range(10)]
            assert answers == ["sun: rekeying"] * 10
            await asyncio.sleep(6)
            assert len(site.moon.happened("child-up")) == before + 1
            assert site.moon.tunnel.keys.view().burned == 0
            assert len(site.moon.dataplane.sas) == 2
            assert (site.lost, site.leaked) == (0, 0)

    run_virtually(scenario())


def test_both_ends_rekey_at_once_again_and_again() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic()
            for step in range(20):
                await at(site).rekey("sun")
                await asyncio.sleep(step / 1000)
                await Operator(site.sun).rekey("moon")
                await asyncio.sleep(1)
            await asyncio.sleep(40)
            assert (site.losses, site.leaked) == ([], 0)
            for gateway in (site.moon, site.sun):
                assert len(gateway.dataplane.sas) == 2
                assert gateway.protections() == ["HYBRID"]

    run_virtually(scenario())


def test_a_blocked_tunnel_says_so_and_comes_up_with_the_keys() -> None:
    async def scenario() -> None:
        site = MemorySite(qkd=QkdPolicy.REQUIRE)
        site.link.cut()
        async with site:
            await site.until(lambda: site.moon.protection is Protection.BLOCKED, 60)
            answer = await at(site).initiate("sun")
            assert answer.startswith("sun: blocked, set up when QKD keys can be used: ")
            with pytest.raises(ControlError, match="BLOCKED"):
                await at(site).rekey("sun")
            await at(site).terminate("sun")
            assert site.moon.protection is Protection.DOWN
            site.link.heal()
            await asyncio.sleep(120)
            assert site.moon.protection is Protection.DOWN
            await at(site).initiate("sun")
            await site.until_both(Protection.HYBRID, 60)

    run_virtually(scenario())


@pytest.mark.parametrize("moment", [0.001, 0.012, 0.03, 0.045])
def test_terminate_in_the_middle_of_a_set_up_and_of_a_rekey(moment: float) -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            for _ in range(2):
                await asyncio.sleep(moment)
                await at(site).terminate("sun")
                await asyncio.sleep(40)
                for gateway in (site.moon, site.sun):
                    assert gateway.dataplane.sas == ()
                    assert gateway.dataplane.reservations == ()
                    assert gateway.protection is Protection.DOWN
                await at(site).initiate("sun")
                await site.until_both(Protection.HYBRID, 10)
                await at(site).rekey("sun")

    run_virtually(scenario())


async def test_a_tunnel_nobody_knows_is_named_with_those_there_are() -> None:
    site = MemorySite()
    with pytest.raises(ControlError, match=r"no tunnel named mars \(there are: none\)") as caught:
        await at(site).terminate("mars")
    assert caught.value.exit_code == 4
