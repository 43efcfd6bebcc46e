"""``qkd = "require"``: when the keys end the tunnel blocks, drops and leaks nothing."""

from __future__ import annotations

import pytest

from netns_lab import evidence, proof
from netns_lab.readiness import wait_until
from netns_lab.site import Site
from netns_lab.site_files import SiteOptions, TunnelOptions

pytestmark = pytest.mark.lab

TUNNEL = TunnelOptions(
    qkd="require", pool_target=2, key_reserve=0, rekey_min="2s", rekey_max="4s", restore_dwell="1s"
)
OPTIONS = SiteOptions(moon=TUNNEL, sun=TUNNEL, key_rate=3.0, key_store=1, mqtt=False)


async def test_require_blocks_when_qkd_ends_and_comes_back(lab_name: str) -> None:
    async with Site.up(lab_name, OPTIONS) as site:
        await evidence.start_capture(site.lab)
        await site.wait_protection("HYBRID")
        assert await evidence.agreed_children(site, "HYBRID")
        assert await evidence.reachable(site.lab)

        await site.link("cut")
        await site.wait_protection("BLOCKED", at=("moon",))
        await site.wait_protection("BLOCKED", "DOWN", at=("sun",))
        for gateway in ("moon", "sun"):
            await wait_until(lambda g=gateway: _no_sa(site, g), 10, f"no ESP SA left at {gateway}")
        assert not await evidence.reachable(site.lab, "alice")
        assert not await evidence.reachable(site.lab, "bob")
        alarms = {alarm["id"] for alarm in (await site.snapshot("moon"))["alarms"]}
        assert "blocked" in alarms
        done = await site.qsgw("moon", "status", "--check")
        assert done.code == 5, done.stdout + done.stderr

        await site.link("heal")
        await site.wait_protection("HYBRID")
        await wait_until(lambda: evidence.agreed_children(site, "HYBRID"), 10, "the same SA")
        assert await evidence.reachable(site.lab)
        counts = proof.count_kinds(await evidence.stop_capture(site.lab))
        assert counts["plaintext"] == 0
        assert counts["esp"] > 0, "the capture saw nothing"


async def _no_sa(site: Site, gateway: str) -> bool:
    return not await evidence.esp_sas(site, gateway)  # type: ignore[arg-type]
