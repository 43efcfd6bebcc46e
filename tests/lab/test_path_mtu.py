"""A path narrower than our links: large packets are told about or fragmented, never lost for good.

The kernel copies the inner DF bit to the outer packet (``xfrm_state`` without NOPMTUDISC), takes
in the router's "fragmentation needed", and passes it on with ESP's share taken off.
"""

from __future__ import annotations

import re

import pytest

from netns_lab import evidence
from netns_lab.site import Site
from netns_lab.site_files import SiteOptions, TunnelOptions

pytestmark = pytest.mark.lab

TUNNEL = TunnelOptions(
    qkd="off", rekey_max="1h", ike=("aes256gcm16-prfsha512-x25519-ke1_mlkem1024",)
)
OPTIONS = SiteOptions(moon=TUNNEL, sun=TUNNEL, mqtt=False)

ICMP = 28  # octets of the IPv4 and ICMP headers
BOB = "10.2.0.10"


async def ping(site: Site, size: int, *, df: bool, count: int = 5) -> tuple[int, str]:
    """Answers to inner packets of ``size`` octets, and what ping said."""
    command = ["ping", "-M", "do" if df else "dont", "-s", str(size - ICMP), "-c", str(count)]
    done = await site.lab.run("alice", [*command, "-i", "0.3", "-W", "1", BOB])
    received = re.search(r"(\d+) received", done.stdout)
    return int(received[1]) if received else 0, done.stdout + done.stderr


@pytest.mark.parametrize("mtu", [1400, 1280])
async def test_a_narrow_path(lab_name: str, mtu: int) -> None:
    async with Site.prepared(lab_name, OPTIONS) as site:
        for host, interface in (("isp", "sun"), ("sun", "isp")):
            narrow = ["ip", "link", "set", interface, "mtu", str(mtu)]
            (await site.lab.run(host, narrow)).check()
        await site.start()
        # IKE messages with ML-KEM-1024 come through: fragments of 1280 octets (RFC 7383)
        await site.wait_protection("PQC_ONLY")
        assert await evidence.agreed_children(site, "PQC_ONLY")

        received, said = await ping(site, 1500, df=True)
        assert received == 0
        first = re.search(r"mtu ?= ?(\d+)", said)
        assert first, f"alice is told at once that ESP takes room: {said}"
        assert int(first[1]) == 1446

        received, said = await ping(site, 1446, df=True)
        told = re.findall(r"mtu ?= ?(\d+)", said)
        assert told, f"alice is told of the narrow path: {said}"
        fits = int(told[-1])
        assert mtu - 64 <= fits <= mtu - 52, "what is left of the path by ESP"
        received, said = await ping(site, fits, df=True)
        assert received == 5, said

        for size in (1500, 3000):
            received, said = await ping(site, size, df=False)
            assert received == 5, f"without DF it is fragmented: {said}"


async def test_a_path_that_swallows_what_is_large(lab_name: str) -> None:
    """Nobody is told (no ICMP at all): IKE finds the size by itself, RFC 7383 2.5.2."""
    async with Site.prepared(lab_name, OPTIONS) as site:
        for interface in ("moon", "sun"):  # of isp: a veth drops what its own MTU does not take
            narrow = ["ip", "link", "set", interface, "mtu", "1000"]
            (await site.lab.run("isp", narrow)).check()
        for size, answers in ((900, True), (1200, False)):
            probe = ["ping", "-M", "do", "-s", str(size - ICMP), "-c", "2", "-W", "1", "10.0.12.2"]
            done = await site.lab.run("moon", probe)
            assert (" 0 received" not in done.stdout) is answers, done.stdout
            assert "mtu" not in done.stdout + done.stderr
        await site.start()
        await site.wait_protection("PQC_ONLY")
        assert await evidence.agreed_children(site, "PQC_ONLY")
        received, said = await ping(site, 900, df=True)
        assert received == 5, said
