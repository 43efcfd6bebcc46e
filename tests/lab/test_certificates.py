"""Gateways that authenticate with certificates, over a real path and a real kernel."""

from __future__ import annotations

import pytest

from netns_lab import evidence
from netns_lab.readiness import wait_until
from netns_lab.site import Site
from netns_lab.site_files import GATEWAYS, SiteOptions

pytestmark = pytest.mark.lab


async def proofs(site: Site) -> dict[str, tuple[str, str]]:
    """What each gateway says of itself and of its peer."""
    shown = {}
    for gateway in GATEWAYS:
        ike = (await site.tunnel(gateway))["ike"]
        shown[gateway] = (ike["local_proof"], ike["remote_proof"])
    return shown


async def test_ecdsa_certificates_until_one_is_revoked(lab_name: str) -> None:
    async with Site.up(lab_name, SiteOptions(certificates="ecdsa-p384", mqtt=False)) as site:
        await site.wait_protection("HYBRID")
        moon, sun = "ECDSA-P384-SHA384 CN=moon", "ECDSA-P384-SHA384 CN=sun"
        assert await proofs(site) == {"moon": (moon, sun), "sun": (sun, moon)}
        assert await evidence.reachable(site.lab, "alice")

        # sun reads the CRL anew, ends the tunnel and does not take moon back.
        await site.pki("revoke", "moon")

        async def refused() -> bool:
            error = (await site.tunnel("sun"))["last_error"] or ""
            return "certificate of CN=moon is revoked" in error

        await wait_until(refused, 30, "refusal of the revoked certificate")
        assert not await evidence.reachable(site.lab, "alice")

        async def nothing_stands() -> bool:
            return not any([await evidence.esp_sas(site, gateway) for gateway in GATEWAYS])

        await wait_until(nothing_stands, 10, "the end of the last rekeyed SA")

        # With a new certificate it comes back.
        await site.pki("issue", "moon", "--san", "DNS:moon.example", "--force")
        await site.act("moon", "reload")
        await site.wait_protection("HYBRID")
        assert await evidence.reachable(site.lab, "alice")


async def test_ml_dsa_certificates(lab_name: str) -> None:
    async with Site.up(lab_name, SiteOptions(certificates="ml-dsa-65", mqtt=False)) as site:
        await site.wait_protection("HYBRID")
        moon, sun = "ML-DSA-65 CN=moon", "ML-DSA-65 CN=sun"
        assert await proofs(site) == {"moon": (moon, sun), "sun": (sun, moon)}
        assert await evidence.reachable(site.lab, "alice")
        assert await evidence.reachable(site.lab, "bob")

        # A renewed certificate is taken up by a reload; the IKE SA and its children stay.
        before = (await site.tunnel("moon"))["ike"]["spi_i"]
        await site.pki("issue", "moon", "--san", "DNS:moon.example", "--force")
        await site.act("moon", "reload")
        assert await evidence.reachable(site.lab, "alice")
        assert (await site.tunnel("moon"))["ike"]["spi_i"] == before
