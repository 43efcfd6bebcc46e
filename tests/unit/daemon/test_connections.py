"""A connection without tunnels: an IKE SA that policy protects, rekeys and blocks like a tunnel."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec
import pytest

from gateway.config.schema import Start
from gateway.control.render import render_sas, render_status
from gateway.control.text import Style
from gateway.daemon.views import Viewer
from gateway.ike.flows import sa_init
from gateway.model import KernelSnapshot, Protection, QkdPolicy, TunnelView
from gateway.protection.inputs import OperatorInitiate, OperatorRekey, OperatorTerminate
from tests.support.memory_site import MemoryGateway, MemorySite
from tests.support.snapshots import snapshot
from tests.support.virtual_loop import run_virtually

CHILDLESS = {"esp": (), "local_subnets": (), "remote_subnets": ()}
DWELL = 20  # seconds, as in the sites' configuration


def held(**changes: object) -> MemorySite:
    return MemorySite(**CHILDLESS, **changes)


def ike_sas(gateway: MemoryGateway) -> list[str]:
    (facts,) = gateway.driver.endpoint.views()
    return [ike.spi_i.hex() for ike in facts.ike]


def exported(gateway: MemoryGateway) -> bytes:
    endpoint = gateway.driver.endpoint
    ike = endpoint.views()[0].ike[0]
    key = endpoint.export_key(ike.spi_i, ike.spi_r, label=b"test", context=b"", length=16)
    return key.expose()


def shown(gateway: MemoryGateway):
    (facts,) = gateway.driver.endpoint.views()
    empty = KernelSnapshot(sas=(), policies=())
    config = gateway.roster.config_of(facts.name)
    return Viewer(gateway.clock).tunnel(config, gateway.tunnel, facts, empty)


def as_json(view: TunnelView):
    return msgspec.to_builtins(snapshot(tunnels=(view,)))


def alarms(gateway: MemoryGateway) -> set[str]:
    return {alarm.id for alarm in gateway.bulletin.alarms}


def test_it_is_rekeyed_with_a_fresh_key_each_time() -> None:
    async def scenario() -> None:
        async with held() as site:
            await site.until_both(Protection.HYBRID, 15)
            keys = {exported(site.moon)}
            for count in range(1, 5):
                await site.until(lambda count=count: site.moon.tunnel.tally.rekeys_hybrid >= count)
                await asyncio.sleep(2)
                assert ike_sas(site.moon) == ike_sas(site.sun)
                assert exported(site.moon) == exported(site.sun)
                keys.add(exported(site.moon))
            assert len(keys) == 5, "every rekey gives another key"
            for gateway in (site.moon, site.sun):
                assert gateway.protections() == ["HYBRID"]
                used = [event.fields["key_id"] for event in gateway.happened("ike-rekeyed")]
                assert None not in used
                assert len(set(used)) == len(used) >= 4
                assert not gateway.dataplane.sas
                assert gateway.dataplane.violations == []
                assert gateway.bulletin.alarms == ()
                view = gateway.tunnel.keys.view()
                assert (view.used, view.burned, view.reused) == (len(used) + 1, 0, 0)

    run_virtually(scenario())


def test_loss_falls_back_at_the_next_rekey_and_returns_after_the_dwell() -> None:
    async def scenario() -> None:
        async with held() as site:
            await site.until_both(Protection.HYBRID, 15)
            site.link.cut()
            await site.until_both(Protection.PQC_ONLY, 600)
            await asyncio.sleep(100)
            for gateway in (site.moon, site.sun):
                view = shown(gateway)
                assert view.protection is view.ike.protection is Protection.PQC_ONLY
                assert view.ike.key_id is not None, "of an IKE SA before, through SK_d"
                assert "pqc-only" in alarms(gateway)
            site.link.heal()
            assert await site.until_both(Protection.HYBRID, 120) >= DWELL
            await asyncio.sleep(10)
            for gateway in (site.moon, site.sun):
                assert gateway.protections() == ["HYBRID", "PQC_ONLY", "HYBRID"]
                assert gateway.bulletin.alarms == ()

    run_virtually(scenario())


def test_require_gives_the_ike_sa_up_when_keys_end() -> None:
    async def scenario() -> None:
        async with held(qkd=QkdPolicy.REQUIRE) as site:
            await site.until_both(Protection.HYBRID, 15)
            site.link.cut()
            await site.until(lambda: site.moon.protection is Protection.BLOCKED, 900)
            await asyncio.sleep(30)
            for gateway in (site.moon, site.sun):
                assert Protection.PQC_ONLY.value not in gateway.protections()
                assert ike_sas(gateway) == []
            site.link.heal()
            await site.until_both(Protection.HYBRID, 120)

    run_virtually(scenario())


@pytest.mark.parametrize("sees", [("moon", "sun"), ("moon",), ("sun",)])
def test_a_suspicion_replaces_the_ike_sa_at_once(sees) -> None:
    async def scenario() -> None:
        async with held() as site:
            await site.until_both(Protection.HYBRID, 15)
            before = exported(site.moon)
            site.link.report("suspect", *sees)
            await site.until_both(Protection.PQC_ONLY, 30)
            assert exported(site.moon) != before
            site.link.report("up", *sees)
            await site.until_both(Protection.HYBRID, 180)
            await asyncio.sleep(10)
            assert exported(site.moon) == exported(site.sun)

    run_virtually(scenario())


def test_degraded_max_blocks_it() -> None:
    async def scenario() -> None:
        async with held(degraded_max=100.0) as site:
            await site.until_both(Protection.HYBRID, 15)
            site.link.cut()
            await site.until_both(Protection.PQC_ONLY, 600)
            await site.until(lambda: site.moon.protection is Protection.BLOCKED, 200)
            await asyncio.sleep(5)
            assert ike_sas(site.moon) == ike_sas(site.sun) == []

    run_virtually(scenario())


def test_without_qkd() -> None:
    async def scenario() -> None:
        async with held(qkd=QkdPolicy.OFF, kmes=()) as site:
            await site.until_both(Protection.PQC_ONLY, 15)
            await site.until(lambda: site.moon.tunnel.tally.rekeys_pqc_only >= 3)
            assert site.moon.protections() == ["PQC_ONLY"]
            assert site.moon.bulletin.alarms == ()

    run_virtually(scenario())


def test_another_vendors_peer_gets_a_fresh_key_in_a_new_ike_sa(monkeypatch) -> None:
    original = sa_init._peer_traits
    monkeypatch.setattr(sa_init, "_peer_traits", lambda *args: replace(original(*args), qsgw=False))

    async def scenario() -> None:
        async with held() as site:
            await site.until_both(Protection.HYBRID, 15)
            await site.until(lambda: len(site.moon.happened("ike-established")) >= 4)
            await asyncio.sleep(3)
            for gateway in (site.moon, site.sun):
                assert gateway.protections() == ["HYBRID"]
                assert len(ike_sas(gateway)) == 1
            assert ike_sas(site.moon) == ike_sas(site.sun)

    run_virtually(scenario())


def test_a_peer_that_makes_none_without_a_child(monkeypatch) -> None:
    """RFC 6023 3: only who says CHILDLESS_IKEV2_SUPPORTED can be asked. No QKD key is spent on it
    at the peer."""
    original = sa_init._peer_traits
    monkeypatch.setattr(
        sa_init, "_peer_traits", lambda *args: replace(original(*args), childless=False)
    )

    async def scenario() -> None:
        async with held() as site:
            await asyncio.sleep(20)
            assert site.moon.protection is Protection.DOWN
            assert "RFC 6023" in shown(site.moon).reason
            assert "dec_keys" not in site.link.kmes["sun"].calls

    run_virtually(scenario())


def test_what_the_operator_asks_for() -> None:
    async def scenario() -> None:
        async with held() as site:
            await site.until_both(Protection.HYBRID, 15)
            before = ike_sas(site.moon)
            site.moon.tunnel.feed(OperatorRekey())
            await asyncio.sleep(2)
            between = ike_sas(site.moon)
            assert between != before
            site.moon.tunnel.rekey_ike()
            await asyncio.sleep(2)
            assert ike_sas(site.moon) not in (before, between)
            site.moon.tunnel.feed(OperatorTerminate())
            await asyncio.sleep(5)
            assert ike_sas(site.moon) == ike_sas(site.sun) == []
            assert site.moon.protection is site.sun.protection is Protection.DOWN
            site.moon.tunnel.feed(OperatorInitiate())
            await site.until_both(Protection.HYBRID, 15)

    run_virtually(scenario())


def test_it_comes_back_when_a_gateway_dies() -> None:
    async def scenario() -> None:
        async with held() as site:
            await site.until_both(Protection.HYBRID, 15)
            for name in ("moon", "sun"):
                await site.restart(name)
                await site.until_both(Protection.HYBRID, 400)
                await asyncio.sleep(5)
                assert ike_sas(site.moon) == ike_sas(site.sun)
                assert len(ike_sas(site.moon)) == 1

    run_virtually(scenario())


def test_both_ends_begin() -> None:
    async def scenario() -> None:
        async with held(start=Start.INITIATE) as site:
            await site.until_both(Protection.HYBRID, 15)
            await site.until(lambda: site.moon.tunnel.tally.rekeys >= 5)
            await asyncio.sleep(40)
            assert ike_sas(site.moon) == ike_sas(site.sun)
            assert len(ike_sas(site.moon)) == 1
            assert site.moon.protections() == site.sun.protections() == ["HYBRID"]

    run_virtually(scenario())


def test_a_reload_that_changes_policy_keeps_the_ike_sa() -> None:
    async def scenario() -> None:
        async with held() as site:
            await site.until_both(Protection.HYBRID, 15)
            before = ike_sas(site.moon)
            await site.reload("moon", qkd=QkdPolicy.REQUIRE)
            await asyncio.sleep(1)
            assert ike_sas(site.moon) == before
            assert site.moon.protection is Protection.HYBRID
            await site.reload("moon", qkd=QkdPolicy.OFF)
            await site.until(lambda: site.moon.protection is Protection.PQC_ONLY, 120)

    run_virtually(scenario())


def test_status_shows_what_protects_it() -> None:
    async def scenario() -> None:
        async with held() as site:
            await site.until_both(Protection.HYBRID, 15)
            await asyncio.sleep(5)
            view = shown(site.moon)
            assert (view.childless, view.protection) == (True, Protection.HYBRID)
            assert view.ike.protection is Protection.HYBRID
            assert view.rekey_at is not None
            text = render_status(as_json(view), Style(colour=False))
            assert "HYBRID    sun: for" in text
            assert "rekeying in" in text
            assert "by RFC9867" in text
            assert " \n" not in text
            assert "child" not in render_sas(as_json(view), Style(colour=False))
            # what policy believes and is not so is not shown
            site.moon.driver.endpoint.close("sun", reason="test", now=site.moon.clock())
            assert shown(site.moon).protection is Protection.DOWN

    run_virtually(scenario())
