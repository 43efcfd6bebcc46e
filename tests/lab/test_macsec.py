"""MACsec between two sites: up with QKD, across restarts, and blocked where it has to be."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from netns_lab import evidence, macsec_evidence, macsec_proof, proof
from netns_lab.macsec_evidence import wait_agreed, wait_shown
from netns_lab.metro import DEVICE, MacsecOptions
from netns_lab.readiness import wait_until
from netns_lab.site import Site
from netns_lab.site_files import GATEWAYS, Gateway, SiteOptions, TunnelOptions

pytestmark = pytest.mark.lab

PEERS_PATIENCE = {"killed": 4.0, "restarted": 5.5}
"""Seconds that are always left: MKA's Life Time of 6 s, less what had passed of a Hello Time."""

CONNECTION = TunnelOptions(pool_target=1, key_reserve=0, rekey_min="2s", restore_dwell="1s")
OPTIONS = SiteOptions(
    moon=CONNECTION, sun=CONNECTION, macsec=MacsecOptions(), key_store=1, mqtt=False
)


async def test_it_comes_up_hybrid_and_nothing_else_is_on_the_link(lab_name: str) -> None:
    async with Site.prepared(lab_name, OPTIONS) as site:
        await evidence.start_capture(site.lab)
        await evidence.start_link_capture(site.lab)
        await site.start()
        views = await wait_agreed(site, "HYBRID")
        moon, sun = views["moon"], views["sun"]
        assert moon["caks"][-1]["ckn"] == sun["caks"][-1]["ckn"]
        assert moon["caks"][-1]["key_id"] == sun["caks"][-1]["key_id"] is not None
        assert moon["we_are_key_server"] != sun["we_are_key_server"]
        assert moon["mtu"] == 1500 - 32
        assert await evidence.reachable(site.lab, "alice")
        assert await evidence.reachable(site.lab, "bob")
        for gateway in GATEWAYS:
            told = json.loads((await site.qsgw(gateway, "--json", "macsec")).check().stdout)
            assert _ki(told) == views[gateway]["saks"][0]["ki"]
        isp = await evidence.stop_capture(site.lab)
        link = await evidence.stop_capture(site.lab, "link")
        assert set(macsec_proof.ethertypes(link)) == {"0x888e", "0x88e5"}
        assert macsec_proof.in_the_clear(link) == 0
        assert proof.count_kinds(isp)["plaintext"] == 0
        _opened(site, link)


def _ki(told: Any) -> str:
    links = told["macsec"] if isinstance(told, dict) else told
    return str(links[0]["saks"][0]["ki"])


def _opened(site: Site, frames: Sequence[Any]) -> None:
    logs = [site.key_log(gateway) / "macsec_sak" for gateway in GATEWAYS]
    decryption = macsec_proof.decrypt(frames, macsec_proof.agreed(logs))
    assert decryption.proven, decryption.failed


@pytest.mark.parametrize("how", ["killed", "restarted"])
async def test_a_daemon_that_comes_back_in_time_costs_no_frame(how: str, lab_name: str) -> None:
    async with Site.up(lab_name, OPTIONS) as site:
        before = (await wait_agreed(site, "HYBRID"))["moon"]["saks"][0]["ki"]
        await evidence.start_traffic(site.lab)
        if how == "restarted":
            assert await site.gateway("sun").stop() == 0
        else:
            await site.gateway("sun").kill()
        gone = time.monotonic()
        await site.start_gateway("sun")
        await wait_until(lambda: _sends_anew(site, before), 30, "a SAK made since")
        away = time.monotonic() - gone
        views = await wait_agreed(site, "HYBRID")
        directions = await evidence.stop_traffic(site.lab)
        assert "CRITICAL" not in site.gateway("sun").log.read_text()
        assert views["sun"]["saks"][0]["ki"] != before
        lost = {name: seen.lost for name, seen in directions.items() if seen.lost}
        if lost and away > PEERS_PATIENCE[how]:
            pytest.skip(f"back after {away:.1f} s only, when its peer may have to give it up")
        assert lost == {}
        assert all(seen.sent > 0 for seen in directions.values())


async def _sends_anew(site: Site, before: str) -> bool:
    sak = macsec_evidence.sending(await site.macsec("moon"))
    return sak is not None and sak["ki"] != before


async def test_where_qkd_is_required_the_link_blocks_without_it(lab_name: str) -> None:
    strict = replace(CONNECTION, qkd="require", rekey_max="4s")
    async with Site.up(lab_name, replace(OPTIONS, moon=strict, sun=strict)) as site:
        await wait_agreed(site, "HYBRID")
        await site.link("cut")
        await wait_shown(site, "BLOCKED", at=("moon",))
        await wait_shown(site, "BLOCKED", "DOWN", at=("sun",))  # whoever waits for the other
        await evidence.start_link_capture(site.lab)
        assert not await evidence.reachable(site.lab, "alice")
        assert not await evidence.reachable(site.lab, "bob")
        frames = await evidence.stop_capture(site.lab, "link")
        assert set(macsec_proof.ethertypes(frames)) <= {"0x888e"}
        for gateway in GATEWAYS:
            secy = await macsec_evidence.kernel(site, gateway)
            assert (secy.strict, secy.transmit, secy.receive) == (True, {}, {})
        await site.link("heal")
        await wait_agreed(site, "HYBRID")
        assert await evidence.reachable(site.lab)


