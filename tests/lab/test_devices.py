"""KMEs fed by devices: an attack on the light reaches the tunnel, and the tunnel comes back."""

from __future__ import annotations

import pytest

from netns_lab import evidence
from netns_lab.qkd_files import DeviceLink
from netns_lab.readiness import wait_until
from netns_lab.site import Site
from netns_lab.site_files import SiteOptions, TunnelOptions

pytestmark = [pytest.mark.lab, pytest.mark.slow]

TUNNEL = TunnelOptions(rekey_min="1h", restore_dwell="3s")
OPTIONS = SiteOptions(
    moon=TUNNEL,
    sun=TUNNEL,
    mqtt=False,
    # Small blocks, so that one lasts well under a second in a slow kernel.
    devices={"link": DeviceLink(preset="lab-plain", block="600ms", interval="500ms")},
)
PATIENCE = 120.0  # seconds: twenty good blocks until an alarm is over


async def test_an_intercepted_link_is_left_and_comes_back(lab_name: str) -> None:
    async with Site.up(lab_name, OPTIONS) as site:
        link = site.devices["link"]
        await site.wait_protection("HYBRID", within=PATIENCE)
        await evidence.start_traffic(site.lab)

        await link.attack("intercept-resend", "fraction=0.4")
        await site.wait_protection("PQC_ONLY", within=PATIENCE)
        assert "QKD-SEC-021" in {alarm["id"] for alarm in (await link.status())["active"]}

        await link.stop()
        await site.wait_protection("HYBRID", within=PATIENCE)
        directions = await evidence.stop_traffic(site.lab)
        assert all(seen.sent > 0 and seen.lost == 0 for seen in directions.values())


async def test_a_device_that_dies_is_missed_and_comes_back(lab_name: str) -> None:
    async with Site.up(lab_name, OPTIONS) as site:
        link = site.devices["link"]
        await site.wait_protection("HYBRID", within=PATIENCE)
        await site.lab.daemons["link-bob"].kill()

        async def lonely() -> bool:
            return (await link.status())["state"] == "down"

        await wait_until(lonely, PATIENCE, "Alice misses Bob")
        await link.start_device("bob")

        async def together() -> bool:
            return (await link.status())["state"] == "up"

        await wait_until(together, PATIENCE, "Alice and Bob make keys again")
        await site.wait_protection("HYBRID", within=PATIENCE)
