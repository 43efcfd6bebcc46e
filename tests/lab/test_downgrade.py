"""Somebody at isp takes offers out of IKE_SA_INIT: no SA comes up, and the operator reads why.

The rows are those of tests/exchange/test_downgrade.py, on a real wire, by other code.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from netns_lab import evidence
from netns_lab.errors import WaitError
from netns_lab.lab import Lab
from netns_lab.readiness import wait_until
from netns_lab.site import Site
from netns_lab.site_files import GATEWAYS, SiteOptions, TunnelOptions

pytestmark = pytest.mark.lab

TUNNEL = TunnelOptions(rekey_min="1h", restore_dwell="1h", retransmit_base="200ms")

ROWS = (
    # what, in which message, what the alarm names
    ("use-ppk-int", "request", "USE_PPK_INT"),
    ("use-ppk-int", "response", "USE_PPK_INT"),
    ("ppk", "request", "USE_PPK_INT"),
    ("intermediate", "request", "INTERMEDIATE_EXCHANGE_SUPPORTED"),
    ("intermediate", "response", "INTERMEDIATE_EXCHANGE_SUPPORTED"),
    ("fragmentation", "request", "IKEV2_FRAGMENTATION_SUPPORTED"),
    ("fragmentation", "response", "IKEV2_FRAGMENTATION_SUPPORTED"),
    ("vendor-id", "request", "Vendor ID"),
    ("vendor-id", "response", "Vendor ID"),
    ("nat-detection", "request", "NAT_DETECTION_SOURCE_IP"),
    ("nat-detection", "response", "NAT_DETECTION_SOURCE_IP"),
    ("addke", "request", "ML-KEM-768"),
    ("addke", "response", "ML-KEM-768"),
    ("use-ppk", "request", ""),
    ("cookie", "request", ""),
)


async def meddle(lab: Lab, *words: str) -> None:
    if "meddler" in lab.daemons:
        await lab.daemons["meddler"].stop()
    command = [sys.executable, "-m", "netns_lab.meddler", "forward", *words]
    await lab.start("isp", command, name="meddler")


async def failures(site: Site) -> int:
    return int((await site.tunnel("moon"))["failures"])


async def suspected(site: Site) -> str:
    """The texts of the alarm, at both ends."""
    texts = [
        alarm["text"]
        for gateway in GATEWAYS
        for alarm in (await site.snapshot(gateway))["alarms"]
        if alarm["id"] == "downgrade-suspected"
    ]
    return " ".join(texts)


async def gone(site: Site) -> bool:
    return not await evidence.esp_sas(site, "sun")


async def told(site: Site, name: str) -> bool:
    return name in await suspected(site)


async def clear(site: Site) -> None:
    """Untouched it comes up again, and nothing is suspected any more."""
    await meddle(site.lab)
    for verb in ("terminate", "initiate"):
        await site.act("moon", verb)
    await site.wait_protection("HYBRID", within=60)

    async def over() -> bool:
        return not await suspected(site)

    await wait_until(over, 10, "the alarm is over")


@pytest.mark.parametrize("qkd", ["prefer", "require"])
async def test_nothing_that_is_stripped_leads_to_an_sa(lab_name: str, qkd: str) -> None:
    tunnel = replace(TUNNEL, qkd=qkd)
    async with Site.prepared(lab_name, SiteOptions(moon=tunnel, sun=tunnel, mqtt=False)) as site:
        lab = site.lab
        off = ["sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"]
        (await lab.run("isp", off)).check()
        await meddle(lab)
        await site.start()
        await site.wait_protection("HYBRID", within=60)
        wrong: list[str] = []
        for what, direction, named in ROWS:
            row = f"{what} out of the {direction}"
            await site.act("moon", "terminate")
            await meddle(lab, "--strip", what, "--in", direction)
            before = await failures(site)
            await site.act("moon", "initiate")

            async def failed(before: int = before) -> bool:
                return await failures(site) > before

            await wait_until(failed, 30, f"an attempt fails: {row}")
            if await evidence.esp_sas(site, "moon"):
                wrong.append(f"{row}: there is an SA")
            # sun has one until moon's report, where only moon can see what was stripped.
            await wait_until(lambda: gone(site), 10, f"sun has no SA either: {row}")
            try:  # the two ends come to their conclusions one after the other
                await wait_until(lambda name=named: told(site, name), 5, named)
            except WaitError:
                wrong.append(f"{row}: {named} is not named in {await suspected(site)!r}")
            await lab.daemons["meddler"].stop()
            if lab.daemons["meddler"].log_tail(1).startswith("0 "):
                wrong.append(f"{row}: nothing was changed")
        assert not wrong, "\n".join(wrong)
        assert await suspected(site)
        await clear(site)
        assert await evidence.reachable(lab)
