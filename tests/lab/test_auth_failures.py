"""A wrong PSK or a wrong QKD key: no SA at either end, and nothing in the clear."""

from __future__ import annotations

import pytest

from netns_lab import evidence, proof
from netns_lab.readiness import wait_until
from netns_lab.site import Site
from netns_lab.site_files import GATEWAYS, SiteOptions, TunnelOptions

pytestmark = pytest.mark.lab


async def attempts(site: Site, at_least: int) -> str:
    """moon's last error, once it has failed that often."""

    async def failed() -> str | None:
        tunnel = await site.tunnel("moon")
        return tunnel["last_error"] if tunnel["failures"] >= at_least else None

    return await wait_until(failed, 30, f"{at_least} failed attempts")


async def assert_nothing_stands(site: Site) -> None:
    for gateway in GATEWAYS:
        tunnel = await site.tunnel(gateway)
        assert tunnel["protection"] in ("DOWN", "BLOCKED")
        assert tunnel["children"] == []
        assert await evidence.esp_sas(site, gateway) == set()
    assert not await evidence.reachable(site.lab, "alice")
    assert not await evidence.reachable(site.lab, "bob")


async def test_a_wrong_psk_leaves_no_sa(lab_name: str) -> None:
    async with Site.up(lab_name, SiteOptions(same_psk=False, mqtt=False)) as site:
        await evidence.start_capture(site.lab)
        error = await attempts(site, 2)
        assert "AUTHENTICATION_FAILED" in error or "authentication" in error.lower()
        await assert_nothing_stands(site)
        counts = proof.count_kinds(await evidence.stop_capture(site.lab))
        assert counts["plaintext"] == counts.get("esp", 0) == 0
        assert counts["ike"] > 0

        # The twin: with the right PSK the very same site comes up.
        psk = (site.folder("moon") / "psk").read_text()
        (site.folder("sun") / "psk").write_text(psk)
        await site.act("sun", "reload")
        await site.wait_protection("HYBRID")


async def test_a_wrong_qkd_key_leaves_no_sa_under_require(lab_name: str) -> None:
    tunnel = TunnelOptions(qkd="require")
    async with Site.prepared(lab_name, SiteOptions(moon=tunnel, sun=tunnel, mqtt=False)) as site:
        await site.start_link()
        for name in site.kmes:
            await site.start_kme(name)
        await site.kmectl("kme-sun", "fault", "wrong-key", "on")
        for gateway in ("sun", "moon"):
            await site.start_gateway(gateway)
        await attempts(site, 1)
        await assert_nothing_stands(site)

        await site.kmectl("kme-sun", "fault", "wrong-key", "off")
        await site.wait_protection("HYBRID")
        assert await evidence.reachable(site.lab)


async def test_a_wrong_qkd_key_is_never_shown_as_hybrid_under_prefer(lab_name: str) -> None:
    async with Site.prepared(lab_name, SiteOptions(mqtt=False)) as site:
        await site.start_link()
        for name in site.kmes:
            await site.start_kme(name)
        await site.kmectl("kme-sun", "fault", "wrong-key", "on")
        for gateway in ("sun", "moon"):
            await site.start_gateway(gateway)
        await site.wait_protection("PQC_ONLY")
        assert await evidence.reachable(site.lab)
        await site.kmectl("kme-sun", "fault", "wrong-key", "off")
        await site.wait_protection("HYBRID")
        assert await evidence.reachable(site.lab)
