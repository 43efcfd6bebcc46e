"""Requests of the probe: anything may come back, and no key bytes are kept of it.

Of a key only its length and a digest under a key of this run stay: enough to see whether two
ends were given the same one.
"""

from __future__ import annotations

import asyncio
import binascii
import hmac
import json
import re
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import aiohttp
from yarl import URL

from kms_client.faults import transport_fault
from kms_client.transport import MAX_BODY, SendOnce

_RUN = secrets.token_bytes(32)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_HEX = re.compile(r"[0-9a-fA-F]{32}")


class IdForm(StrEnum):
    UUID = "UUID, lower case"
    UPPER = "UUID, upper case"
    HEX = "32 hexadecimal digits"
    OTHER = "no UUID"


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenKey:
    key_id: str  # as written
    form: IdForm
    bits: int | None  # None: not base64 at all
    standard_base64: bool
    digest: bytes
    zero: bool

    @property
    def canonical(self) -> str:
        return self.key_id.replace("-", "").lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer. ``status`` None: there was none, and ``problem`` says why."""

    status: int | None = None
    problem: str = ""
    content_type: str = ""
    json: Mapping[str, Any] | None = None  # without the keys of a container
    keys: tuple[GivenKey, ...] = ()

    @property
    def message(self) -> str | None:
        """Of an Error (6.5)."""
        message = self.json.get("message") if self.json is not None else None
        return message if isinstance(message, str) else None

    @property
    def words(self) -> str:
        """For the table."""
        if self.status is None:
            return self.problem
        return f"{self.status}" if self.message is None else f'{self.status} "{self.message[:60]}"'


class Wire:
    """One KME's interface. ``timeout`` in seconds for each request."""

    def __init__(self, url: str, context: ssl.SSLContext, *, timeout: float) -> None:
        self.url = url.rstrip("/")
        self._context = context
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, method: str, path: str, body: bytes | None = None) -> Reply:
        """``path`` is encoded. Every request has a connection of its own."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True),
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        headers = {"Content-Type": "application/json"} if body is not None else None
        try:
            async with self._session.request(
                method,
                URL(self.url + path, encoded=True),
                data=body,
                headers=headers,
                allow_redirects=False,
                ssl=self._context,
                middlewares=(SendOnce(),),
            ) as response:
                raw = await response.content.read(MAX_BODY)
                parsed, keys = _parsed(raw)
                return Reply(
                    status=response.status,
                    content_type=response.content_type,
                    json=parsed,
                    keys=keys,
                )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Reply(problem=transport_fault(self.url, error, self._timeout).what)

    async def tls_version(self) -> str:
        """What is agreed on; empty where no connection comes about."""
        parts = URL(self.url)
        try:
            async with asyncio.timeout(self._timeout):
                _, writer = await asyncio.open_connection(parts.host, parts.port, ssl=self._context)
        except (OSError, TimeoutError):
            return ""
        tls = writer.get_extra_info("ssl_object")
        writer.close()
        return str(tls.version())

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _parsed(raw: bytes) -> tuple[Mapping[str, Any] | None, tuple[GivenKey, ...]]:
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        return None, ()
    if not isinstance(answer, dict):
        return None, ()
    entries = answer.pop("keys", None)
    if not isinstance(entries, list):
        return answer, ()
    return answer, tuple(_given(entry) for entry in entries if isinstance(entry, dict))


def _given(entry: Mapping[str, Any]) -> GivenKey:
    key_id, text = str(entry.get("key_ID", "")), str(entry.get("key", ""))
    octets, standard = _octets(text)
    return GivenKey(
        key_id=key_id,
        form=_form(key_id),
        bits=None if octets is None else 8 * len(octets),
        standard_base64=standard,
        digest=hmac.digest(_RUN, octets or b"", "sha256"),
        zero=not any(octets or b""),
    )


def _octets(text: str) -> tuple[bytes | None, bool]:
    """The octets, and whether they stood there as RFC 4648 4 has it."""
    try:
        return binascii.a2b_base64(text, strict_mode=True), True
    except ValueError:
        pass
    plain = re.sub(r"\s", "", text).translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        return binascii.a2b_base64(plain + "=" * (-len(plain) % 4), strict_mode=True), False
    except ValueError:
        return None, False


def _form(key_id: str) -> IdForm:
    if _UUID.fullmatch(key_id):
        return IdForm.UUID
    if _UUID.fullmatch(key_id.lower()):
        return IdForm.UPPER
    return IdForm.HEX if _HEX.fullmatch(key_id) else IdForm.OTHER
