"""SIGKILL of a daemon: traffic stays encrypted or blocked, never plain; a restart recovers."""

from __future__ import annotations

import pytest

from netns_lab import evidence, proof
from netns_lab.readiness import wait_until
from netns_lab.site import Site
from netns_lab.site_files import GATEWAYS, Gateway, SiteOptions, TunnelOptions

pytestmark = pytest.mark.lab

# No rekeys of its own: the kernel then comes to rest with the SAs of one child.
TUNNEL = TunnelOptions(rekey_min="1h")
OPTIONS = SiteOptions(moon=TUNNEL, sun=TUNNEL, mqtt=False)


@pytest.mark.parametrize("victim", GATEWAYS)
async def test_a_killed_daemon_leaks_nothing_and_its_successor_takes_over(
    lab_name: str, victim: Gateway
) -> None:
    async with Site.up(lab_name, OPTIONS) as site:
        await site.wait_protection("HYBRID")
        await evidence.start_capture(site.lab)
        await evidence.start_traffic(site.lab)
        await site.gateway(victim).kill()
        assert await evidence.esp_sas(site, victim), "the kernel keeps the SAs of a dead daemon"
        assert await evidence.reachable(site.lab), "and carries traffic through them"

        await site.start_gateway(victim)
        if victim == "sun":
            await site.act("moon", "rekey")  # makes moon find out that sun has forgotten it
        children = await wait_until(
            lambda: _settled(site), 60, "one HYBRID SA at both ends, and no other"
        )
        assert children
        assert await evidence.reachable(site.lab)
        directions = await evidence.stop_traffic(site.lab)
        counts = proof.count_kinds(await evidence.stop_capture(site.lab))
        assert counts["plaintext"] == 0
        assert counts["esp"] > 0
        assert all(seen.sent > 0 and seen.lost == 0 for seen in directions.values())


async def _settled(site: Site) -> bool:
    """Both ends agree on one SA, and nothing of the dead daemon is left in either kernel."""
    children = await evidence.agreed_children(site, "HYBRID")
    if not children:
        return False
    for gateway in GATEWAYS:
        known = {
            child[spi]
            for child in (await site.tunnel(gateway))["children"]
            for spi in ("spi_in", "spi_out")
        }
        if not await evidence.esp_sas(site, gateway) <= known:
            return False
    return True


async def test_both_killed_traffic_is_still_never_plain(lab_name: str) -> None:
    async with Site.up(lab_name, OPTIONS) as site:
        await site.wait_protection("HYBRID")
        await evidence.start_capture(site.lab)
        for gateway in GATEWAYS:
            await site.gateway(gateway).kill()
            flush = await site.lab.run(gateway, ["ip", "xfrm", "state", "flush"])
            flush.check()  # as if their lifetimes were over
        assert not await evidence.reachable(site.lab, "alice")
        assert not await evidence.reachable(site.lab, "bob")
        counts = proof.count_kinds(await evidence.stop_capture(site.lab))
        assert counts["plaintext"] == 0

        for gateway in ("sun", "moon"):
            await site.start_gateway(gateway)
        await site.wait_protection("HYBRID")
        assert await evidence.reachable(site.lab)
