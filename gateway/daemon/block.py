"""What blocks and nothing else: for the time between boot and the daemon's first start."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from gateway.config.macsec import LinkDevice
from gateway.config.subnets import read_links, read_subnets
from gateway.daemon.macsec.build import secy_spec
from gateway.dataplane.macsec_port import MacsecPlane
from gateway.dataplane.netlink.macsec import MacsecNetlink
from gateway.dataplane.netlink.xfrm import XfrmDataPlane
from gateway.dataplane.port import DataPlane
from gateway.dataplane.reconcile import guard_policies
from gateway.errors import ConfigError, DataplaneError
from gateway.model import PortSecurity

log = logging.getLogger("qsgw")


async def block_only(
    path: Path, dataplane: DataPlane | None = None, macsec: MacsecPlane | None = None
) -> None:
    """Lay the block policies of every tunnel the file names, make the device and the filter of
    every MACsec link that must be secure. They stay; the daemon adopts them.

    Takes nothing away, so it does no harm while the daemon runs. Raises ConfigError where the
    subnets of a tunnel or a link's device cannot be read, once those of the others are blocked,
    and StartupError or DataplaneError where the kernel refuses.
    """
    tunnels, problems = read_subnets(path)
    links, link_problems = read_links(path)
    ipv6 = any(one.version == 6 for each in tunnels for one in (*each.local, *each.remote))
    plane = dataplane or XfrmDataPlane(ipv6=ipv6)
    await plane.open()
    try:
        for each in tunnels:
            for policy in guard_policies(each.tunnel, each.local, each.remote):
                await plane.set_policy(policy)
    finally:
        await plane.close()
    log.info("block policies of %d tunnels are in the kernel", len(tunnels))
    secured = [link for link in links if link.security is PortSecurity.MUST_SECURE]
    if secured:
        await _block_links(secured, macsec or MacsecNetlink())
    problems += tuple(problem for problem in link_problems if problem not in problems)
    if problems:
        raise ConfigError(str(path), problems)


async def _block_links(links: Iterable[LinkDevice], plane: MacsecPlane) -> None:
    """What the kernel refuses of one link costs no other."""
    refused: list[DataplaneError] = []
    await plane.open()
    try:
        for link in links:
            try:
                await plane.parent(link.interface)
            except DataplaneError as error:  # the daemon waits for it, too
                log.warning("%s: nothing to block yet: %s", link.name, error)
                continue
            try:
                await _block_link(link, plane)
            except DataplaneError as error:
                log.error("%s: %s", link.name, error)
                refused.append(error)
    finally:
        await plane.close()
    if refused:
        raise refused[0]


async def _block_link(link: LinkDevice, plane: MacsecPlane) -> None:
    """A device that is there is left as a running daemon may have it, with another suite."""
    state = await plane.read(link.device)
    if state is None or not state.filtered:
        await plane.set_up(secy_spec(link))
    log.info("%s: %s lets nothing pass without a key", link.name, link.device)
