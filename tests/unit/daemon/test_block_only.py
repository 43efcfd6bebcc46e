"""``qsgwd --block-only``: what it needs, what it leaves, and that the daemon takes it as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.daemon.block import block_only
from gateway.dataplane.macsec_memory import MemoryMacsec
from gateway.dataplane.memory import Fate, MemoryDataPlane
from gateway.dataplane.reconcile import plan
from gateway.errors import ConfigError
from gateway.model import PolicyAction, PortState
from tests.support.memory_site import ALICE, BOB, MemorySite
from tests.support.site_config import MOON
from tests.support.site_config import SUN as SUN_ADDR
from tests.support.virtual_loop import run_virtually

SUN = """
[tunnel.sun]
local_subnets = ["10.1.0.0/24"]
remote_subnets = ["10.2.0.0/24"]
psk = "credential:not.there"
"""


async def test_needs_only_the_subnets_and_blocks_both_ways(tmp_path: Path) -> None:
    plane, file = MemoryDataPlane(), tmp_path / "qsgw.toml"
    file.write_text(SUN)
    assert plane.transmit(ALICE, BOB).fate is Fate.CLEAR
    await block_only(file, plane)
    assert plane.transmit(ALICE, BOB).fate is Fate.DROPPED
    await plane.open()
    policies = (await plane.snapshot()).policies
    assert {policy.action for policy in policies} == {PolicyAction.BLOCK}
    assert len(policies) == 3


async def test_what_is_wrong_with_one_tunnel_is_told_and_costs_no_other(tmp_path: Path) -> None:
    plane, file = MemoryDataPlane(), tmp_path / "qsgw.toml"
    file.write_text(SUN + '[tunnel.mars]\nlocal_subnets = ["10.9.0.1/8"]\nremote_subnets = []\n')
    with pytest.raises(ConfigError) as caught:
        await block_only(file, plane)
    assert "[tunnel.mars] local_subnets" in str(caught.value)
    assert "[tunnel.mars] remote_subnets" in str(caught.value)
    assert plane.transmit(ALICE, BOB).fate is Fate.DROPPED


async def test_in_transport_mode_the_ends_are_what_is_blocked(tmp_path: Path) -> None:
    plane, file = MemoryDataPlane(), tmp_path / "qsgw.toml"
    file.write_text(f'[tunnel.sun]\nmode = "transport"\nlocal = "{MOON}"\nremote = "{SUN_ADDR}"\n')
    await block_only(file, plane)
    assert plane.transmit(MOON, SUN_ADDR).fate is Fate.DROPPED
    assert plane.transmit(ALICE, BOB).fate is Fate.CLEAR


@pytest.mark.parametrize("text", ["", "[tunnel", "tunnel = 3"])
async def test_an_unreadable_file_is_an_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "qsgw.toml"
    file.write_text(text)
    with pytest.raises(ConfigError):
        await block_only(file, MemoryDataPlane())


def test_the_daemon_takes_the_policies_over_as_they_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        file = tmp_path / "qsgw.toml"
        file.write_text(SUN)
        site = MemorySite()
        plane = site.moon.dataplane
        await block_only(file, plane)
        await plane.open()
        before = (await plane.snapshot()).policies
        site.start_traffic(every=0.001)
        async with site:
            changes = plan(site.moon.tunnel.policies.desired, await plane.snapshot())
            assert set(before) <= set((await plane.snapshot()).policies)
            assert changes.to_remove == ()
            await site.until(lambda: site.moon.tunnel.carrying() is not None, 30)
            assert site.leaked == 0

    run_virtually(scenario())


LINK = """
[macsec.core]
interface = "eth1"
connection = "not there"
cak = "credential:nor.this"
"""


async def test_a_macsec_link_has_a_device_and_a_filter_and_nothing_passes(tmp_path: Path) -> None:
    file, kernel = tmp_path / "qsgw.toml", MemoryMacsec()
    file.write_text(LINK)
    kernel.add_parent("eth1", bytes(range(6)))
    await block_only(file, MemoryDataPlane(), kernel)
    assert kernel.filters == {"eth1"}
    await kernel.open()
    state = await kernel.read("macsec-core")
    assert state is not None
    assert state.port is PortState.BLOCKED
    assert kernel.send("macsec-core") is None


async def test_links_that_cannot_be_blocked_cost_no_other(tmp_path: Path) -> None:
    file, kernel = tmp_path / "qsgw.toml", MemoryMacsec()
    other = LINK.replace("core", "edge").replace("eth1", "eth2")
    file.write_text(LINK + other + '[macsec.wrong]\ninterface = 3\nconnection = "sun"\n')
    kernel.add_parent("eth2", bytes(range(6)))
    with pytest.raises(ConfigError, match=r"macsec\.wrong"):
        await block_only(file, MemoryDataPlane(), kernel)
    assert kernel.filters == {"eth2"}


async def test_a_link_that_is_not_to_be_secure_is_left_alone(tmp_path: Path) -> None:
    file, kernel = tmp_path / "qsgw.toml", MemoryMacsec()
    file.write_text(LINK + 'security = "should-secure"\n')
    kernel.add_parent("eth1", bytes(range(6)))
    await block_only(file, MemoryDataPlane(), kernel)
    assert (kernel.only_device(), kernel.filters) == ("", set())
