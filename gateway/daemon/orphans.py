"""SAs that an earlier run of the daemon left in the kernel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from gateway.daemon.executor import KernelWork
from gateway.dataplane.port import DataPlane
from gateway.ike.limits import LINGER
from gateway.model import IpAddress, SaId


class Orphans:
    """Those of one tunnel: they carry its traffic until a new SA does.

    An SA that the kernel refuses to remove is nobody's from then on: the next audits remove it.
    """

    def __init__(
        self, dataplane: DataPlane, *, remote: IpAddress, kernel: Callable[[KernelWork], None]
    ) -> None:
        self.sa_ids: tuple[SaId, ...] = ()
        self._dataplane = dataplane
        self._remote = remote
        self._kernel = kernel

    def retire(self) -> None:
        """A new SA carries our traffic; the peer's may still arrive through an old one."""
        if self.sa_ids:
            self._kernel(self._drop_outbound)
            asyncio.get_running_loop().call_later(LINGER, self._kernel, self.drop)

    async def drop(self) -> None:
        """Remove them all. Part of the kernel executor's work."""
        orphans, self.sa_ids = self.sa_ids, ()
        await self._remove(orphans)

    async def _drop_outbound(self) -> None:
        outbound = [sa_id for sa_id in self.sa_ids if sa_id.destination == self._remote]
        self.sa_ids = tuple(sa_id for sa_id in self.sa_ids if sa_id not in outbound)
        await self._remove(outbound)

    async def _remove(self, sa_ids: Iterable[SaId]) -> None:
        for sa_id in sa_ids:
            await self._dataplane.remove_sa(sa_id)
