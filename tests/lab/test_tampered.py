"""Somebody at isp who changes, repeats and reflects IKE messages gets no SA out of it."""

from __future__ import annotations

import sys

import pytest

from netns_lab import evidence, proof
from netns_lab.errors import WaitError
from netns_lab.lab import Lab
from netns_lab.readiness import wait_until
from netns_lab.site import Site
from netns_lab.site_files import GATEWAYS, SiteOptions, TunnelOptions

pytestmark = pytest.mark.lab

IKE_SA_INIT, IKE_INTERMEDIATE, IKE_AUTH = 34, 43, 35  # RFC 7296 3.1, RFC 9242
SILENCE = 6.0  # seconds in which an untouched handshake would be done ten times

TUNNEL = TunnelOptions(rekey_min="1h", restore_dwell="1h", retransmit_base="300ms")
OPTIONS = SiteOptions(moon=TUNNEL, sun=TUNNEL, mqtt=False)


async def meddle(lab: Lab, *words: str) -> None:
    """Put the meddler in the router's place, or a new one in the old one's."""
    if "meddler" in lab.daemons:
        await lab.daemons["meddler"].stop()
    command = [sys.executable, "-m", "netns_lab.meddler", "forward", *words]
    await lab.start("isp", command, name="meddler")


async def test_a_bit_changed_in_any_exchange_leaves_no_sa(lab_name: str) -> None:
    async with Site.prepared(lab_name, OPTIONS) as site:
        lab = site.lab
        off = ["sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"]
        (await lab.run("isp", off)).check()
        await meddle(lab, "--flip", str(IKE_SA_INIT))
        await site.start()
        for exchange in (IKE_SA_INIT, IKE_INTERMEDIATE, IKE_AUTH):
            await meddle(lab, "--flip", str(exchange))
            for verb in ("terminate", "initiate"):  # a fresh attempt now, not after a back-off
                await site.act("moon", verb)
            await stays_down(site)
            await lab.daemons["meddler"].stop()
            changed = lab.daemons["meddler"].log_tail(1)
            assert not changed.startswith("0 "), f"exchange {exchange} was never touched"

        # The twin: through the same hands, untouched, it comes up.
        await meddle(lab)
        await site.act("moon", "initiate")
        await site.wait_protection("HYBRID", within=60)
        assert await evidence.reachable(lab)


async def stays_down(site: Site) -> None:
    """No ESP SA with keys appears at either end for a while."""

    async def an_sa() -> bool:
        return any([await evidence.esp_sas(site, gateway) for gateway in GATEWAYS])

    with pytest.raises(WaitError):
        await wait_until(an_sa, SILENCE, "an SA", interval=0.5)


async def test_repeated_changed_and_reflected_messages_change_nothing(lab_name: str) -> None:
    async with Site.prepared(lab_name, OPTIONS) as site:
        await evidence.start_capture(site.lab)
        await site.start()
        await site.wait_protection("HYBRID")
        frames = await evidence.stop_capture(site.lab)
        assert proof.count_kinds(frames)["ike"] >= 6
        before = await wait_until(
            lambda: evidence.agreed_children(site, "HYBRID"), 10, "the same SA at both ends"
        )
        ike_before = (await site.tunnel("sun"))["ike"]
        sas_before = [await evidence.esp_sas(site, gateway) for gateway in GATEWAYS]

        await evidence.start_traffic(site.lab)
        file = str(site.lab.capture_dir / "isp.pcap")
        command = [sys.executable, "-m", "netns_lab.meddler", "inject", file]
        for _ in range(2):
            done = (await site.lab.run("isp", command)).check()
            assert int(done.stdout) >= 6
        assert await evidence.reachable(site.lab)
        directions = await evidence.stop_traffic(site.lab)

        assert all(seen.sent > 0 and seen.lost == 0 for seen in directions.values())
        after = await evidence.agreed_children(site, "HYBRID")
        for gateway in GATEWAYS:
            assert after[gateway]["spi_in"] == before[gateway]["spi_in"]
            assert (await site.tunnel(gateway))["rekeys"] == 0
        assert (await site.tunnel("sun"))["ike"]["spi_i"] == ike_before["spi_i"]
        assert [await evidence.esp_sas(site, gateway) for gateway in GATEWAYS] == sas_before
        assert (await site.snapshot("sun"))["drops"], "hostile messages are counted"
