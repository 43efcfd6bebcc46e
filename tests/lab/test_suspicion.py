"""An eavesdropping alarm: the SA keyed with QKD is replaced at once, and QKD rests until clear."""

from __future__ import annotations

import pytest

from netns_lab import evidence
from netns_lab.readiness import wait_until
from netns_lab.site import Site
from netns_lab.site_files import GATEWAYS, Gateway, SiteOptions, TunnelOptions

pytestmark = pytest.mark.lab

TUNNEL = TunnelOptions(rekey_min="1h", restore_dwell="3s")
OPTIONS = SiteOptions(moon=TUNNEL, sun=TUNNEL, mqtt=False)


async def test_a_suspect_link_is_left_at_once_without_losing_a_packet(lab_name: str) -> None:
    async with Site.up(lab_name, OPTIONS) as site:
        await site.wait_protection("HYBRID")
        tainted = await wait_until(
            lambda: evidence.agreed_children(site, "HYBRID"), 10, "the same SA at both ends"
        )
        await evidence.start_traffic(site.lab)

        await site.link("suspect", "QBER 8.1 % on block 42")
        await site.wait_protection("PQC_ONLY")
        for gateway in GATEWAYS:
            # Each end hears of it from its own KME, at its next look.
            await wait_until(lambda g=gateway: _warned(site, g), 15, "an alarm with the reason")
            gone = {tainted[gateway]["spi_in"], tainted[gateway]["spi_out"]}
            await wait_until(
                lambda g=gateway, gone=gone: _without(site, g, gone), 15, "the tainted SA is gone"
            )

        await site.link("clear")
        await site.wait_protection("HYBRID")
        directions = await evidence.stop_traffic(site.lab)
        assert all(seen.sent > 0 and seen.lost == 0 for seen in directions.values())


async def _without(site: Site, gateway: Gateway, spis: set[str]) -> bool:
    return not spis & await evidence.esp_sas(site, gateway)


async def _warned(site: Site, gateway: Gateway) -> bool:
    alarms = (await site.snapshot(gateway))["alarms"]
    return any(alarm["id"] == "qkd-suspect" and "QBER 8.1 %" in alarm["text"] for alarm in alarms)
