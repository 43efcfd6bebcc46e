"""Watches the MACsec link at both gateways while a scenario runs: SAKs, protection, alarms."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from netns_lab import control, metro
from netns_lab.errors import LabError
from netns_lab.macsec_evidence import disagreement_now, ki_octets
from netns_lab.site import Site
from netns_lab.site_files import Gateway
from netns_lab.watch import Change, Sample

_SAMPLE_SECONDS = 1.0
_KERNEL_SECONDS = 0.3

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SakUse:
    """A SAK that frames leave with from now on, as one gateway told it."""

    at: float  # monotonic seconds, when we heard of it
    told: float  # Unix seconds, the gateway's own time
    gateway: Gateway
    ki: str  # 32 hexadecimal digits
    an: int
    ckn: str
    protection: str  # of its CAK


class MacsecWatch:
    """What was seen of the link so far, in the order it was seen."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.saks: list[SakUse] = []
        self.changes: list[Change] = []
        self.samples: list[Sample] = []
        self.alarms: list[tuple[float, Gateway, str]] = []  # gateway's own Unix time, identifier
        self.key_ids: dict[str, str | None] = {}  # CKN -> QKD key in its CAK, as a gateway says
        self.in_kernels: set[str] = set()  # KIs that both kernels were seen to send with
        self.disagreed = ""  # why not, when last looked

    @asynccontextmanager
    async def gateway(self, gateway: Gateway) -> AsyncIterator[None]:
        """Watch one running gateway for as long as the context lasts."""
        async with _tasks(self._listen(gateway), self._sample(gateway)):
            yield

    @asynccontextmanager
    async def kernels(self) -> AsyncIterator[None]:
        """Look whether both kernels have each SAK that both gateways tell of."""
        async with _tasks(self._compare()):
            yield

    # --- what was seen --------------------------------------------------------------------

    def agreed(self, *, since: float = 0.0) -> list[SakUse]:
        """SAKs that both gateways began to use, as moon tells them. ``since``: monotonic."""
        sun = {(use.ki, use.an, use.protection) for use in self.saks if use.gateway == "sun"}
        return [
            use
            for use in self.saks
            if use.gateway == "moon" and use.at >= since and (use.ki, use.an, use.protection) in sun
        ]

    def sak_rollovers(self) -> int:
        return max(len(self.agreed()) - 1, 0)

    def cak_rollovers(self, protection: str | None = None, *, since: float = 0.0) -> list[SakUse]:
        """The first SAK of each CAK after the first, for CAKs of this protection."""
        seen: set[str] = set()
        found = []
        for use in self.agreed():
            if seen and use.ckn not in seen and use.at >= since:
                found.append(use)
            seen.add(use.ckn)
        return [use for use in found if protection in {None, use.protection}]

    def in_use(self, protection: str, *, since: float) -> dict[Gateway, SakUse]:
        """The first SAK of this protection that each gateway used after ``since``."""
        found: dict[Gateway, SakUse] = {}
        for use in self.saks:
            if use.protection == protection and use.at >= since:
                found.setdefault(use.gateway, use)
        return found

    def sequence(self, gateway: Gateway) -> list[str]:
        """The protections of the SAKs a gateway sent with, equal neighbours as one."""
        found: list[str] = []
        for use in self.saks:
            if use.gateway == gateway and found[-1:] != [use.protection]:
                found.append(use.protection)
        return found

    # --- how it is seen -------------------------------------------------------------------

    async def _listen(self, gateway: Gateway) -> None:
        async for event in control.events(self._site.control_socket(gateway)):
            self._take(gateway, time.monotonic(), event)

    def _take(self, gateway: Gateway, at: float, event: Json) -> None:
        fields = event["fields"]
        told = datetime.fromisoformat(event["time"]).timestamp()
        if event["type"] == "alarm-raised":
            self.alarms.append((told, gateway, fields["alarm"]))
        elif event["tunnel"] != metro.NAME:
            return
        elif event["type"] == "macsec-sak-in-use":
            self.saks.append(
                SakUse(
                    at=at,
                    told=told,
                    gateway=gateway,
                    ki=ki_octets(fields["ki"]),
                    an=fields["an"],
                    ckn=fields["ckn"],
                    protection=fields["protection"],
                )
            )

    async def _sample(self, gateway: Gateway) -> None:
        while True:
            with suppress(LabError):
                snapshot = await self._site.snapshot(gateway)
                link, keys = snapshot["macsec"][0], snapshot["tunnels"][0]["keys"]
                at = time.monotonic()
                shown = link["protection"]
                last = next((c for c in reversed(self.changes) if c.gateway == gateway), None)
                if last is None or last.protection != shown:
                    self.changes.append(Change(at=at, gateway=gateway, protection=shown))
                self.key_ids.update({cak["ckn"]: cak["key_id"] for cak in link["caks"]})
                self.samples.append(
                    Sample(
                        at=at,
                        gateway=gateway,
                        protection=shown,
                        pool=keys["pool"],
                        stored_at_kme=keys["stored_at_kme"],
                    )
                )
            await asyncio.sleep(_SAMPLE_SECONDS)

    async def _compare(self) -> None:
        while True:
            latest = self.agreed()[-1:]
            if latest and latest[0].ki not in self.in_kernels:
                try:
                    self.disagreed = await disagreement_now(self._site)
                except LabError as error:
                    self.disagreed = str(error)
                if not self.disagreed and self.agreed()[-1:] == latest:
                    self.in_kernels.add(latest[0].ki)
            await asyncio.sleep(_KERNEL_SECONDS)


@asynccontextmanager
async def _tasks(*jobs: Any) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
