"""Limits on packets in a real kernel: a new SA at the soft one, silence after the hard one."""

from __future__ import annotations

import signal

import pytest

from netns_lab import evidence, proof
from netns_lab.readiness import wait_until
from netns_lab.site import Site
from netns_lab.site_files import GATEWAYS, SiteOptions, TunnelOptions

pytestmark = pytest.mark.lab

TUNNEL = TunnelOptions(
    qkd="off", rekey_min="1h", rekey_max="2h", more={"rekey_packets": "1000", "rekey_bytes": "0"}
)
OPTIONS = SiteOptions(moon=TUNNEL, sun=TUNNEL, mqtt=False)


async def test_packets_replace_the_sa_and_none_is_lost(lab_name: str) -> None:
    async with Site.up(lab_name, OPTIONS) as site:
        await site.wait_protection("PQC_ONLY")
        children = await wait_until(
            lambda: evidence.agreed_children(site, "PQC_ONLY"), 10, "the same SA at both ends"
        )
        assert 900 <= children["moon"]["rekey_packets"] <= 1000
        assert children["sun"]["rekey_packets"] == 1000
        assert {children[end]["life_packets"] for end in GATEWAYS} == {2000}
        assert children["moon"]["rekey_bytes"] is None
        await evidence.start_traffic(site.lab)

        async def replaced() -> bool:
            return all([(await site.tunnel(end))["rekeys"] >= 1 for end in GATEWAYS])

        await wait_until(replaced, 90, "a rekey for the packets carried")
        directions = await evidence.stop_traffic(site.lab)
        assert all(seen.sent > 0 and seen.lost == 0 for seen in directions.values())
        roles = {(await site.tunnel(end))["rekeys"] for end in GATEWAYS}
        assert len(roles) == 1, "each limit has one rekey, not one from each end"


async def test_past_the_hard_limit_traffic_is_dropped_and_comes_back(lab_name: str) -> None:
    async with Site.up(lab_name, OPTIONS) as site:
        await evidence.start_capture(site.lab)
        await site.wait_protection("PQC_ONLY")
        assert await evidence.reachable(site.lab)
        (old,) = await evidence.esp_sas(site, "moon") - await _inbound(site)

        site.gateway("sun").signal(signal.SIGSTOP)  # its kernel goes on
        flood = ["ping", "-q", "-f", "-c", "2100", "-w", "40", "10.2.0.10"]
        await site.lab.run("alice", flood, timeout=90)

        async def gone() -> bool:
            return old not in await evidence.esp_sas(site, "moon")

        await wait_until(gone, 10, "the kernel ended the SA")
        assert not await evidence.reachable(site.lab)

        site.gateway("sun").signal(signal.SIGCONT)
        await wait_until(lambda: evidence.reachable(site.lab), 60, "traffic through a new SA")
        counts = proof.count_kinds(await evidence.stop_capture(site.lab))
        assert counts["plaintext"] == 0
        assert counts["esp"] > 0, "the capture saw nothing"


async def _inbound(site: Site) -> set[str]:
    return {child["spi_in"] for child in (await site.tunnel("moon"))["children"]}
