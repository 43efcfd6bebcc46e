"""A path that loses, delays and reorders packets: handshakes and rekeys still come through."""

from __future__ import annotations

import pytest

from netns_lab import evidence
from netns_lab.net import Impairment
from netns_lab.readiness import wait_until
from netns_lab.site import Site
from netns_lab.site_files import GATEWAYS, SiteOptions, TunnelOptions

pytestmark = pytest.mark.lab

# One packet in twelve: six tries of an exchange all lost once in 75,000 (0.92 each way).
BAD_PATH = Impairment(delay_ms=15, jitter_ms=10, loss_percent=8, reorder_percent=10)
REKEYS = 6
TUNNEL = TunnelOptions(rekey_min="2s", rekey_max="1h", retransmit_base="200ms")
OPTIONS = SiteOptions(moon=TUNNEL, sun=TUNNEL, mqtt=False)


async def test_a_bad_path_costs_retransmissions_and_nothing_else(lab_name: str) -> None:
    async with Site.prepared(lab_name, OPTIONS) as site:
        await site.lab.impair("moon", "isp", BAD_PATH)
        await site.start()
        await site.wait_protection("HYBRID", within=60)

        async def rekeyed() -> bool:
            tunnel = await site.tunnel("moon")
            return tunnel["rekeys"] >= REKEYS

        await wait_until(rekeyed, 90, f"{REKEYS} rekeys over a bad path")
        await site.lab.heal("moon", "isp")
        children = await wait_until(
            lambda: evidence.agreed_children(site, "HYBRID"), 20, "the same SA at both ends"
        )
        assert children
        assert await evidence.reachable(site.lab)
        for gateway in GATEWAYS:
            tunnel = await site.tunnel(gateway)
            assert tunnel["failures"] == 0
            assert tunnel["keys"]["reused"] == 0
            assert tunnel["rekeys_pqc_only"] == 0
