"""``start = "trap"`` on a real kernel: its ACQUIRE sets the tunnel up, and nothing leaks."""

from __future__ import annotations

import pytest

from netns_lab import evidence, proof
from netns_lab.readiness import wait_until
from netns_lab.site import Site
from netns_lab.site_files import GATEWAYS, Gateway, SiteOptions, TunnelOptions

pytestmark = pytest.mark.lab

TRAP = {"start": "trap"}


def options(*, moon: dict[str, str], sun: dict[str, str]) -> SiteOptions:
    return SiteOptions(
        moon=TunnelOptions(qkd="off", more=moon),
        sun=TunnelOptions(qkd="off", more=sun),
        mqtt=False,
    )


async def trapped(site: Site, gateway: Gateway) -> bool:
    """An outbound policy into an SA that names none, and no SA."""
    command = ["ip", "xfrm", "policy", "list", "dir", "out"]
    text = (await site.lab.run(gateway, command)).check().stdout
    wants = [line for line in text.splitlines() if "proto esp" in line]
    return bool(wants) and not any("spi" in line for line in wants)


async def test_traffic_sets_the_tunnel_up_and_idleness_closes_it(lab_name: str) -> None:
    wanted = options(moon={**TRAP, "idle_timeout": "5s"}, sun=TRAP)
    async with Site.up(lab_name, wanted) as site:
        await evidence.start_capture(site.lab)
        for gateway in GATEWAYS:
            await wait_until(lambda g=gateway: trapped(site, g), 10, "the trap is laid")
            assert not await evidence.esp_sas(site, gateway)
        assert (await site.qsgw("moon", "status", "--check")).code == 0

        ping = ["ping", "-q", "-c", "30", "-i", "0.2", "-W", "1", "10.2.0.10"]
        assert (await site.lab.run("alice", ping)).code == 0, "traffic forwarded sets it up"
        await site.wait_protection("PQC_ONLY")
        assert await evidence.agreed_children(site, "PQC_ONLY")

        await site.wait_protection("DOWN", within=40)
        assert "no traffic for 5 s" in (await site.tunnel("moon"))["reason"]
        for gateway in GATEWAYS:
            await wait_until(lambda g=gateway: trapped(site, g), 10, "the trap is laid again")
            assert not (await site.snapshot(gateway))["alarms"]

        ping[-1] = "10.1.0.10"
        assert (await site.lab.run("bob", ping)).code == 0, "and from the other end"
        counts = proof.count_kinds(await evidence.stop_capture(site.lab))
        assert counts["plaintext"] == 0
        assert counts["esp"] > 0, "the capture saw nothing"


async def test_a_flood_without_a_peer_is_a_few_attempts_and_no_leak(lab_name: str) -> None:
    async with Site.up(lab_name, options(moon=TRAP, sun={"start": "respond"})) as site:
        await site.gateway("sun").kill()
        await evidence.start_capture(site.lab)
        await wait_until(lambda: trapped(site, "moon"), 10, "the trap is laid")
        flood = ["ping", "-q", "-f", "-c", "1000", "-w", "20", "10.2.0.10"]
        done = await site.lab.run("alice", flood)
        assert done.code != 0
        tunnel = await site.tunnel("moon")
        assert tunnel["ike"] is not None, "it tries"
        frames = await evidence.stop_capture(site.lab)
        counts = proof.count_kinds(frames)
        assert counts["plaintext"] == counts.get("esp", 0) == 0
        assert 0 < counts["ike"] < 20, counts
        assert await trapped(site, "moon")


async def test_terminated_tunnels_are_not_trapped(lab_name: str) -> None:
    async with Site.up(lab_name, options(moon=TRAP, sun=TRAP)) as site:
        await wait_until(lambda: trapped(site, "moon"), 10, "the trap is laid")
        await site.act("moon", "terminate")

        async def removed() -> bool:
            return not await trapped(site, "moon")

        await wait_until(removed, 10, "no trap")
        assert not await evidence.reachable(site.lab)
        assert (await site.tunnel("moon"))["ike"] is None
        await site.act("moon", "initiate")
        await site.wait_protection("PQC_ONLY")
        assert await evidence.reachable(site.lab)
