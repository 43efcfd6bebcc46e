"""IPv6 between the gateways, IPv4 and IPv6 inside: one tunnel carries both."""

from __future__ import annotations

import pytest

from netns_lab import evidence, proof
from netns_lab.readiness import wait_until
from netns_lab.site import Site
from netns_lab.site_files import SiteOptions, TunnelOptions

pytestmark = pytest.mark.lab

BOTH_VERSIONS = TunnelOptions(
    subnets={"moon": ("10.1.0.0/24", "fd01::/64"), "sun": ("10.2.0.0/24", "fd02::/64")},
    rekey_min="2s",
    rekey_max="4s",
)
BOB = ("10.2.0.10", "fd02::10")


async def test_a_tunnel_over_ipv6_carries_both_versions_and_nothing_else(lab_name: str) -> None:
    options = SiteOptions(moon=BOTH_VERSIONS, sun=BOTH_VERSIONS, outer=6, mqtt=False)
    async with Site.up(lab_name, options) as site:
        await site.wait_protection("HYBRID")
        await evidence.start_capture(site.lab)
        for address in BOB:
            (await site.lab.run("alice", ["ping", "-c", "2", "-W", "2", address])).check()
        await wait_until(lambda: _rekeyed(site), 30, "two rekeys")
        for address in BOB:
            (await site.lab.run("alice", ["ping", "-c", "2", "-W", "2", address])).check()
        counts = proof.count_kinds(await evidence.stop_capture(site.lab))
        assert counts["plaintext"] == 0
        assert counts["esp"] > 0
        assert await wait_until(
            lambda: evidence.agreed_children(site, "HYBRID"), 10, "the same SA at both ends"
        )
        assert await evidence.xfrm_errors(site) == 0


async def _rekeyed(site: Site) -> bool:
    return bool((await site.tunnel("moon"))["rekeys"] >= 2)
