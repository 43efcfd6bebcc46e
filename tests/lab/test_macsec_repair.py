"""A MACsec link on a real kernel, behind the daemon's back: what goes missing comes back."""

from __future__ import annotations

from functools import partial

import pytest

from netns_lab import evidence, macsec_evidence
from netns_lab.macsec_evidence import wait_agreed, wait_shown
from netns_lab.metro import DEVICE, MacsecOptions
from netns_lab.readiness import wait_until
from netns_lab.site import Site
from netns_lab.site_files import GATEWAYS, Gateway, SiteOptions, TunnelOptions

pytestmark = pytest.mark.lab

CONNECTION = TunnelOptions(rekey_min="20s")
OPTIONS = SiteOptions(moon=CONNECTION, sun=CONNECTION, macsec=MacsecOptions(), mqtt=False)


async def alarms(site: Site, gateway: Gateway) -> set[str]:
    found = (await site.snapshot(gateway))["alarms"]
    return {alarm["id"] for alarm in found if alarm["id"].startswith(("macsec", "cak"))}


async def alarmed(site: Site, alarm: str) -> bool:
    return alarm in await alarms(site, "moon")


async def ip(site: Site, gateway: Gateway, *words: str) -> None:
    (await site.lab.run(gateway, ["ip", *words])).check()


async def test_a_device_or_sa_that_is_removed_is_made_anew(lab_name: str) -> None:
    async with Site.up(lab_name, OPTIONS) as site:
        before = await wait_agreed(site, "HYBRID")
        await ip(site, "moon", "link", "delete", DEVICE)
        await wait_shown(site, "HYBRID")

        async def another() -> bool:
            views = await wait_agreed(site, "HYBRID")
            return bool(views["moon"]["saks"][0]["ki"] != before["moon"]["saks"][0]["ki"])

        await wait_until(another, 30, "another SAK on another device")
        assert "the device is gone" in (await site.macsec("moon"))["last_error"]
        secy = await macsec_evidence.kernel(site, "sun")
        off = ("macsec", "set", DEVICE, "tx", "sa", str(secy.sending), "off")
        await ip(site, "sun", *off)
        await wait_until(another, 30, "another SAK")
        assert "transmit SA with AN" in (await site.macsec("sun"))["last_error"]
        await wait_agreed(site, "HYBRID")
        assert not await alarms(site, "sun")


async def test_an_interface_that_goes_away_is_waited_for(lab_name: str) -> None:
    async with Site.up(lab_name, OPTIONS) as site:
        await wait_agreed(site, "HYBRID")
        await ip(site, "moon", "link", "set", "sun", "down")
        await wait_until(partial(alarmed, site, "macsec-interface-down"), 30, "it is down")
        await ip(site, "moon", "link", "set", "sun", "name", "elsewhere")
        await wait_until(partial(alarmed, site, "macsec-interface-missing"), 30, "it is gone")
        assert (await site.macsec("moon"))["protection"] == "DOWN"
        await ip(site, "moon", "link", "set", "elsewhere", "name", "sun")
        await wait_agreed(site, "HYBRID")
        assert not await alarms(site, "moon")


async def test_block_only_makes_devices_that_let_nothing_pass(lab_name: str) -> None:
    async with Site.prepared(lab_name, OPTIONS) as site:
        for gateway in GATEWAYS:
            command = ["qsgwd", "--block-only", "--config", str(site.config(gateway))]
            (await site.lab.run(gateway, command)).check()
            secy = await macsec_evidence.kernel(site, gateway)
            assert (secy.strict, secy.transmit, secy.receive) == (True, {}, {})
        await evidence.start_link_capture(site.lab)
        assert not await evidence.reachable(site.lab, "alice")
        assert await evidence.stop_capture(site.lab, "link") == []
        await site.start()
        await wait_agreed(site, "HYBRID")
        assert await evidence.reachable(site.lab)


async def test_a_link_that_leaves_the_file_takes_device_and_filter_along(lab_name: str) -> None:
    async with Site.up(lab_name, OPTIONS) as site:
        await wait_agreed(site, "HYBRID")
        whole = site.config("moon").read_text()
        head, table, rest = whole.partition("[macsec.metro]")
        after = rest.partition("\n[")
        site.write_config("moon", head + "".join(after[1:]))
        assert table
        assert "1 removed" in await site.act("moon", "reload")
        assert (await site.lab.run("moon", ["ip", "link", "show", DEVICE])).code != 0
        for way in ("ingress", "egress"):
            show = ["tc", "filter", "show", "dev", "sun", way]
            assert not (await site.lab.run("moon", show)).check().stdout.strip()
        assert not (await site.snapshot("moon"))["macsec"]
        await wait_shown(site, "DOWN", at=("sun",))
        site.write_config("moon", whole)
        await site.act("moon", "reload")
        await wait_agreed(site, "HYBRID")
