"""Cisco SKIP beside ETSI 014 on the same listener: draft-cisco-skip-02, sections 4.1 to 4.3.

The draft puts one key provider beside each encryptor. Our KME has several SAEs: to each it is a
provider of its own, whose localSystemID is the SAE's ID and whose remotes are the SAE's peers.
A keyId is the key_ID without its hyphens: the same key can be had by either protocol.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import msgspec
from aiohttp import web

from qkd_adapters.errors import NotEnoughKeysError, UnknownKeyError
from qkd_adapters.kme.agent import LinkAgent
from qkd_adapters.kme.config import KmeSettings
from qkd_adapters.kme.etsi014 import RefusedError
from qkd_adapters.kme.faults import SLOW_ANSWER, Fault, FaultSwitches
from qkd_adapters.kme.identity import SaeDirectory
from qkd_adapters.kme.store import DeliveredKey
from qkd_adapters.link.messages import BLOCK_BITS, Direction
from qkd_adapters.logs import EventLog

ALGORITHM = "QKD (emulated)"  # 4.1: 16 octets must be supported by everybody
MAX_ENTROPY = 4096  # bits in one answer
_KEY_ID = re.compile(r"[0-9a-fA-F]{32}")  # 4.2.1: 128 bits by default
_DIGITS = re.compile(r"[0-9]{1,5}")
_log = EventLog("qsgw_kme.skip")
_Handler = Callable[[web.Request, str], Awaitable[web.StreamResponse]]
AwaitNotices = Callable[[Direction, tuple[str, ...]], Awaitable[None]]


class SkipResources:
    """The methods of Table 2. Only GET is routed: anything else is 405 by itself."""

    def __init__(
        self,
        settings: KmeSettings,
        agent: LinkAgent,
        faults: FaultSwitches,
        await_notices: AwaitNotices,
    ) -> None:
        self._settings = settings
        self._store = agent.store
        self._faults = faults
        self._await_notices = await_notices
        self._directory = SaeDirectory(settings.saes)

    def add_to(self, router: web.UrlDispatcher) -> None:
        for path, handler in (
            ("/capabilities", self._capabilities),
            ("/key", self._key),
            ("/key/{key_id}", self._key_by_id),
            ("/entropy", self._entropy),
        ):
            router.add_get(path, self._as(handler), allow_head=False)

    def _as(self, handler: _Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def run(request: web.Request) -> web.StreamResponse:
            caller = self._directory.identify(request.get_extra_info("peercert"))
            if caller is None:
                raise RefusedError(401, "the certificate is not that of an SAE of this KME")
            return await handler(request, caller)

        return run

    async def _capabilities(self, _: web.Request, caller: str) -> web.StreamResponse:
        """Section 4.1."""
        return _json(
            {
                "entropy": True,
                "key": True,
                "algorithm": ALGORITHM,
                "localSystemID": caller,
                "remoteSystemID": [
                    remote for local, remote in self._settings.pairs if local == caller
                ],
            }
        )

    async def _key(self, request: web.Request, caller: str) -> web.StreamResponse:
        """Section 4.2: a new key. Table 7 has no code for an empty store; 503 as in Table 9."""
        await self._fail_before()
        remote = self._remote(request, caller)
        size = _number(request, "size", BLOCK_BITS)
        limits = self._settings.keys
        if size % 8 or not limits.min_size <= size <= limits.max_size:
            raise RefusedError(400, "size is not one this key provider gives")
        try:
            keys = self._store.take(Direction(caller, remote), count=1, size=size)
        except NotEnoughKeysError as error:
            raise RefusedError(503, "not enough keys") from error
        _log.info("skip-key", master=caller, slave=remote, size=size)
        return self._deliver(request, keys)

    async def _key_by_id(self, request: web.Request, caller: str) -> web.StreamResponse:
        """Section 4.2: the key of a keyId, gone from here afterwards (4.2.2)."""
        await self._fail_before()
        if not _KEY_ID.fullmatch(request.match_info["key_id"]):
            raise RefusedError(400, "keyId shall be 32 hexadecimal digits")
        key_ids = (str(UUID(request.match_info["key_id"])),)
        direction = Direction(self._remote(request, caller), caller)
        await self._await_notices(direction, key_ids)
        try:
            keys = self._store.fetch(direction, key_ids)
        except UnknownKeyError as error:
            raise RefusedError(400, "the key was not found") from error
        _log.info("skip-key-by-id", master=direction.master, slave=caller)
        return self._deliver(request, keys)

    async def _entropy(self, request: web.Request, _: str) -> web.StreamResponse:
        """Section 4.3: from this machine's generator; nothing else ever sees it."""
        bits = _number(request, "minentropy", BLOCK_BITS)
        if bits % 8 or not 8 <= bits <= MAX_ENTROPY:
            raise RefusedError(400, "minentropy is not one this key provider gives")
        return _json({"randomStr": secrets.token_hex(bits // 8), "minentropy": bits})

    # --- inside ---

    def _remote(self, request: web.Request, caller: str) -> str:
        remote = request.query.get("remoteSystemID", "")
        if (caller, remote) not in self._settings.pairs:
            raise RefusedError(400, "no such remoteSystemID")
        return remote

    async def _fail_before(self) -> None:
        if self._faults.is_on(Fault.SLOW):
            await asyncio.sleep(SLOW_ANSWER)
        if self._faults.is_on(Fault.UNAVAILABLE):
            raise RefusedError(503, "the key provider is not available")

    def _deliver(self, request: web.Request, keys: tuple[DeliveredKey, ...]) -> web.Response:
        (given,) = keys
        answer = {"keyId": given.key_id.replace("-", ""), "key": given.key.expose().hex()}
        given.key.wipe()
        if self._faults.is_on(Fault.LOST_ANSWER):
            if request.transport is not None:
                request.transport.close()
            return web.Response()
        return _json(answer)


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not _DIGITS.fullmatch(text):
        raise RefusedError(400, f"{name} shall be an integer")
    return int(text)


def _json(answer: dict[str, Any]) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")
