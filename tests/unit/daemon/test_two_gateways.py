"""Whole gateways in virtual time: every part but sockets, TLS and the kernel is the real one."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_network

import pytest

from gateway.dataplane.memory import Fate, carry
from gateway.ike.registry import PayloadType
from gateway.model import EspMode, Protection, QkdPolicy
from tests.support.memory_site import ALICE, BOB, MemorySite
from tests.support.site_config import MOON, SUN, site_config
from tests.support.virtual_loop import run_virtually


def mirrored(site: MemorySite) -> bool:
    """Both ends carry traffic through the same pair of SAs."""
    (moon,) = [c for c in site.moon.driver.endpoint.views()[0].children if c.carries_outbound]
    (sun,) = [c for c in site.sun.driver.endpoint.views()[0].children if c.carries_outbound]
    return (moon.spi_in, moon.spi_out) == (sun.spi_out, sun.spi_in) and moon.mixed == sun.mixed


def test_hybrid_rekeys_lose_nothing_and_use_each_key_once() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic()
            await site.until(lambda: site.moon.tunnel.tally.rekeys_hybrid >= 5)
            await asyncio.sleep(10)  # lingering SAs go

            assert (site.lost, site.leaked) == (0, 0)
            assert mirrored(site)
            for gateway in (site.moon, site.sun):
                ids = [event.fields["key_id"] for event in gateway.happened("child-up")]
                assert None not in ids
                assert len(set(ids)) == len(ids) >= 6
                assert gateway.dataplane.violations == []
                assert len(gateway.dataplane.sas) == 2  # one pair: nothing piles up
                view = gateway.tunnel.keys.view()
                assert view.reused == 0
                assert view.used == len(ids)

    run_virtually(scenario())


def test_loss_falls_back_at_the_next_rekey_and_returns_after_the_dwell() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic()
            site.link.cut()
            await site.until_both(Protection.PQC_ONLY, 600)
            assert {alarm.id for alarm in site.moon.bulletin.alarms} >= {"pqc-only"}
            await asyncio.sleep(200)
            assert site.moon.protection is Protection.PQC_ONLY

            site.link.heal()
            healed_after = await site.until_both(Protection.HYBRID, 120)
            assert healed_after >= 20  # restore_dwell
            await asyncio.sleep(10)

            assert site.moon.protections() == ["HYBRID", "PQC_ONLY", "HYBRID"]
            assert site.sun.protections() == ["HYBRID", "PQC_ONLY", "HYBRID"]
            assert (site.lost, site.leaked) == (0, 0)
            assert site.moon.bulletin.alarms == ()

    run_virtually(scenario())


def test_require_drops_when_keys_end_and_leaks_nothing() -> None:
    async def scenario() -> None:
        async with MemorySite(qkd=QkdPolicy.REQUIRE) as site:
            await site.until_both(Protection.HYBRID, 15)
            site.link.cut()
            await site.until(lambda: site.moon.protection is Protection.BLOCKED, 900)
            await asyncio.sleep(10)
            for _ in range(100):
                site.send_both_ways()
            assert site.leaked == 0
            assert site.lost == 200
            assert site.moon.dataplane.sas == ()

            site.link.heal()
            await site.until_both(Protection.HYBRID, 120)
            site.fates.clear()
            site.send_both_ways()
            assert (site.lost, site.leaked) == (0, 0)
            assert "PQC_ONLY" not in site.moon.protections() + site.sun.protections()

    run_virtually(scenario())


def test_nothing_leaves_before_the_first_sa() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            site.wire.loses = lambda _data: True
            await asyncio.sleep(3)
            site.send_both_ways()
            assert (site.leaked, site.lost) == (0, 2)

    run_virtually(scenario())


@pytest.mark.parametrize("name", ["moon", "sun"])
def test_a_restarted_gateway_takes_over_without_losing_a_packet(name: str) -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic()
            await asyncio.sleep(1)
            await site.restart(name)
            await site.until_both(Protection.HYBRID, 300)
            await asyncio.sleep(30)

            assert site.losses == []
            assert site.leaked == 0
            for gateway in (site.moon, site.sun):
                assert len(gateway.dataplane.sas) == 2
                assert gateway.dataplane.violations == []

    run_virtually(scenario())


def lossy(seed: int) -> Callable[[bytes], bool]:
    """Three datagrams of ten, but no more than two transmissions of one message or fragment.

    By chance alone one exchange of a hundred would lose all seven round trips, and the IKE SA
    with them: then the peer counts as lost, as it should.
    """
    dice, losses = random.Random(seed), Counter[bytes]()

    def loses(data: bytes) -> bool:
        fragment = data[32:34] if data[16] == PayloadType.SKF else b""
        message = data[:8] + data[18:24] + fragment  # SPI, exchange, flags, Message ID
        if losses[message] == 2 or dice.random() >= 0.3:
            return False
        losses[message] += 1
        return True

    return loses


@pytest.mark.parametrize("seed", [7, 8])
def test_a_lossy_wire_only_costs_time(seed: int) -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            site.wire.loses = lossy(seed)
            await site.until_both(Protection.HYBRID, 300)
            site.start_traffic()
            await site.until(lambda: site.moon.tunnel.tally.rekeys >= 3, 3000)
            assert (site.lost, site.leaked) == (0, 0)

    run_virtually(scenario())


def test_sas_flushed_behind_our_back_are_noticed_and_replaced() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            for sa in site.moon.dataplane.sas:
                site.moon.dataplane.expire(sa.sa_id, hard=True)
            site.send_both_ways()
            assert site.leaked == 0
            await site.until(lambda: len(site.moon.happened("child-up")) >= 2, 60)
            await site.until_both(Protection.HYBRID, 60)
            site.fates.clear()
            site.send_both_ways()
            assert (site.lost, site.leaked) == (0, 0)

    run_virtually(scenario())


def test_two_hosts_in_transport_mode_and_one_that_has_tunnel_mode() -> None:
    async def scenario() -> None:
        ours, theirs = (ip_network(f"{MOON}/32"),), (ip_network(f"{SUN}/32"),)
        for mode in EspMode:
            async with MemorySite(
                moon={"local_subnets": ours, "remote_subnets": theirs, "mode": EspMode.TRANSPORT},
                sun={"local_subnets": theirs, "remote_subnets": ours, "mode": mode},
            ) as site:
                await site.until_both(Protection.HYBRID, 15)
                await site.until(lambda s=site: s.moon.tunnel.tally.rekeys >= 2, 300)
                await asyncio.sleep(10)
                for gateway in (site.moon, site.sun):
                    assert {sa.mode for sa in gateway.dataplane.sas} == {mode}
                    wanted = {p.mode for p in gateway.dataplane.policies if p.reqid}
                    assert wanted == {mode}
                there, back = site.moon.dataplane, site.sun.dataplane
                assert carry(there, back, MOON, SUN, forward=False).fate is Fate.PROTECTED
                assert carry(back, there, SUN, MOON, forward=False).fate is Fate.PROTECTED
                site.wire.loses = lambda _data: True
                await site.until(lambda s=site: s.moon.protection is Protection.DOWN, 300)
                assert carry(there, back, MOON, SUN, forward=False).fate is Fate.DROPPED

    run_virtually(scenario())


def test_packets_outside_the_tunnel_are_not_touched() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            elsewhere = ALICE + 256
            assert site.moon.dataplane.transmit(elsewhere, BOB).fate == "clear"

    run_virtually(scenario())


def test_a_reload_that_changes_policy_only_keeps_traffic_flowing() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic()
            before = site.moon.dataplane.sas
            await site.moon.reload(site_config("moon", qkd=QkdPolicy.OFF, rekey_max=90.0))
            assert site.moon.dataplane.sas == before
            await site.until_both(Protection.PQC_ONLY, 300)
            await site.moon.reload(site_config("moon"))
            await site.until_both(Protection.HYBRID, 300)
            assert (site.lost, site.leaked) == (0, 0)

    run_virtually(scenario())


def test_a_reload_that_changes_the_subnets_moves_the_guard_with_them() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            moved = (ip_network("10.7.0.0/24"),)
            await site.moon.reload(site_config("moon", local_subnets=moved))
            await asyncio.sleep(1)
            assert site.moon.dataplane.transmit(moved[0][10], BOB).fate == "dropped"

    run_virtually(scenario())
