"""Boot: block policies before the daemon, which then takes over without a gap."""

from __future__ import annotations

import pytest

from netns_lab import evidence, proof
from netns_lab.site import Site
from netns_lab.site_files import GATEWAYS, SiteOptions

pytestmark = pytest.mark.lab


async def test_nothing_is_forwarded_in_the_clear_before_and_while_the_daemons_start(
    lab_name: str,
) -> None:
    async with Site.prepared(lab_name, SiteOptions(mqtt=False)) as site:
        await evidence.start_capture(site.lab, "before")
        await evidence.reachable(site.lab, "alice")
        frames = await evidence.stop_capture(site.lab, "before")
        assert proof.count_kinds(frames)["plaintext"] > 0, "without them all of it leaves"
        for gateway in GATEWAYS:
            command = ["qsgwd", "--block-only", "--config", str(site.config(gateway))]
            (await site.lab.run(gateway, command)).check()
        await evidence.start_capture(site.lab)
        assert not await evidence.reachable(site.lab, "alice")
        assert not await evidence.reachable(site.lab, "bob")

        await evidence.start_traffic(site.lab)
        await site.start()
        await site.wait_protection("HYBRID")
        assert await evidence.reachable(site.lab)
        await evidence.stop_traffic(site.lab)
        counts = proof.count_kinds(await evidence.stop_capture(site.lab))
        assert counts["plaintext"] == 0
        assert counts["esp"] > 0
