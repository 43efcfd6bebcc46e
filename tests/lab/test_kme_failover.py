"""One KME killed while its twin lives: keys come from the twin, the tunnel stays HYBRID."""

from __future__ import annotations

import pytest

from netns_lab import evidence
from netns_lab.readiness import wait_until
from netns_lab.site import Site
from netns_lab.site_files import GATEWAYS, SiteOptions, TunnelOptions

pytestmark = pytest.mark.lab

TUNNEL = TunnelOptions(pool_target=3, rekey_min="2s", rekey_max="4s", kme_timeout="1s")
OPTIONS = SiteOptions(moon=TUNNEL, sun=TUNNEL, twin=True, mqtt=False)
MORE_REKEYS = 6  # more than the pool can have held from the dead KME


async def test_a_dead_kme_is_replaced_by_its_twin(lab_name: str) -> None:
    async with Site.up(lab_name, OPTIONS) as site:
        await site.wait_protection("HYBRID")
        await evidence.start_traffic(site.lab)
        before = await site.tunnel("moon")
        await site.lab.daemons["kme-moon"].kill()

        async def enough() -> bool:
            tunnel = await site.tunnel("moon")
            return tunnel["rekeys_hybrid"] - before["rekeys_hybrid"] >= MORE_REKEYS

        await wait_until(enough, 60, f"{MORE_REKEYS} HYBRID rekeys after the KME's death")
        for gateway in GATEWAYS:
            tunnel = await site.tunnel(gateway)
            assert tunnel["protection"] == "HYBRID"
            assert tunnel["rekeys_pqc_only"] == 0
            assert tunnel["keys"]["reused"] == 0
        kmes = {kme["name"]: kme for kme in (await site.snapshot("moon"))["kmes"]}
        assert not kmes["kme-moon"]["healthy"]
        assert kmes["kme-moon-twin"]["active"]
        directions = await evidence.stop_traffic(site.lab)
        assert all(seen.sent > 0 and seen.lost == 0 for seen in directions.values())
