"""Two pairs of KMEs that share nothing: the peer's half of the first one dies."""

from __future__ import annotations

import asyncio

import pytest

from gateway.crypto.secret import Secret
from gateway.ike.credentials import SharedKey
from gateway.model import Protection, QkdPolicy
from kms_client.marks import REST_MIN
from tests.support.memory_site import MemorySite
from tests.support.virtual_loop import run_virtually

TWO = ("primary", "secondary")
MINUTE = 60.0


def alarms(gateway) -> list[tuple[str, str]]:
    return [(alarm.id, alarm.subject) for alarm in gateway.bulletin.alarms]


def marked(gateway) -> dict[str, tuple[str, ...]]:
    return {view.name: view.refused_by for view in gateway.roster.kmes() if view.refused_by}


@pytest.mark.parametrize("qkd", [QkdPolicy.PREFER, QkdPolicy.REQUIRE])
def test_keys_come_from_the_next_pair_until_the_first_is_whole_again(qkd) -> None:
    async def scenario() -> None:
        async with MemorySite(qkd=qkd, kmes=TWO, twins=False) as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic(every=0.05)
            site.link.kill("sun")
            await site.until(lambda: marked(site.moon), 120)
            assert marked(site.moon) == {"kme-moon": ("sun",)}
            given = len(site.link.kmes["moon"].delivered)
            if qkd is QkdPolicy.PREFER:
                await site.until_both(Protection.PQC_ONLY, 5)
                took = await site.until_both(Protection.HYBRID, 60)
                assert took <= 20 + 2  # restore_dwell
                await asyncio.sleep(20)
            assert alarms(site.moon) == [("kme-keys-refused", "kme-moon")]
            await asyncio.sleep(REST_MIN - 50)
            assert len(site.link.kmes["moon"].delivered) == given

            site.link.revive()
            await site.until(lambda: not marked(site.moon), 900)
            await asyncio.sleep(120)
            assert alarms(site.moon) == alarms(site.sun) == []
            assert site.moon.protection is Protection.HYBRID
            assert site.lost == site.leaked == 0
            if qkd is QkdPolicy.REQUIRE:
                assert site.moon.protections() == ["HYBRID"]
            assert site.moon.tunnel.keys.view().reused == 0

    run_virtually(scenario())


def test_while_it_stays_dead_the_tries_become_rare() -> None:
    async def scenario() -> None:
        slow = {"rekey_min": 120.0, "rekey_max": 240.0, "pool_target": 2}
        async with MemorySite(kmes=TWO, twins=False, **slow) as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic(every=10.0)
            site.link.kill("sun")
            await site.until(lambda: marked(site.moon), 300)
            await asyncio.sleep(180 * MINUTE)
            assert site.moon.tunnel.tally.rekeys_pqc_only <= 7  # after 1, 2, 4 ... 60 minutes
            assert site.lost == site.leaked == 0

    run_virtually(scenario())


def test_dead_from_the_start_the_tunnel_comes_up_with_keys_of_the_next_pair() -> None:
    async def scenario() -> None:
        site = MemorySite(qkd=QkdPolicy.REQUIRE, kmes=TWO, twins=False)
        site.link.kill("sun")
        async with site:
            await site.until_both(Protection.HYBRID, 60)
            assert marked(site.moon) == {"kme-moon": ("sun",)}

    run_virtually(scenario())


def test_a_link_that_the_kme_itself_calls_broken_is_not_tried() -> None:
    async def scenario() -> None:
        async with MemorySite(kmes=TWO, twins=False) as site:
            await site.until_both(Protection.HYBRID, 15)
            site.link.kill("sun")
            site.link.report("down", "moon", alarm="KME kme-sun is not connected to the link")
            await site.until(lambda: marked(site.moon), 120)
            await site.until_both(Protection.HYBRID, 60)
            await asyncio.sleep(20 * MINUTE)
            assert site.moon.tunnel.tally.rekeys_pqc_only == 1
            assert alarms(site.moon) == [("kme-keys-refused", "kme-moon")]  # and no qkd-loss
            site.link.revive()
            site.link.report("up", "moon")
            await site.until(lambda: not marked(site.moon), 900)

    run_virtually(scenario())


def test_a_wrong_psk_marks_no_kme() -> None:
    async def scenario() -> None:
        psk = SharedKey(key=Secret(b"another pre-shared key of good length"))
        wrong = {"local_auth": psk, "remote_auth": psk}
        async with MemorySite(kmes=TWO, twins=False, sun=wrong) as site:
            await asyncio.sleep(20 * MINUTE)
            assert site.moon.tunnel.keys.view().burned > 3
            assert marked(site.moon) == {}
            assert alarms(site.moon) == [("tunnel-down", "sun")]
            assert site.second.kmes["moon"].delivered == []

    run_virtually(scenario())


def test_a_peer_that_is_down_marks_no_kme() -> None:
    async def scenario() -> None:
        async with MemorySite(kmes=TWO, twins=False) as site:
            await site.until_both(Protection.HYBRID, 15)
            await site.kill("sun")
            await asyncio.sleep(20 * MINUTE)
            assert marked(site.moon) == {}
            await site.bring_back("sun")
            await site.until_both(Protection.HYBRID, 120)

    run_virtually(scenario())


def test_a_peer_that_takes_no_key_at_all_costs_no_kme_its_place_for_long() -> None:
    """The other end under suspicion refuses every key: the marks go when it takes one again."""

    async def scenario() -> None:
        async with MemorySite(kmes=TWO, twins=False) as site:
            await site.until_both(Protection.HYBRID, 15)
            site.link.report("suspect", "sun")
            await site.until_both(Protection.PQC_ONLY, 30)
            await asyncio.sleep(10 * MINUTE)
            site.link.report("up", "sun")
            await site.until_both(Protection.HYBRID, 20 * MINUTE)
            await site.until(lambda: not marked(site.moon), 120 * MINUTE)
            await asyncio.sleep(60)
            assert alarms(site.moon) == alarms(site.sun) == []

    run_virtually(scenario())
