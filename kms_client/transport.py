"""HTTPS to one KME, whatever protocol is spoken over it: requests, limits, typed errors.

Nothing is ever sent twice: a lost answer costs the keys in it and nothing else. aiohttp would
send a GET again after a lost connection, without a word; ``_Once`` keeps it from that.

Received key bytes are overwritten in every buffer of ours once they are in a ``Secret``. What
is out of reach is told in docs/operations.md, "Secrets".
"""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec
from yarl import URL

from kms_client.errors import KmeError, KmeNonsenseError, KmeTlsError, TlsMaterialError, one_line
from kms_client.faults import http_fault, transport_fault
from kms_client.tls import ContextSource

MAX_BODY = 1 << 20  # octets; 128 keys of 4096 bits fit ten times over
KEEPALIVE = 4.0  # seconds; below the 5 s after which common servers close an idle connection
CONNECTIONS = 8  # at once to one KME
_Wire = TypeVar("_Wire")
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # no decompression, so the size cap means what it says
    "User-Agent": "qsgw",
}


class FaultOf(Protocol):
    """The error for an answer other than 200: (KME, resource, HTTP status, body)."""

    def __call__(self, kme: str, verb: str, status: int, body: bytearray, /) -> KmeError: ...


class HttpsTransport:
    """``timeout`` in seconds bounds a whole request; half of it bounds setting up the connection.

    Raises KmeError for a URL that is not https. TLS files that cannot be used are a KmeTlsError
    of each request, until they can. Belongs to one event loop: the first request opens the
    session there.
    """

    def __init__(
        self,
        *,
        name: str,
        url: str,
        tls: ContextSource,
        timeout: float,
        fault_of: FaultOf = http_fault,
    ) -> None:
        self.name = name
        self.url = _checked_url(name, url)
        self._tls = tls
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=timeout / 2)
        self._fault_of = fault_of
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def request(
        self, method: str, path: str, verb: str, body: bytes | None = None
    ) -> bytearray:
        """The body of a 200 answer. ``path`` is encoded and follows the URL as configured."""
        session = self._open_session()
        try:
            tls = self._tls.context()
        except TlsMaterialError as error:
            raise KmeTlsError(self.name, str(error)) from error
        headers = {"Content-Type": "application/json"} if body is not None else None
        url = URL(self.url + path, encoded=True)
        try:
            async with session.request(
                method,
                url,
                data=body,
                headers=headers,
                allow_redirects=False,
                ssl=tls,
                middlewares=(_Once(),),
            ) as response:
                if response.status != 200:
                    words = bytearray()
                    with suppress(KmeNonsenseError):  # the status code says enough
                        words = await self._read(response)
                    fault = self._fault_of(self.name, verb, response.status, words)
                    overwrite(words)
                    raise fault
                self._check_type(response)
                return await self._read(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise transport_fault(self.name, error, self._timeout.total or 0.0) from error

    async def close(self) -> None:
        """Drop the connections. The client cannot be used afterwards. Idempotent."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

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
            overwrite(body)
            raise
        overwrite(body)
        response.close()
        raise KmeNonsenseError(self.name, f"answer is larger than {MAX_BODY} octets")


class _Once:
    """Middleware of one request: what failed fails again, without being sent."""

    def __init__(self) -> None:
        self._failed: aiohttp.ClientError | None = None

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if self._failed is not None:
            raise self._failed
        try:
            return await handler(request)
        except aiohttp.ClientError as error:
            self._failed = error
            raise


def decoded(name: str, body: bytearray, kind: type[_Wire], standard: str) -> _Wire:
    """``body`` as ``kind``; wiped either way. No text of the body gets into the error.

    ``standard`` is what the error says the answer breaks.
    """
    wrong = ""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        wrong = str(error)  # names the place and the types, never the value
    except (UnicodeDecodeError, RecursionError):
        wrong = "not UTF-8 or nested too deep"
    finally:
        overwrite(body)
    # Raised here and not above, so that no exception with a piece of the body hangs on it.
    raise KmeNonsenseError(name, f"answer breaks {standard}: {one_line(wrong)}")


def overwrite(buffer: bytearray) -> None:
    buffer[:] = bytes(len(buffer))  # same size: in place


def _checked_url(name: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        valid = False
    if not valid or parts.query or parts.fragment or parts.username is not None:
        raise KmeError(name, "url must read https://HOST[:PORT][/PATH]")
    return url.rstrip("/")
