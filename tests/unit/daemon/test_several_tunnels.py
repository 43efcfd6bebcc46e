"""Two tunnels with policies of their own over one IKE SA, from configuration to kernel."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

from gateway.dataplane.memory import Fate, carry
from gateway.model import Protection, QkdPolicy
from gateway.protection.inputs import OperatorInitiate, OperatorRekey, OperatorTerminate
from tests.support.memory_site import MemorySite
from tests.support.virtual_loop import run_virtually

ALICE_2, BOB_2 = ip_address("10.1.1.10"), ip_address("10.2.1.10")


def two(**scada: object) -> MemorySite:
    return MemorySite(more={"scada": scada})


def ike_sas(site: MemorySite) -> list[int]:
    return [len(gateway.driver.endpoint.views()[0].ike) for gateway in (site.moon, site.sun)]


async def both_up(site: MemorySite, protection: Protection = Protection.HYBRID) -> None:
    await site.until(
        lambda: all(
            gateway.protection_of(name) is protection
            for gateway in (site.moon, site.sun)
            for name in gateway.roster.tunnels
        ),
        120,
    )


def carries_scada(site: MemorySite) -> bool:
    one = carry(site.moon.dataplane, site.sun.dataplane, ALICE_2, BOB_2)
    two = carry(site.sun.dataplane, site.moon.dataplane, BOB_2, ALICE_2)
    return one.fate is Fate.PROTECTED and two.fate is Fate.PROTECTED


def test_one_ike_sa_and_a_key_for_each() -> None:
    async def scenario() -> None:
        async with two() as site:
            await both_up(site)
            assert ike_sas(site) == [1, 1]
            assert len(site.moon.happened("ike-established")) == 1
            children = [facts.children[0] for facts in site.moon.driver.endpoint.views()]
            assert len({child.mixed.key_id for child in children}) == 2
            assert carries_scada(site)
            site.start_traffic(every=0.05)
            await asyncio.sleep(600)
            assert ike_sas(site) == [1, 1]
            assert (site.lost, site.leaked) == (0, 0)
            for gateway in (site.moon, site.sun):
                for tunnel in gateway.roster.tunnels.values():
                    assert tunnel.tally.rekeys_hybrid > 5
                    assert tunnel.tally.failures == 0, tunnel.tally.last_error

    run_virtually(scenario())


def test_the_one_that_requires_keys_blocks_and_the_other_goes_on() -> None:
    async def scenario() -> None:
        async with two(qkd=QkdPolicy.REQUIRE) as site:
            await both_up(site)
            site.start_traffic(every=0.05)
            site.link.cut()
            await site.until(
                lambda: (
                    site.moon.protection_of("scada") is Protection.BLOCKED
                    and site.moon.protection is Protection.PQC_ONLY
                ),
                900,
            )
            assert not carries_scada(site)
            assert ike_sas(site) == [1, 1]
            site.link.heal()
            await both_up(site)
            assert carries_scada(site)
            assert ike_sas(site) == [1, 1]
            assert (site.lost, site.leaked) == (0, 0)

    run_virtually(scenario())


def test_terminating_one_leaves_the_other() -> None:
    async def scenario() -> None:
        async with two() as site:
            await both_up(site)
            site.start_traffic(every=0.05)
            site.moon.roster.tunnels["scada"].feed(OperatorTerminate())
            await asyncio.sleep(2)
            assert site.sun.protection_of("scada") is Protection.DOWN
            assert not carries_scada(site)
            site.moon.roster.tunnels["scada"].feed(OperatorInitiate())
            await both_up(site)
            site.moon.roster.tunnels["sun"].feed(OperatorRekey())
            await asyncio.sleep(2)
            assert ike_sas(site) == [1, 1]
            assert (site.lost, site.leaked) == (0, 0)

    run_virtually(scenario())


def test_a_gateway_that_crashed_takes_all_tunnels_up_again_over_one_ike_sa() -> None:
    async def scenario() -> None:
        async with two() as site:
            await both_up(site)
            site.start_traffic(every=0.05)
            await site.restart("moon")
            await asyncio.sleep(40)
            await both_up(site)
            assert ike_sas(site) == [1, 1]
            assert (site.lost, site.leaked) == (0, 0)
            assert carries_scada(site)

    run_virtually(scenario())


def test_a_peer_that_is_trusted_no_more_loses_all_of_them() -> None:
    async def scenario() -> None:
        async with two() as site:
            await both_up(site)
            # as TunnelTrust does where a CRL names the peer
            first = next(iter(site.moon.roster.tunnels.values()))
            first.trust._close("peer is no longer trusted: certificate of CN=sun is revoked")
            facts = site.moon.driver.endpoint.views()
            assert not any(one.children for one in facts)
            assert not any(ike.state == "established" for one in facts for ike in one.ike)
            await site.until(lambda: ike_sas(site)[1] == 0, 10)

    run_virtually(scenario())
