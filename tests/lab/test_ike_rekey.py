"""Rekeys of the IKE SA under traffic: from either end, by the clock, and nothing is lost."""

from __future__ import annotations

import pytest

from netns_lab import evidence
from netns_lab.readiness import wait_until
from netns_lab.site import Site
from netns_lab.site_files import GATEWAYS, SiteOptions, TunnelOptions

pytestmark = pytest.mark.lab

NO_CHILD_REKEYS = TunnelOptions(rekey_min="1h", rekey_max="2h", more={"ike_rekey": "0"})
BY_THE_CLOCK = TunnelOptions(rekey_min="1h", rekey_max="2h", more={"ike_rekey": "20s"})


async def test_from_either_end_under_traffic(lab_name: str) -> None:
    options = SiteOptions(moon=NO_CHILD_REKEYS, sun=NO_CHILD_REKEYS, mqtt=False)
    async with Site.up(lab_name, options) as site:
        await site.wait_protection("HYBRID")
        before = {end: (await site.tunnel(end)) for end in GATEWAYS}
        await evidence.start_traffic(site.lab)
        key_ids = {before["moon"]["ike"]["key_id"]}
        for count, end in enumerate(GATEWAYS, 1):
            done = await site.qsgw(end, "rekey", "--ike", "sun" if end == "moon" else "moon")
            assert done.code == 0, done
            await wait_until(lambda n=count: _rekeyed(site, n), 20, "the IKE SA at both ends")
            key_ids.add((await site.tunnel("moon"))["ike"]["key_id"])
        directions = await evidence.stop_traffic(site.lab)
        assert all(seen.sent > 0 and seen.lost == 0 for seen in directions.values())
        assert len(key_ids) == 3, "a fresh QKD key for each"
        after = {end: (await site.tunnel(end)) for end in GATEWAYS}
        assert after["moon"]["ike"]["spi_i"] == after["sun"]["ike"]["spi_i"]
        for end in GATEWAYS:
            assert after[end]["ike"]["ppk_method"] == "RFC9867-child"
            assert after[end]["ike"]["spi_i"] != before[end]["ike"]["spi_i"]
            spis = [child["spi_in"] for child in after[end]["children"]]
            assert spis == [child["spi_in"] for child in before[end]["children"]]
            assert after[end]["failures"] == 0


async def test_by_the_clock(lab_name: str) -> None:
    options = SiteOptions(moon=BY_THE_CLOCK, sun=BY_THE_CLOCK, mqtt=False)
    async with Site.up(lab_name, options) as site:
        await site.wait_protection("HYBRID")
        await evidence.start_traffic(site.lab)
        await wait_until(lambda: _rekeyed(site, 2), 90, "two rekeys by the clock")
        directions = await evidence.stop_traffic(site.lab)
        assert all(seen.sent > 0 and seen.lost == 0 for seen in directions.values())


async def _rekeyed(site: Site, count: int) -> bool:
    return all([(await site.tunnel(end))["ike_rekeys"] >= count for end in GATEWAYS])
