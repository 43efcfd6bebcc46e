"""How KMEs one can buy or download differ from ETSI GS QKD 014, played by ours.

Unlike a fault, a quirk is a KME's way of working. Most of it is done around the handlers:
what comes in is checked or translated, what goes out rewritten. The handlers ask for the rest.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
from aiohttp import web

from kms_client.secret import Secret
from qkd_adapters.errors import ControlRequestError
from qkd_adapters.kme.etsi014 import EncRequest
from qkd_adapters.kme.quirk_names import Quirk
from qkd_adapters.kme.store import DeliveredKey, KeyStore
from qkd_adapters.link.messages import BLOCK_BITS, Direction

PREFIX = "/qkd"  # with the quirk path-prefix, everything is below it
RETENTION = 1.0  # seconds, with the quirk short-retention
MAX_REMEMBERED = 1024  # keys for repeatable reads

_HYPHENATED = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NOT_FOUND = b'"one or more keys specified are not found on KME"'
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Quirks:
    """The quirks of one KME, and what it must remember for them. ``saes``: all there are."""

    def __init__(self, saes: Iterable[str]) -> None:
        self._numbers = {sae: str(n) for n, sae in enumerate(sorted(set(saes)), start=1)}
        self._on: set[Quirk] = set()
        self._read: dict[tuple[Direction, str], Secret] = {}

    def is_on(self, quirk: Quirk) -> bool:
        return quirk in self._on

    def names(self) -> list[str]:
        return sorted(self._on)

    def command(self, words: Sequence[str]) -> list[str]:
        """``NAME on|off``; gives the names that are on. Raises ControlRequestError."""
        match list(words):
            case [name, "on" | "off" as switch] if name in set(Quirk):
                if switch == "on":
                    self._on.add(Quirk(name))
                else:
                    self._on.discard(Quirk(name))
                return self.names()
            case _:
                raise ControlRequestError(f"quirk {'|'.join(Quirk)} on|off")

    # --- around the handlers ---

    @web.middleware
    async def middleware(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        refusal = await self._refusal(request)
        if refusal is not None:
            return refusal
        response = await handler(request)
        if isinstance(response, web.Response) and isinstance(response.body, bytes):
            return self._rewritten(request, response)
        return response

    async def _refusal(self, request: web.Request) -> web.Response | None:
        """What the quirks find wrong with a request; SAE IDs are translated in passing."""
        resource = request.path.rpartition("/")[2]
        if resource not in ("status", "enc_keys", "dec_keys"):
            return None
        prefixed = request.path.startswith(f"{PREFIX}/")
        if prefixed is not self.is_on(Quirk.PATH_PREFIX):
            return _error(404, "Not Found")
        if resource == "status" and self.is_on(Quirk.NO_STATUS):
            return _error(404, "Not Found")
        if resource != "status" and (
            (request.method == "POST" and self.is_on(Quirk.GET_ONLY))
            or (request.method == "GET" and self.is_on(Quirk.POST_ONLY))
        ):
            return _error(405, "Method Not Allowed")
        if self.is_on(Quirk.INTEGER_SAE_IDS) and "sae" in request.match_info:
            names = {number: sae for sae, number in self._numbers.items()}
            sae = names.get(request.match_info["sae"])
            if sae is None:
                return _error(400, "Bad request")
            request.match_info["sae"] = sae
        if resource == "dec_keys":
            return await self._misspelt(request)
        return None

    async def _misspelt(self, request: web.Request) -> web.Response | None:
        text = (await request.read()).decode("latin-1") + request.query_string
        unknown = (self.is_on(Quirk.HEX_KEY_IDS) and _HYPHENATED.search(text)) or (
            self.is_on(Quirk.UPPER_KEY_IDS)
            and any(found != found.upper() for found in _HYPHENATED.findall(text))
        )
        return _error(400, "one or more keys specified are not found on KME") if unknown else None

    def _rewritten(self, request: web.Request, response: web.Response) -> web.Response:
        resource = request.path.rpartition("/")[2]
        body = response.body if isinstance(response.body, bytes) else b""
        if self.is_on(Quirk.ODD_STATUS) and (
            (response.status == 503 and resource == "enc_keys")
            or (response.status == 400 and _NOT_FOUND in body)
        ):
            return web.Response(status=404, text="Element not found")
        if self.is_on(Quirk.INTEGER_SAE_IDS) and resource == "status" and response.status == 200:
            status = msgspec.json.decode(body)
            for member in ("master_SAE_ID", "slave_SAE_ID"):
                status[member] = int(self._numbers[status[member]])
            response.body = msgspec.json.encode(status)
        return response

    # --- what the handlers ask ---

    def wanted(self, request: EncRequest) -> EncRequest:
        if self.is_on(Quirk.IGNORES_SIZE):
            request = replace(request, size=BLOCK_BITS)
        if self.is_on(Quirk.FEWER_KEYS):
            request = replace(request, number=1)
        return request

    def forget(self, store: KeyStore, direction: Direction) -> None:
        """Before the slave's keys are looked up."""
        if self.is_on(Quirk.SHORT_RETENTION):
            store.forget_awaiting(direction, older_than=RETENTION)
        if self.is_on(Quirk.ONE_OUTSTANDING):
            store.forget_awaiting(direction, all_but=1)

    def read_before(
        self, direction: Direction, key_ids: Sequence[str]
    ) -> tuple[DeliveredKey, ...] | None:
        """The keys again; None unless all of them were read before."""
        if not self.is_on(Quirk.REPEATABLE_READS):
            return None
        kept = [self._read.get((direction, key_id)) for key_id in key_ids]
        return (
            None
            if None in kept
            else tuple(
                DeliveredKey(key_id=key_id, key=Secret(key.expose()))
                for key_id, key in zip(key_ids, kept, strict=True)
                if key is not None
            )
        )

    def remember(self, direction: Direction, keys: Iterable[DeliveredKey]) -> None:
        if self.is_on(Quirk.REPEATABLE_READS):
            for each in keys:
                self._read[direction, each.key_id] = Secret(each.key.expose())
                if len(self._read) > MAX_REMEMBERED:
                    self._read.pop(next(iter(self._read))).wipe()

    def dress(self, answer: dict[str, Any]) -> None:
        """Change how a key container is written."""
        for entry in answer["keys"]:
            if self.is_on(Quirk.URL_BASE64):
                entry["key"] = entry["key"].translate(str.maketrans("+/", "-_")).rstrip("=")
            if self.is_on(Quirk.HEX_KEY_IDS):
                entry["key_ID"] = entry["key_ID"].replace("-", "")
            if self.is_on(Quirk.UPPER_KEY_IDS):
                entry["key_ID"] = entry["key_ID"].upper()


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"message": message}, status=status)
