"""Two gateways in memory with a MACsec link between them, and frames sent over it all the time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Self

from gateway.daemon.macsec.link import MacsecLink
from gateway.daemon.views import Viewer
from gateway.dataplane.macsec_memory import MemoryMacsec
from gateway.model import MacsecView, Protection
from tests.support.memory_site import MemoryGateway, MemorySite

CHILDLESS = {"esp": (), "local_subnets": (), "remote_subnets": ()}
LINK = "metro"
DEVICE = f"macsec-{LINK}"


class MacsecSite(MemorySite):
    """``macsec``: settings of the link at both ends; the rest is the connection's."""

    def __init__(self, *, macsec: Mapping[str, object] | None = None, **options: object) -> None:
        links = {LINK: dict(macsec or {})}
        super().__init__(**{**CHILDLESS, "macsec": links, **options})  # type: ignore[arg-type]
        self.deaf: list[tuple[float, str]] = []  # when, and who did not hear the other
        self._listening: asyncio.Task[None] | None = None

    async def __aexit__(self, *details: object) -> None:
        if self._listening is not None:
            self._listening.cancel()
        await super().__aexit__(*details)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self

    async def until_links(self, protection: Protection, limit: float = 600.0) -> float:
        """Until both ends show it; returns the (virtual) seconds it took."""
        return await self.until(
            lambda: all(self.link_of(name).protection is protection for name in ("moon", "sun")),
            limit,
        )

    def link_of(self, name: str) -> MacsecLink:
        gateway: MemoryGateway = getattr(self, name)
        return gateway.links.links[LINK]

    def hears(self, name: str) -> bool:
        """Whether a frame that the other end sends now comes in here."""
        return _plane(self, name).hears(
            _plane(self, _other(name)), device=DEVICE, from_device=DEVICE
        )

    def start_frames(self, every: float = 0.01) -> None:
        """A frame each way every ``every`` seconds; who does not get one is noted in ``deaf``."""

        async def send_for_ever() -> None:
            while True:
                for name in ("moon", "sun"):
                    if not self.hears(name):
                        now = asyncio.get_running_loop().time()
                        self.deaf.append((round(now, 3), name))
                await asyncio.sleep(every)

        self._listening = asyncio.get_running_loop().create_task(send_for_ever())

    def shown(self, name: str) -> list[str]:
        """The sequence of protections that were shown of the link."""
        gateway: MemoryGateway = getattr(self, name)
        return [
            str(event.fields["new"])
            for event in gateway.seen
            if event.type == "protection" and event.tunnel == LINK
        ]

    def alarms(self, name: str) -> set[str]:
        gateway: MemoryGateway = getattr(self, name)
        return {alarm.id for alarm in gateway.bulletin.alarms if alarm.subject == LINK}

    async def view(self, name: str) -> MacsecView:
        gateway: MemoryGateway = getattr(self, name)
        (view,) = await gateway.links.views(Viewer(gateway.clock).wall)
        return view


def _plane(site: MacsecSite, name: str) -> MemoryMacsec:
    return site.lan.planes[name]


def _other(name: str) -> str:
    return "sun" if name == "moon" else "moon"
