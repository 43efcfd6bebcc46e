"""What is shown is what is so: the views are held against the kernel."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway.daemon.views import Viewer
from gateway.dataplane.reconcile import is_pin
from gateway.model import Protection, TunnelView
from gateway.protection.inputs import OperatorTerminate
from tests.support.memory_site import MemorySite
from tests.support.virtual_loop import run_virtually


async def shown(gateway) -> TunnelView:
    (facts,) = gateway.driver.endpoint.views()
    kernel = await gateway.dataplane.snapshot()
    config = gateway.roster.config_of(facts.name)
    return Viewer(gateway.clock).tunnel(config, gateway.tunnel, facts, kernel)


def test_a_tunnel_at_work() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            site.send_both_ways()
            moon, sun = await shown(site.moon), await shown(site.sun)
            assert moon.protection is sun.protection is Protection.HYBRID
            (ours,), (theirs,) = moon.children, sun.children
            assert ours.in_kernel
            assert ours.carries_outbound
            assert ours.key_id == theirs.key_id is not None
            assert (ours.spi_in, ours.packets_in) == (theirs.spi_out, theirs.packets_out)
            assert ours.packets_in == ours.packets_out == 1

    run_virtually(scenario())


def test_flushed_sas_are_not_shown_as_protection() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            plane = site.moon.dataplane
            for sa_id in list(plane._sas):
                del plane._sas[sa_id]
            view = await shown(site.moon)
            assert (view.protection, view.reason) == (
                Protection.DOWN,
                "the SA is not in the kernel",
            )
            assert not view.children[0].in_kernel

    run_virtually(scenario())


def test_a_pin_moved_or_removed_behind_our_back_is_seen() -> None:
    async def scenario() -> None:
        for change in ("moved", "removed", "another's"):
            async with MemorySite() as site:
                await site.until_both(Protection.HYBRID, 15)
                plane = site.moon.dataplane
                (key,) = [key for key, policy in plane._policies.items() if is_pin(policy)]
                pin = plane._policies.pop(key)
                if change == "moved":
                    plane._policies[key] = replace(pin, outbound_spi=pin.outbound_spi + 7)
                if change == "another's":
                    plane._policies[key] = replace(pin, reqid=pin.reqid + 1)
                view = await shown(site.moon)
                assert view.protection is Protection.DOWN, change
                assert view.reason == "no kernel policy leads into the SA"
                await asyncio.sleep(11)  # the audit
                assert (await shown(site.moon)).protection is Protection.HYBRID
                assert plane._policies[key] == pin

    run_virtually(scenario())


def test_sas_of_an_earlier_run_are_named_while_they_carry_traffic() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            site.wire.loses = lambda _data: True
            await site.restart("moon")
            await asyncio.sleep(1)
            view = await shown(site.moon)
            assert view.protection is Protection.DOWN
            assert view.reason.endswith("; SAs of an earlier run carry traffic meanwhile")
            site.send_both_ways()
            assert site.lost == 0
            site.moon.tunnel.feed(OperatorTerminate())
            await asyncio.sleep(0.1)
            view = await shown(site.moon)
            assert view.reason == "terminated by the operator"
            site.send_both_ways()
            assert site.leaked == 0
            assert site.lost >= 1

    run_virtually(scenario())
