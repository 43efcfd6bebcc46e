"""One KME, spoken to as ETSI GS QKD 014 V1.1.1 has it: JSON over mutually authenticated TLS.

Keys are asked for with POST only: aiohttp silently sends a GET again when a kept-alive
connection breaks, and ``enc_keys`` consumes keys. Nothing here is ever sent twice; a lost
answer costs the keys in it and nothing else, because the next call asks for new ones.

Received key bytes are overwritten in every buffer of ours once they are in a ``Secret``. What
is out of reach is told in docs/operations.md, "Secrets".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import combinations
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec
from yarl import URL

from kms_client.errors import (
    KmeError,
    KmeNonsenseError,
    KmeTlsError,
    TlsMaterialError,
    one_line,
)
from kms_client.faults import http_fault, transport_fault
from kms_client.models import (
    KeyContainer,
    KeyIdMember,
    KeyIds,
    KeyRequest,
    QkdKey,
    Status,
    canonical_key_id,
)
from kms_client.secret import Secret
from kms_client.tls import ClientTls, TlsFiles

MAX_BODY = 1 << 20  # octets; 128 keys of 4096 bits fit ten times over
MAX_NUMBER = 128  # keys in one request, whatever the KME would allow
MIN_KEY_SIZE = 256  # bits; RFC 8784 5.1: a PPK needs 256 bits to be worth 128 after Grover
KEEPALIVE = 4.0  # seconds; below the 5 s after which common servers close an idle connection
CONNECTIONS = 8  # at once to one KME
_Wire = TypeVar("_Wire", Status, KeyContainer)
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # no decompression, so the size cap means what it says
    "User-Agent": "qsgw",
}


class KmeClient:
    """Asks one KME for keys. Every failure is a KmeError with the KME's name in it.

    ``timeout`` in seconds bounds a whole request; half of it bounds setting up the connection.
    Raises KmeError for a URL that is not https. TLS files that cannot be used are a KmeTlsError
    of each request, until they can.
    Belongs to one event loop: the first request opens the session there.
    """

    def __init__(self, *, name: str, url: str, tls: TlsFiles, timeout: float = 3.0) -> None:
        self.name = name
        self.url = _checked_url(name, url)
        self._tls = ClientTls(tls)
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=timeout / 2)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def status(self, peer_sae: str) -> Status:
        """How many keys the KME holds for us and ``peer_sae``, its limits, its link."""
        body = await self._request("GET", peer_sae, "status")
        return _decoded(self.name, body, Status)

    async def enc_keys(
        self,
        peer_sae: str,
        *,
        number: int = 1,
        size: int = 256,
        additional_slaves: Sequence[str] = (),
        extension_mandatory: Sequence[Mapping[str, Any]] = (),
        extension_optional: Sequence[Mapping[str, Any]] = (),
    ) -> tuple[QkdKey, ...]:
        """New keys of ``size`` bits as master SAE: at least one, at most ``number``.

        Fewer than asked for is what some KMEs answer when they run low; it is accepted.
        """
        if not 1 <= number <= MAX_NUMBER:
            raise ValueError(f"number of keys must be 1..{MAX_NUMBER}")
        if size % 8 or size < MIN_KEY_SIZE:
            raise ValueError(f"key size must be a multiple of 8 and at least {MIN_KEY_SIZE} bits")
        request = KeyRequest(
            number=number,
            size=size,
            additional_slave_SAE_IDs=tuple(additional_slaves),
            extension_mandatory=tuple(dict(item) for item in extension_mandatory),
            extension_optional=tuple(dict(item) for item in extension_optional),
        )
        body = await self._request("POST", peer_sae, "enc_keys", msgspec.json.encode(request))
        keys = self._keys(body)
        wrong = None
        if len(keys) > number:
            wrong = f"gave {len(keys)} keys where {number} were asked for"
        elif any(len(key.key) * 8 != size for key in keys):
            lengths = sorted({len(key.key) * 8 for key in keys})
            wrong = f"gave keys of {lengths} bits where {size} were asked for"
        if wrong is not None:
            _wipe(keys)
            raise KmeNonsenseError(self.name, wrong)
        return keys

    async def dec_keys(self, peer_sae: str, key_ids: Sequence[str]) -> tuple[QkdKey, ...]:
        """The keys that master SAE ``peer_sae`` named, all of them, in the order asked.

        Raises ValueError for a key_ID that is no UUID or comes twice.
        """
        wanted = [canonical_key_id(key_id) for key_id in key_ids]
        if not 1 <= len(wanted) <= MAX_NUMBER or len(set(wanted)) != len(wanted):
            raise ValueError(f"key_IDs must be 1..{MAX_NUMBER} different ones")
        request = KeyIds(key_IDs=tuple(KeyIdMember(key_ID=key_id) for key_id in wanted))
        body = await self._request("POST", peer_sae, "dec_keys", msgspec.json.encode(request))
        keys = self._keys(body)
        by_id = {key.key_id: key for key in keys}  # any order is allowed
        wrong = None
        if by_id.keys() - set(wanted):
            wrong = "gave a key that was not asked for"
        elif set(wanted) - by_id.keys():
            wrong = f"gave {len(keys)} of {len(wanted)} keys asked for by key_ID"
        elif any(len(key.key) * 8 < MIN_KEY_SIZE for key in keys):
            wrong = f"gave a key of less than {MIN_KEY_SIZE} bits"
        if wrong is not None:
            _wipe(keys)
            raise KmeNonsenseError(self.name, wrong)
        return tuple(by_id[key_id] for key_id in wanted)

    async def close(self) -> None:
        """Drop the connections. The client cannot be used afterwards. Idempotent."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # --- below: one request ------------------------------------------------------------------

    def _open_session(self) -> aiohttp.ClientSession:
        if self._closed:
            raise KmeError(self.name, "the client was closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=KEEPALIVE),
                timeout=self._timeout,
                headers=_HEADERS,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session

    async def _request(
        self, method: str, peer_sae: str, verb: str, body: bytes | None = None
    ) -> bytearray:
        """The body of a 200 answer. The path always names the other SAE."""
        session = self._open_session()
        try:
            tls = self._tls.context()
        except TlsMaterialError as error:
            raise KmeTlsError(self.name, str(error)) from error
        url = URL(f"{self.url}/api/v1/keys/{quote(peer_sae, safe='')}/{verb}", encoded=True)
        headers = {"Content-Type": "application/json"} if body is not None else None
        try:
            async with session.request(
                method, url, data=body, headers=headers, allow_redirects=False, ssl=tls
            ) as response:
                if response.status != 200:
                    words = bytearray()
                    with suppress(KmeNonsenseError):  # the status code says enough
                        words = await self._read(response)
                    fault = http_fault(self.name, verb, response.status, words)
                    _overwrite(words)
                    raise fault
                self._check_type(response)
                return await self._read(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise transport_fault(self.name, error, self._timeout.total or 0.0) from error

    def _check_type(self, response: aiohttp.ClientResponse) -> None:
        kind = response.content_type
        if "Content-Type" in response.headers and not kind.endswith(("/json", "+json")):
            raise KmeNonsenseError(self.name, "answer is not JSON by its Content-Type")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise KmeNonsenseError(self.name, "answer is compressed though we refused that")

    async def _read(self, response: aiohttp.ClientResponse) -> bytearray:
        """The body, at most MAX_BODY octets: a longer one is cut off while it streams in."""
        body = bytearray()
        try:
            if (response.content_length or 0) <= MAX_BODY:
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > MAX_BODY:
                        break
                else:
                    return body
        except BaseException:  # broken off, or we were cancelled: there may be keys in it
            _overwrite(body)
            raise
        _overwrite(body)
        response.close()
        raise KmeNonsenseError(self.name, f"answer is larger than {MAX_BODY} octets")

    def _keys(self, body: bytearray) -> tuple[QkdKey, ...]:
        """The keys of a container, checked as far as one container allows. Wipes ``body``."""
        container = _decoded(self.name, body, KeyContainer)
        keys: list[QkdKey] = []
        try:
            wrong = _container_fault(container)
            if wrong is not None:
                raise KmeNonsenseError(self.name, wrong)
            keys.extend(
                QkdKey(key_id=canonical_key_id(member.key_ID), key=Secret(member.key))
                for member in container.keys
            )
        finally:
            container.wipe()
        return tuple(keys)


def _checked_url(name: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        valid = False
    if not valid or parts.query or parts.fragment or parts.username is not None:
        raise KmeError(name, "url must read https://HOST[:PORT][/PATH]")
    return url.rstrip("/")


def _decoded(name: str, body: bytearray, kind: type[_Wire]) -> _Wire:
    """``body`` as ``kind``; wiped either way. No text of the body gets into the error."""
    wrong = ""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        wrong = str(error)  # names the place and the types, never the value
    except (UnicodeDecodeError, RecursionError):
        wrong = "not UTF-8 or nested too deep"
    finally:
        _overwrite(body)
    # Raised here and not above, so that no exception with a piece of the body hangs on it.
    raise KmeNonsenseError(name, f"answer breaks ETSI GS QKD 014: {one_line(wrong)}")


def _container_fault(container: KeyContainer) -> str | None:
    """What makes a key container unusable, or None."""
    try:
        ids = {canonical_key_id(member.key_ID) for member in container.keys}
    except ValueError:
        return "gave a key_ID that is not a UUID"
    if not container.keys:
        return "gave no key"
    if len(ids) != len(container.keys):
        return "gave the same key_ID twice"
    if any(not any(member.key) for member in container.keys):
        return "gave an all-zero or empty key"
    if any(first.key == second.key for first, second in combinations(container.keys, 2)):
        return "gave the same key under two key_IDs"
    return None


def _overwrite(buffer: bytearray) -> None:
    buffer[:] = bytes(len(buffer))  # same size: in place


def _wipe(keys: Sequence[QkdKey]) -> None:
    for key in keys:
        key.key.wipe()
