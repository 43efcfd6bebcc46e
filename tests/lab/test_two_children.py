"""Two tunnels with policies of their own over one IKE SA: one wants QKD, the other prefers it.

IPv4 between alice and bob is the tunnel that prefers, IPv6 the one that requires.
"""

from __future__ import annotations

from typing import Any

import pytest

from netns_lab import evidence, proof
from netns_lab.readiness import wait_until
from netns_lab.site import Site
from netns_lab.site_files import Gateway, SiteOptions, TunnelOptions

pytestmark = pytest.mark.lab

SIXES = {"moon": "fd01::/64", "sun": "fd02::/64"}
BOB_4, BOB_6 = "10.2.0.10", "fd02::10"


def options() -> SiteOptions:
    return SiteOptions(
        moon=_tunnels("moon", "sun", "initiate"),
        sun=_tunnels("sun", "moon", "respond"),
        key_rate=4.0,
        key_store=2,
        mqtt=False,
    )


def _tunnels(ours: Gateway, theirs: Gateway, start: str) -> TunnelOptions:
    timing = {"rekey_min": "2s", "rekey_max": "5s", "restore_dwell": "1s"}
    scada = {
        "local_subnets": (SIXES[ours],),
        "remote_subnets": (SIXES[theirs],),
        "start": start,
        "qkd": "require",
        "pool_target": 2,
        "key_reserve": 0,
        **timing,
    }
    return TunnelOptions(pool_target=2, key_reserve=0, beside={"scada": scada}, **timing)


async def test_one_blocks_and_the_other_falls_back(lab_name: str) -> None:
    async with Site.up(lab_name, options()) as site:
        await evidence.start_capture(site.lab)
        await _wait(site, "HYBRID", "HYBRID")
        for gateway in ("moon", "sun"):
            prefers, requires = await _both(site, gateway)
            assert requires["connection"] == prefers["name"]
            assert prefers["ike"]["spi_i"] == requires["ike"]["spi_i"]
            keys = {_carrying(prefers)["key_id"], _carrying(requires)["key_id"]}
            assert len(keys) == 2
            assert None not in keys
        assert await _reaches(site, BOB_4)
        assert await _reaches(site, BOB_6)

        await site.link("cut")
        await _wait(site, "PQC_ONLY", "BLOCKED")
        assert await _reaches(site, BOB_4)
        assert not await _reaches(site, BOB_6)
        for gateway in ("moon", "sun"):
            await wait_until(
                lambda g=gateway: _kernel_agrees(site, g), 20, f"no other SA in {gateway}'s kernel"
            )
        sides = [(await _both(site, gateway))[0]["ike"] for gateway in ("moon", "sun")]
        assert len({ike["spi_i"] for ike in sides}) == 1

        await site.link("heal")
        await _wait(site, "HYBRID", "HYBRID")
        assert await _reaches(site, BOB_4)
        assert await _reaches(site, BOB_6)
        counts = proof.count_kinds(await evidence.stop_capture(site.lab))
        assert counts["plaintext"] == 0
        assert counts["esp"] > 0


async def _both(site: Site, gateway: Gateway) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tunnel that prefers QKD, and the one that requires it."""
    tunnels = (await site.snapshot(gateway))["tunnels"]
    first = next(one for one in tunnels if one["name"] != "scada")
    return first, next(one for one in tunnels if one["name"] == "scada")


async def _wait(site: Site, prefers: str, requires: str) -> None:
    """The responder of a blocked tunnel may be DOWN as well: nobody sets it up."""
    wanted = ({prefers}, {requires, "DOWN"} if requires == "BLOCKED" else {requires})

    async def reached() -> bool:
        for gateway in ("moon", "sun"):
            for tunnel, words in zip(await _both(site, gateway), wanted, strict=True):
                if tunnel["protection"] not in words:
                    return False
        return True

    await wait_until(reached, 60, f"{prefers} and {requires}", interval=0.2)


async def _kernel_agrees(site: Site, gateway: Gateway) -> bool:
    """The SAs there are those of the tunnel that goes on, replaced ones included."""
    prefers, requires = await _both(site, gateway)
    if requires["children"]:
        return False
    known = {child[key] for child in prefers["children"] for key in ("spi_in", "spi_out")}
    return await evidence.esp_sas(site, gateway) <= known


async def _reaches(site: Site, address: str) -> bool:
    done = await site.lab.run("alice", ["ping", "-c", "1", "-W", "2", address])
    return bool(done.code == 0)


def _carrying(tunnel: dict[str, Any]) -> dict[str, Any]:
    return next(child for child in tunnel["children"] if child["carries_outbound"])