async def test_ends_that_mean_other_links_get_no_sa_and_say_why(lab_name: str) -> None:
    options = replace(OPTIONS, macsec=MacsecOptions(sun={"link": "elsewhere"}))
    async with Site.up(lab_name, options) as site:
        for gateway in GATEWAYS:
            why = await wait_until(lambda g=gateway: _refused(site, g), 30, "the reason is told")
            assert "CKN" in why
            secy = await macsec_evidence.kernel(site, gateway)
            assert (secy.strict, secy.transmit, secy.receive) == (True, {}, {})
        assert not await evidence.reachable(site.lab)


async def _refused(site: Site, gateway: Gateway) -> str:
    alarms = (await site.snapshot(gateway))["alarms"]
    found = [alarm["text"] for alarm in alarms if alarm["id"] == "macsec-peer-refused"]
    return found[0] if found else ""


async def test_packet_numbers_of_64_bits(lab_name: str) -> None:
    options = replace(OPTIONS, macsec=MacsecOptions(both={"suite": "gcm-aes-xpn-256"}))
    async with Site.up(lab_name, options) as site:
        await wait_agreed(site, "HYBRID")
        await evidence.start_link_capture(site.lab)
        assert await evidence.reachable(site.lab)
        assert (await macsec_evidence.kernel(site, "moon")).suite == "GCM-AES-XPN-256"
        _opened(site, await evidence.stop_capture(site.lab, "link"))


async def test_should_secure_passes_traffic_and_warns(lab_name: str) -> None:
    """For a migration. Without a common CAK everything passes, and nobody may overlook it."""
    options = replace(
        OPTIONS,
        macsec=MacsecOptions(both={"security": "should-secure"}, sun={"link": "elsewhere"}),
    )
    async with Site.up(lab_name, options) as site:
        for gateway in GATEWAYS:
            await wait_until(lambda g=gateway: _in_the_clear(site, g), 30, "macsec-clear")
            shown = await site.qsgw(gateway, "status", "--check")
            assert shown.code == 5
        assert await evidence.reachable(site.lab)


async def _in_the_clear(site: Site, gateway: Gateway) -> bool:
    snapshot = await site.snapshot(gateway)
    link = snapshot["macsec"][0]
    alarms = {alarm["id"]: alarm["severity"] for alarm in snapshot["alarms"]}
    warned = alarms.get("macsec-clear") == "critical"
    return warned and link["port"] == "clear" and link["protection"] == "DOWN"


async def test_a_cable_unplugged_and_back(lab_name: str) -> None:
    async with Site.up(lab_name, OPTIONS) as site:
        await wait_agreed(site, "HYBRID")
        await evidence.start_link_capture(site.lab)
        await site.lab.network.unplug("moon", "sun")
        await wait_shown(site, "DOWN")
        await site.lab.network.plug("moon", "sun")
        await wait_agreed(site, "HYBRID")
        assert await evidence.reachable(site.lab)
        frames = await evidence.stop_capture(site.lab, "link")
        assert set(macsec_proof.ethertypes(frames)) == {"0x888e", "0x88e5"}
        for gateway in GATEWAYS:
            up = await site.lab.run(gateway, ["ip", "-brief", "link", "show", DEVICE])
            assert " UP " in up.check().stdout


async def test_without_the_management_network_the_link_goes_on(lab_name: str) -> None:
    """A CAK that cannot be renewed is used on, with an alarm, and replaced when IKE is back."""
    quick = replace(CONNECTION, rekey_max="15s", liveness="1s", retransmit_base="100ms")
    async with Site.up(lab_name, replace(OPTIONS, moon=quick, sun=quick)) as site:
        await wait_agreed(site, "HYBRID")
        await evidence.start_traffic(site.lab)
        await site.lab.cut("moon", "isp")
        for gateway in GATEWAYS:
            await wait_until(lambda g=gateway: _not_renewed(site, g), 30, "cak-not-renewed")
        stuck = (await wait_agreed(site, "HYBRID"))["moon"]["saks"][0]["ki"]
        await site.lab.heal("moon", "isp")
        await wait_until(lambda: _sends_anew(site, stuck), 30, "a SAK of another CAK")
        directions = await evidence.stop_traffic(site.lab)
        assert {name: seen.lost for name, seen in directions.items() if seen.lost} == {}


async def _not_renewed(site: Site, gateway: Gateway) -> bool:
    alarms = (await site.snapshot(gateway))["alarms"]
    return any(alarm["id"] == "cak-not-renewed" for alarm in alarms)
