"""moon behind a NAT that the kernel of isp does: ESP in UDP, keepalives, mappings that change."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest

from netns_lab import evidence, pcap, proof
from netns_lab.nat import UDP_TIMEOUT, Nat
from netns_lab.readiness import wait_until
from netns_lab.site import Site
from netns_lab.site_files import GATEWAYS, NAT_OUTSIDE, SiteOptions, TunnelOptions

pytestmark = pytest.mark.lab

log = logging.getLogger(__name__)

# No rekey and no liveness check by the clock: what helps here is the path's own doing.
TUNNEL = TunnelOptions(rekey_min="1h", restore_dwell="1h", liveness="1h")
IDLE = 2 * UDP_TIMEOUT


def site_options(**changes: object) -> SiteOptions:
    return SiteOptions(moon=TUNNEL, sun=TUNNEL, mqtt=False, **changes)  # type: ignore[arg-type]


async def peer_port(site: Site) -> int:
    """Where sun believes moon to be."""
    address, _, port = (await site.tunnel("sun"))["ike"]["remote"].rpartition(":")
    assert address == NAT_OUTSIDE["moon"]
    return int(port)


async def encap_ports(site: Site, gateway: str) -> set[int]:
    """The UDP ports in this gateway's SAs, by iproute2."""
    text = (await site.lab.run(gateway, ["ip", "xfrm", "state", "list", "nokeys"])).check().stdout
    lines = [line.split() for line in text.splitlines() if "encap type espinudp" in line]
    return {int(words[words.index(kind) + 1]) for words in lines for kind in ("sport", "dport")}


async def rekey(site: Site, gateway: str) -> None:
    before = (await site.tunnel("moon"))["rekeys"]

    async def done() -> bool:
        if not await evidence.agreed_children(site, "HYBRID"):
            return False
        return bool((await site.tunnel("moon"))["rekeys"] > before)

    await site.act(gateway, "rekey")  # type: ignore[arg-type]
    await wait_until(done, 30, f"a rekey by {gateway}")


def sources(frames: list[pcap.Frame], what: str) -> set[str]:
    """Who sent packets of this kind, as they came to isp."""
    packets = (proof.ip_packet(one.data) for one in frames if proof.kind(one.data) == what)
    return {str(packet.source) for packet in packets if packet is not None}


def bare_esp(frames: list[pcap.Frame]) -> int:
    packets = (proof.ip_packet(frame.data) for frame in frames)
    return sum(1 for packet in packets if packet is not None and packet.protocol == 50)


async def test_behind_a_nat_that_changes_its_mappings(lab_name: str) -> None:
    async with Site.prepared(lab_name, site_options(nat=True)) as site:
        nat = Nat(site.lab)
        await nat.start()
        await evidence.start_capture(site.lab)
        await site.start()
        await site.wait_protection("HYBRID")
        assert (await site.tunnel("sun"))["ike"]["nat"]
        assert await peer_port(site) in nat.ports
        assert await encap_ports(site, "moon") == {4500}
        assert await encap_ports(site, "sun") == {4500, await peer_port(site)}
        before = await wait_until(
            lambda: evidence.agreed_children(site, "HYBRID"), 10, "the same SA at both ends"
        )

        # Another port in the middle of traffic: both ways recover, in the same SAs.
        await evidence.start_traffic(site.lab)
        assert await evidence.reachable(site.lab)
        await nat.flush()

        async def followed() -> bool:
            port = await peer_port(site)
            return port in nat.ports and await encap_ports(site, "sun") == {4500, port}

        await wait_until(followed, 20, "sun follows moon to its new port")
        assert await evidence.reachable(site.lab)
        after = await evidence.agreed_children(site, "HYBRID")
        assert after["sun"]["spi_in"] == before["sun"]["spi_in"]
        directions = await evidence.stop_traffic(site.lab)
        for name, seen in directions.items():
            outage = seen.lost_at[-1] - seen.lost_at[0] if seen.lost_at else 0.0
            log.info("%s: %d of %d lost, over %.2f s", name, seen.lost, seen.sent, outage)
            assert seen.received > 0

        # Then rekeys from either side lose nothing.
        await evidence.start_traffic(site.lab)
        for gateway in GATEWAYS:
            await rekey(site, gateway)
        directions = await evidence.stop_traffic(site.lab)
        assert all(seen.sent > 0 and seen.lost == 0 for seen in directions.values())

        # Idle for longer than the NAT remembers: keepalives keep the way from sun to moon open.
        port = await peer_port(site)
        await asyncio.sleep(IDLE)
        assert await evidence.reachable(site.lab, "bob", tries=1)
        assert await peer_port(site) == port

        frames = await evidence.stop_capture(site.lab)
        counts = proof.count_kinds(frames)
        assert counts["plaintext"] == 0
        assert counts["esp"] > 0
        assert bare_esp(frames) == 0
        assert sources(frames, "keepalive") == {"10.0.12.1"}
        for gateway in GATEWAYS:
            assert not (await site.snapshot(gateway))["drops"]


async def test_without_a_nat_neither_udp_nor_keepalives(lab_name: str) -> None:
    async with Site.prepared(lab_name, site_options()) as site:
        await evidence.start_capture(site.lab)
        await site.start()
        await site.wait_protection("HYBRID")
        assert not (await site.tunnel("sun"))["ike"]["nat"]
        assert await evidence.reachable(site.lab)
        for gateway in GATEWAYS:
            assert await encap_ports(site, gateway) == set()
        await asyncio.sleep(UDP_TIMEOUT)
        frames = await evidence.stop_capture(site.lab)
        counts = proof.count_kinds(frames)
        assert counts["esp"] == bare_esp(frames) > 0
        assert "keepalive" not in counts


async def test_encapsulation_by_force_at_one_end_is_enough(lab_name: str) -> None:
    forced = replace(TUNNEL, more={"force_encap": True, "port": 4500})
    async with Site.prepared(lab_name, SiteOptions(moon=forced, sun=TUNNEL, mqtt=False)) as site:
        await evidence.start_capture(site.lab)
        await site.start()
        await site.wait_protection("HYBRID")
        assert await evidence.reachable(site.lab)
        await rekey(site, "sun")
        assert await evidence.reachable(site.lab)
        for gateway in GATEWAYS:
            assert await encap_ports(site, gateway) == {4500}
        frames = await evidence.stop_capture(site.lab)
        counts = proof.count_kinds(frames)
        assert counts["esp"] > 0
        assert bare_esp(frames) == 0
        assert "keepalive" not in counts
