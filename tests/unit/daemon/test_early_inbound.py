"""A peer of another vendor that sends as soon as it has answered IKE_AUTH: whole gateways."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.errors import DataplaneError
from gateway.ike.flows import ike_auth, sa_init
from gateway.ike.tunnel import Tunnel
from gateway.model import Protection, SaLifetime
from gateway.protection.inputs import OperatorRekey
from tests.support.memory_site import MemorySite
from tests.support.virtual_loop import run_virtually


@pytest.fixture(autouse=True)
def hasty_peer(monkeypatch):
    """Each takes the other for another vendor's, and as responder moves its traffic at once."""
    traits, stand_in = sa_init._peer_traits, Tunnel.stand_in
    monkeypatch.setattr(sa_init, "_peer_traits", lambda *args: replace(traits(*args), qsgw=False))
    monkeypatch.setattr(
        Tunnel, "stand_in", lambda self, *leaving: None if leaving else stand_in(self)
    )


def slow_wire(site: MemorySite, seconds: float) -> None:
    """What sun sends takes so long."""
    deliver = site.wire._deliver

    def late(data, local, remote) -> None:
        if local[0] == site.sun.tunnel.local:
            asyncio.get_running_loop().call_later(seconds, deliver, data, local, remote)
        else:
            deliver(data, local, remote)

    site.wire._deliver = late  # type: ignore[method-assign]


def three_fresh_keys() -> MemorySite:
    """Traffic both ways while three IKE SAs replace each other."""
    found: list[MemorySite] = []

    async def scenario() -> None:
        async with MemorySite() as site:
            found.append(site)
            await site.until_both(Protection.HYBRID, 15)
            slow_wire(site, 0.04)
            site.start_traffic()
            for number in (2, 3, 4):
                site.moon.tunnel.feed(OperatorRekey())
                await site.until(lambda ups=number: len(site.moon.happened("child-up")) == ups, 60)
                await asyncio.sleep(1)
            assert site.leaked == 0
            assert site.moon.dataplane.violations == []

    run_virtually(scenario())
    return found[0]


def test_fresh_keys_lose_nothing() -> None:
    site = three_fresh_keys()
    assert site.losses == []
    assert site.moon.dataplane.fallbacks == 0


def test_without_the_early_sa_they_would(monkeypatch) -> None:
    """The negative twin."""
    monkeypatch.setattr(ike_auth, "_receives_early", lambda *_: False)
    assert three_fresh_keys().lost > 0


def test_audits_leave_it_alone_and_an_attempt_that_fails_takes_it_along() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            before = {sa.sa_id for sa in site.moon.dataplane.sas}
            slow_wire(site, 10.0)
            site.moon.tunnel.feed(OperatorRekey())

            def early() -> list:
                return [sa for sa in site.moon.dataplane.sas if sa.sa_id not in before]

            await site.until(lambda: bool(early()), 60)
            (sa,) = early()
            assert sa.lifetime == SaLifetime(hard_seconds=30)  # gone by itself if we die
            await asyncio.sleep(9)
            site.moon.keeper.look_soon()  # audits, one after the other
            assert early() == [sa]
            site.wire._deliver = lambda *_: None  # type: ignore[method-assign]
            await site.until(lambda: not early(), 300)

    run_virtually(scenario())


def test_kernel_that_does_not_take_it() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic()
            before = site.moon.dataplane.sas
            site.moon.dataplane.refuse("install_sa", DataplaneError("ENOBUFS"))
            site.moon.tunnel.feed(OperatorRekey())
            await asyncio.sleep(0.5)
            assert site.moon.dataplane.sas == before
            assert "ENOBUFS" in site.moon.happened("exchange-failed")[-1].text
            await site.until(lambda: len(site.moon.happened("child-up")) > 1)
            assert (site.lost, site.leaked) == (0, 0)

    run_virtually(scenario())
