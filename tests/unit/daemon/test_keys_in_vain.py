"""QKD keys spent on attempts that cannot succeed: bounded per hour."""

from __future__ import annotations

import asyncio

import pytest

from gateway.crypto.secret import Secret
from gateway.ike.credentials import SharedKey
from gateway.model import Protection, QkdPolicy
from gateway.protection.inputs import OperatorInitiate
from tests.support.memory_site import MemorySite
from tests.support.site_config import PSK
from tests.support.virtual_loop import run_virtually

HOUR = 3600.0
WRONG = SharedKey(key=Secret(b"another pre-shared key of good length"))
POLICIES = [QkdPolicy.PREFER, QkdPolicy.REQUIRE]


def burned(site: MemorySite) -> int:
    return site.moon.tunnel.keys.view().burned


@pytest.mark.parametrize("qkd", POLICIES)
def test_a_wrong_psk_costs_a_few_keys_an_hour_and_is_found_mended_at_once_when_asked(qkd) -> None:
    async def scenario() -> None:
        wrong = {"local_auth": WRONG, "remote_auth": WRONG}
        async with MemorySite(qkd=qkd, sun=wrong) as site:
            await asyncio.sleep(HOUR)
            first = burned(site)
            assert first <= 10 + 6 + 16  # 1, 2, 4 ... seconds, then 10 min; and what got too old
            await asyncio.sleep(HOUR)
            assert burned(site) - first <= 8 + 16
            assert site.moon.tunnel.tally.failures <= 25
            await site.reload("sun", local_auth=PSK, remote_auth=PSK)
            site.moon.tunnel.feed(OperatorInitiate())
            await site.until_both(Protection.HYBRID, 5)

    run_virtually(scenario())


def test_without_qkd_a_wrong_psk_is_tried_again_every_minute() -> None:
    async def scenario() -> None:
        wrong = {"local_auth": WRONG, "remote_auth": WRONG}
        async with MemorySite(qkd=QkdPolicy.OFF, sun=wrong) as site:
            await asyncio.sleep(HOUR)
            assert 55 <= site.moon.tunnel.tally.failures <= 90

    run_virtually(scenario())


@pytest.mark.parametrize("qkd", POLICIES)
def test_a_peer_that_is_down_costs_one_key_for_each_two_minutes_and_no_waiting(qkd) -> None:
    async def scenario() -> None:
        async with MemorySite(qkd=qkd) as site:
            await site.kill("sun")
            await asyncio.sleep(HOUR)
            assert burned(site) <= 36
            await site.bring_back("sun")
            await site.until_both(Protection.HYBRID, 130)

    run_virtually(scenario())
