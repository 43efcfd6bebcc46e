"""Block policies and nothing else: for the time between boot and the daemon's first start."""

from __future__ import annotations

import logging
from pathlib import Path

from gateway.config.subnets import read_subnets
from gateway.dataplane.netlink.xfrm import XfrmDataPlane
from gateway.dataplane.port import DataPlane
from gateway.dataplane.reconcile import guard_policies
from gateway.errors import ConfigError

log = logging.getLogger("qsgw")


async def block_only(path: Path, dataplane: DataPlane | None = None) -> None:
    """Lay the block policies of every tunnel the file names. They stay; the daemon adopts them.

    Takes nothing away, so it does no harm while the daemon runs. Raises ConfigError where the
    subnets of a tunnel cannot be read, once those of the others are blocked, and StartupError
    or DataplaneError where the kernel refuses.
    """
    tunnels, problems = read_subnets(path)
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
    if problems:
        raise ConfigError(str(path), problems)
