"""Watches both gateways of a site while a scenario runs: their events, and samples of status."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from netns_lab import control
from netns_lab.errors import LabError
from netns_lab.site import Site
from netns_lab.site_files import Gateway, tunnel_name

SAMPLE_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSeen:
    """A Child SA that began to carry traffic, as one gateway told it."""

    at: float  # monotonic seconds, when we heard of it
    gateway: Gateway
    protection: str
    spi_in: str
    spi_out: str
    key_id: str | None
    rekey: bool
    role: str

    def mirrors(self, other: ChildSeen) -> bool:
        """Is this the other end of the same SA, keyed alike?"""
        return (self.spi_in, self.spi_out, self.key_id, self.protection) == (
            other.spi_out,
            other.spi_in,
            other.key_id,
            other.protection,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    at: float
    gateway: Gateway
    protection: str
    pool: int
    stored_at_kme: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The protection a gateway shows, from this moment on."""

    at: float
    gateway: Gateway
    protection: str


class Watch:
    """What was seen of one tunnel so far, in the order it was seen."""

    def __init__(self, site: Site, *, twin: bool = False) -> None:
        self._site = site
        self._twin = twin  # the tunnel of the twin KMEs
        self.children: list[ChildSeen] = []
        self.changes: list[Change] = []
        self.samples: list[Sample] = []

    @asynccontextmanager
    async def gateway(self, gateway: Gateway) -> AsyncIterator[None]:
        """Watch one running gateway for as long as the context lasts."""
        tasks = [
            asyncio.create_task(self._listen(gateway)),
            asyncio.create_task(self._sample(gateway)),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def rekeys(self, protection: str | None = None, *, since: float = 0.0) -> list[ChildSeen]:
        """Rekeys that both gateways have reported, as moon tells them."""
        sun = [child for child in self.children if child.gateway == "sun"]
        return [
            child
            for child in self.children
            if child.gateway == "moon"
            and child.rekey
            and child.at >= since
            and protection in {None, child.protection}
            and any(child.mirrors(other) for other in sun)
        ]

    def sequence(self, gateway: Gateway) -> list[str]:
        """The protections a gateway has shown, from the first one that carried traffic."""
        shown = [change.protection for change in self.changes if change.gateway == gateway]
        return shown[1:] if shown[:1] == ["DOWN"] else shown

    def changed_to(self, protection: str, *, since: float) -> dict[Gateway, float]:
        """When each gateway first showed ``protection`` after ``since``."""
        found: dict[Gateway, float] = {}
        for change in self.changes:
            if change.protection == protection and change.at >= since:
                found.setdefault(change.gateway, change.at)
        return found

    async def _listen(self, gateway: Gateway) -> None:
        async for event in control.events(self._site.control_socket(gateway)):
            self._take(gateway, time.monotonic(), event)

    def _take(self, gateway: Gateway, at: float, event: dict[str, Any]) -> None:
        fields = event["fields"]
        if event["tunnel"] != tunnel_name(gateway, twin=self._twin):
            return
        if event["type"] == "child-up":
            seen = {name: fields[name] for name in ChildSeen.__dataclass_fields__ if name in fields}
            self.children.append(ChildSeen(at=at, gateway=gateway, **seen))
        elif event["type"] == "protection":
            self.changes.append(Change(at=at, gateway=gateway, protection=fields["new"]))

    async def _sample(self, gateway: Gateway) -> None:
        while True:
            with suppress(LabError):
                tunnel = await self._site.tunnel(gateway, twin=self._twin)
                keys = tunnel["keys"] or {"pool": 0, "stored_at_kme": None}
                sample = Sample(
                    at=time.monotonic(),
                    gateway=gateway,
                    protection=tunnel["protection"],
                    pool=keys["pool"],
                    stored_at_kme=keys["stored_at_kme"],
                )
                self.samples.append(sample)
            await asyncio.sleep(SAMPLE_SECONDS)
