"""A memory data plane that takes its time, or gets stuck: daemons can die between two steps."""

from __future__ import annotations

import asyncio

from gateway.dataplane.memory import MemoryDataPlane
from gateway.model import IpAddress, PolicySpec, SaId, SaSpec

STEP = 0.002  # seconds a request takes


class SlowKernel(MemoryDataPlane):
    """Clear ``runs`` and no request is carried out until it is set again."""

    def __init__(self) -> None:
        super().__init__(now=asyncio.get_running_loop().time)
        self.runs = asyncio.Event()
        self.runs.set()

    async def _take_time(self) -> None:
        await asyncio.sleep(STEP)
        await self.runs.wait()

    async def allocate_spi(self, source: IpAddress, destination: IpAddress, reqid: int) -> int:
        await self._take_time()
        return await super().allocate_spi(source, destination, reqid)

    async def install_sa(self, sa: SaSpec) -> None:
        await self._take_time()
        await super().install_sa(sa)

    async def remove_sa(self, sa_id: SaId) -> None:
        await self._take_time()
        await super().remove_sa(sa_id)

    async def set_policy(self, policy: PolicySpec) -> None:
        await self._take_time()
        await super().set_policy(policy)

    async def remove_policy(self, policy: PolicySpec) -> None:
        await self._take_time()
        await super().remove_policy(policy)
