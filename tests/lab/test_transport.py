"""Transport mode between the two gateways themselves, on a real kernel."""

from __future__ import annotations

import pytest

from netns_lab import evidence, proof
from netns_lab.site import Site
from netns_lab.site_files import SiteOptions, TunnelOptions

pytestmark = pytest.mark.lab

MOON, SUN = "10.0.12.1", "10.0.23.3"
TUNNEL = TunnelOptions(
    qkd="off",
    rekey_max="1h",
    subnets={"moon": (f"{MOON}/32",), "sun": (f"{SUN}/32",)},
    more={"mode": "transport"},
)
OPTIONS = SiteOptions(moon=TUNNEL, sun=TUNNEL, mqtt=False)


async def answers(site: Site) -> bool:
    ping = ["ping", "-q", "-c", "3", "-i", "0.2", "-W", "1", SUN]
    return (await site.lab.run("moon", ping)).code == 0


async def test_two_hosts_without_a_packet_in_the_clear(lab_name: str) -> None:
    async with Site.up(lab_name, OPTIONS) as site:
        await evidence.start_capture(site.lab)
        await site.wait_protection("PQC_ONLY")
        assert await evidence.agreed_children(site, "PQC_ONLY")
        for gateway in ("moon", "sun"):
            command = ["ip", "xfrm", "state", "list", "nokeys"]
            states = (await site.lab.run(gateway, command)).check().stdout
            assert "mode transport" in states
            assert "mode tunnel" not in states
        assert await answers(site), "IKE passes by the policies, the rest through the SA"

        await site.act("moon", "rekey")  # more IKE, under policies for these very addresses
        await site.wait_protection("PQC_ONLY")
        assert await answers(site)

        await site.act("moon", "terminate")
        await site.wait_protection("DOWN")
        assert not await answers(site)
        counts = proof.count_kinds(await evidence.stop_capture(site.lab))
        assert counts["esp"] > 0, "the capture saw nothing"
        assert counts.keys() <= {"plaintext", "esp", "ike", "arp", "keepalive"}, counts
        assert counts["plaintext"] == 0
