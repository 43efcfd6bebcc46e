"""Two tunnels between the same gateways, each keyed by a QKD link of its own."""

from __future__ import annotations

from functools import partial

from netns_lab import evidence
from netns_lab.readiness import wait_until
from netns_lab.site import Site
from netns_lab.site_files import SiteOptions, TunnelOptions

TUNNEL = TunnelOptions(rekey_min="1s", rekey_max="2s", pool_target=2)
OPTIONS = SiteOptions(moon=TUNNEL, sun=TUNNEL, twin=True, apart=True, key_store=2, mqtt=False)


async def test_a_cut_link_makes_its_own_tunnel_fall_back_and_no_other(lab_name: str) -> None:
    async with Site.up(lab_name, OPTIONS) as site:
        await site.wait_protection("HYBRID")
        await site.wait_protection("HYBRID", twin=True)
        await evidence.start_traffic(site.lab)
        await evidence.start_traffic(site.lab, twin=True)
        await site.link("cut", link="link-twin")
        await site.wait_protection("PQC_ONLY", twin=True)
        assert (await site.tunnel("moon"))["protection"] == "HYBRID"
        lost = await evidence.stop_traffic(site.lab)
        lost_twin = await evidence.stop_traffic(site.lab, twin=True)
        for direction in (*lost.values(), *lost_twin.values()):
            assert direction.sent > 0
            assert direction.lost == 0
        for twin, protection in ((False, "HYBRID"), (True, "PQC_ONLY")):
            await wait_until(
                partial(evidence.agreed_children, site, protection, twin=twin),
                30.0,
                f"one {protection} SA at both gateways and in both kernels",
            )
