"""Brings QKD keys into a peer that speaks no ETSI 014: what its operator would have running.

The peer looks a PPK up by its PPK_ID the moment it is named, so the key must be there before.
Where our gateway is the initiator, its status tells which key_IDs it will use next, and those
are fetched as slave SAE. Where the peer is the initiator, a new key is fetched as master SAE
and the peer told to name it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from netns_lab.errors import LabError
from netns_lab.site import Site

POLL_SECONDS = 0.2

Give = Callable[[Mapping[str, bytes]], Awaitable[None]]


class KeyBridge:
    """Between sun's KME and the peer on sun."""

    def __init__(self, site: Site, give: Give) -> None:
        self._site = site
        self._give = give
        self._known: set[str] = set()

    async def fresh(self) -> str:
        """A new key, for the peer to name as initiator; its key_ID."""
        keys = await self._take()
        await self._give(keys)
        return next(iter(keys))

    async def follow(self) -> None:
        """Give the peer each key that moon is about to use; until cancelled."""
        while True:
            with suppress(LabError):  # moon is not up yet, or no more
                announced = await self._announced()
                # One the KME does not have yet, or no more, must not keep the others away.
                if announced and not await self._bring(announced):
                    for key_id in announced:
                        await self._bring([key_id])
            await asyncio.sleep(POLL_SECONDS)

    async def up_to_date(self) -> bool:
        """Has the peer every key that moon has ready, at least one?"""
        keys = (await self._site.tunnel("moon"))["keys"]
        return bool(keys and keys["key_ids"]) and self._known.issuperset(keys["key_ids"])

    async def _bring(self, key_ids: Sequence[str]) -> bool:
        """Give the peer these keys; False if the KME does not deliver them all."""
        try:
            keys = await self._take(*key_ids)
        except LabError:
            return False
        await self._give(keys)
        self._known.update(keys)
        return True

    async def _announced(self) -> list[str]:
        keys = (await self._site.tunnel("moon"))["keys"] or {"key_ids": ()}
        return [key_id for key_id in keys["key_ids"] if key_id not in self._known]

    async def _take(self, *key_ids: str) -> dict[str, bytes]:
        """Keys by key_ID, with the command an operator would use: ``qsgw-kme get``."""
        pki = self._site.folder("pki")
        command = [
            *("qsgw-kme", "get", "--url", self._site.kme("kme-sun").url, "--peer", "moon"),
            *("--ca", str(pki / "ca.pem"), "--certificate", str(pki / "sun.pem")),
            *("--key", str(pki / "sun.key"), "--out", str(self._site.folder("bridge"))),
            *key_ids,
        ]
        done = (await self._site.lab.run("sun", command)).check()
        taken = {}
        for line in done.stdout.split():
            file = Path(line)
            taken[file.name] = bytes.fromhex(file.read_text())
            file.unlink()
        return taken
