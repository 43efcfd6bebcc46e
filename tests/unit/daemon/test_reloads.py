"""A changed configuration while tunnels run: nothing in the clear, nothing left behind."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from gateway.crypto.secret import Secret
from gateway.dataplane.reconcile import is_pin
from gateway.ike.credentials import SharedKey
from gateway.model import PolicyAction, Protection, QkdPolicy
from gateway.protection.inputs import OperatorRekey, OperatorTerminate
from tests.support.memory_site import ALICE, BOB, MemorySite
from tests.support.site_config import site_config
from tests.support.slow_kernel import SlowKernel
from tests.support.virtual_loop import run_virtually

FAR = ip_address("10.9.0.7")


def with_tunnels(site: MemorySite, **tunnels: object):
    return replace(site.moon.config, tunnels=tunnels)


def second_tunnel():
    """To a peer that is not there."""
    (tunnel,) = site_config("moon").tunnels.values()
    return replace(
        tunnel,
        name="far",
        remote=ip_address("10.0.34.4"),
        remote_id="far.example",
        remote_subnets=(ip_network("10.9.0.0/24"),),
        peer_sae="far",
    )


def test_a_tunnel_added_is_guarded_and_one_removed_leaves_nothing() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic(every=0.05)
            (sun,) = site.moon.config.tunnels.values()
            plane = site.moon.dataplane
            assert plane.transmit(ALICE, FAR).fate == "clear"
            await site.moon.reload(with_tunnels(site, sun=sun, far=second_tunnel()))
            await asyncio.sleep(0.1)
            assert plane.transmit(ALICE, FAR).fate == "dropped"
            await asyncio.sleep(100)

            plane.retire("far")
            await site.moon.reload(with_tunnels(site, sun=sun))
            await asyncio.sleep(0.1)
            assert plane.transmit(ALICE, FAR).fate == "clear"
            assert {policy.tunnel for policy in plane.policies} == {"sun"}
            assert {alarm.subject for alarm in site.moon.bulletin.alarms} == set()
            assert (site.lost, site.leaked) == (0, 0)

    run_virtually(scenario())


def test_a_tunnel_removed_takes_its_sas_along_and_tells_the_peer() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            site.moon.dataplane.retire("sun")
            await site.moon.reload(with_tunnels(site))
            await asyncio.sleep(1)
            assert site.moon.dataplane.sas == ()
            assert site.moon.dataplane.policies == ()
            assert site.moon.roster.tunnels == {}
            assert site.sun.dataplane.sas == ()
            assert site.sun.dataplane.transmit(BOB, ALICE).fate == "dropped"
            site.moon.roster.observe()
            assert site.moon.roster.kmes() == ()

            await site.moon.reload(site_config("moon"))  # and back
            await site.until_both(Protection.HYBRID, 60)

    run_virtually(scenario())


def test_sas_of_an_earlier_run_go_with_the_tunnel() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            site.wire.loses = lambda _data: True  # so that nothing replaces them
            await site.restart("moon")
            assert site.moon.dataplane.sas
            site.moon.dataplane.retire("sun")
            await site.moon.reload(with_tunnels(site))
            await asyncio.sleep(1)
            assert site.moon.dataplane.sas == ()
            assert site.moon.dataplane.policies == ()

    run_virtually(scenario())


OTHER_PSK = SharedKey(key=Secret(b"another pre-shared key of good length"))


@pytest.mark.parametrize(
    "changes",
    [
        {"local_auth": OTHER_PSK, "remote_auth": OTHER_PSK},
        {"ike": ("aes256gcm16-prfsha512-ecp384-ke1_mlkem1024",)},
        {"esp": ("aes256gcm16-ecp384-ke1_mlkem1024-esn",)},
    ],
)
def test_what_was_negotiated_is_negotiated_again(changes) -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic(every=0.02)
            await site.reload("sun", **changes)
            await site.reload("moon", **changes)
            await asyncio.sleep(0.5)
            await site.until_both(Protection.HYBRID, 120)
            assert site.leaked == 0
            site.fates.clear()
            await asyncio.sleep(10)
            assert site.lost == 0
            assert len(site.moon.dataplane.sas) == len(site.sun.dataplane.sas) == 2

    run_virtually(scenario())


def test_subnets_changed_at_both_ends_are_guarded_all_the_time() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic(every=0.002)
            wider = (ip_network("10.1.0.0/24"), ip_network("10.7.0.0/24"))
            await site.reload("moon", local_subnets=wider)
            await site.reload("sun", remote_subnets=wider)
            await site.until_both(Protection.HYBRID, 120)
            await asyncio.sleep(1)
            assert site.leaked == 0
            assert len(site.moon.dataplane.pins("sun")) == 1
            assert sum(is_pin(policy) for policy in site.moon.dataplane.policies) == 2
            assert site.moon.dataplane.transmit(wider[1][10], BOB).fate == "protected"

    run_virtually(scenario())


@pytest.mark.parametrize("name", ["moon", "sun"])
def test_a_policy_changed_in_the_middle_of_a_rekey_loses_nothing(name: str) -> None:
    """The new tunnel object must meet the policies as the rekey left them."""

    async def scenario(moment: float) -> None:
        async with MemorySite(kernel=SlowKernel) as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic(every=0.02)
            site.moon.tunnel.feed(OperatorRekey())
            await asyncio.sleep(moment)
            await site.reload(name, rekey_max=90.0)
            await asyncio.sleep(20)
            assert site.losses == [], moment
            gateway = getattr(site, name)
            carrying = gateway.tunnel.carrying()
            assert gateway.dataplane.pins(gateway.tunnel.name) == {carrying.spi_out}
            assert gateway.protection is Protection.HYBRID
            assert len(gateway.dataplane.sas) == 2

    for step in range(1, 60, 4):
        run_virtually(scenario(step / 1000))


def test_a_changed_rekey_interval_costs_no_keys_and_a_changed_kme_wipes_them() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            await asyncio.sleep(2)
            kme, before = site.link.kmes["moon"], site.moon.tunnel.keys.view()
            delivered = len(kme.delivered)
            await site.reload("moon", rekey_max=90.0)
            assert site.moon.tunnel.keys.view() == before
            await asyncio.sleep(2)
            assert len(kme.delivered) == delivered

            pooled = [held.key.key for held in site.moon.tunnel.keys._pool._held]
            await site.reload("moon", kmes=("secondary",))
            assert all(key.wiped for key in pooled)
            await asyncio.sleep(2)
            assert kme.closed
            assert site.moon.tunnel.keys.view().pool == 4

    run_virtually(scenario())


def test_a_terminated_tunnel_stays_down_over_a_reload() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            site.moon.tunnel.feed(OperatorTerminate())
            await asyncio.sleep(1)
            await site.reload("moon", rekey_max=90.0)
            await asyncio.sleep(120)
            assert site.moon.protection is Protection.DOWN
            assert site.moon.dataplane.sas == site.sun.dataplane.sas == ()

    run_virtually(scenario())


def test_qkd_turned_off_and_on_and_required() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic(every=0.05)
            for qkd, shown in (
                (QkdPolicy.OFF, Protection.PQC_ONLY),
                (QkdPolicy.PREFER, Protection.HYBRID),
                (QkdPolicy.REQUIRE, Protection.HYBRID),
            ):
                for name in ("moon", "sun"):
                    await site.reload(name, qkd=qkd)
                await site.until_both(shown, 300)
            blocks = [p for p in site.moon.dataplane.policies if p.action is PolicyAction.BLOCK]
            assert len(blocks) == 3
            assert (site.lost, site.leaked) == (0, 0)

    run_virtually(scenario())
