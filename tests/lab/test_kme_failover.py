"""One KME killed while another pair lives: keys come from that, and the tunnel is HYBRID."""

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


async def test_the_peers_half_of_a_pair_dies(lab_name: str) -> None:
    """kme-moon goes on giving what it holds, and sun cannot fetch any of it."""
    async with Site.up(lab_name, OPTIONS) as site:
        await site.wait_protection("HYBRID")
        await evidence.start_traffic(site.lab)
        await site.lab.daemons["kme-sun"].kill()

        async def marked() -> bool:
            kmes = {kme["name"]: kme for kme in (await site.snapshot("moon"))["kmes"]}
            return kmes["kme-moon"]["refused_by"] == ["sun"]

        await wait_until(marked, 30, "a mark against kme-moon")
        before = await site.tunnel("moon")

        async def enough() -> bool:
            tunnel = await site.tunnel("moon")
            return tunnel["rekeys_hybrid"] - before["rekeys_hybrid"] >= MORE_REKEYS

        await wait_until(enough, 60, f"{MORE_REKEYS} HYBRID rekeys with keys of the other pair")
        snapshot = await site.snapshot("moon")
        assert {alarm["id"] for alarm in snapshot["alarms"]} == {"kme-keys-refused"}
        kmes = {kme["name"]: kme for kme in snapshot["kmes"]}
        assert kmes["kme-moon"]["healthy"]  # all of this is about the peer's half
        assert kmes["kme-moon-twin"]["active"]
        for gateway in GATEWAYS:
            assert (await site.tunnel(gateway))["keys"]["reused"] == 0
        directions = await evidence.stop_traffic(site.lab)
        assert all(seen.sent > 0 and seen.lost == 0 for seen in directions.values())
