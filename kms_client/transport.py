"""HTTPS to one KME, whatever protocol is spoken over it: requests, limits, typed errors.

Nothing is ever sent twice: a lost answer costs the keys in it and nothing else. aiohttp would
send a GET again after a lost connection, without a word; ``SendOnce`` keeps it from that.

Received key bytes are overwritten in every buffer of ours once they are in a ``Secret``. What
is out of reach is told in docs/operations.md, "Secrets".
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec
from yarl import URL

from kms_client.errors import (
    KmeError,
    KmeNonsenseError,
    KmeTimeoutError,
    KmeTlsError,
    KmeUnavailableError,
    KmeUnreachableError,
    TlsMaterialError,
    one_line,
)
from kms_client.faults import http_fault, transport_fault
from kms_client.tls import ContextSource

MAX_BODY = 1 << 20  # octets; 128 keys of 4096 bits fit ten times over
KEEPALIVE = 4.0  # seconds; below the 5 s after which common servers close an idle connection
CONNECTIONS = 8  # at once to one KME
STREAMS = 32  # at once from one KME, as many as ours allows; beyond that polling must do
SILENCE = 40.0  # seconds without an octet after which a stream is dead; a heartbeat comes each 15 s
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
        self._streaming: aiohttp.ClientSession | None = None  # streams leave requests their room
        self._streams = 0
        self._closed = False

    async def request(
        self, method: str, path: str, verb: str, body: bytes | None = None
    ) -> bytearray:
        """The body of a 200 answer. ``path`` is encoded and follows the URL as configured."""
        self._session = self._session or self._open_session(CONNECTIONS)
        tls = self._context()
        headers = {"Content-Type": "application/json"} if body is not None else None
        url = URL(self.url + path, encoded=True)
        try:
            async with self._session.request(
                method,
                url,
                data=body,
                headers=headers,
                allow_redirects=False,
                ssl=tls,
                middlewares=(SendOnce(),),
            ) as response:
                if response.status != 200:
                    raise await self._refusal(response, verb)
                self._check_type(response)
                return await self._read(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise transport_fault(self.name, error, self._timeout.total or 0.0) from error

    async def stream(self, path: str, reference: str) -> AsyncGenerator[bytes]:
        """The octets of an event stream as they come; ends with a KmeError only.

        ``reference`` as the resource at ``path`` names it (RFC 3986 5). It must lead to the same
        server: our certificate is shown to no other.
        """
        url = self._resolve(path, reference)
        if self._streams >= STREAMS:
            raise KmeUnavailableError(self.name, f"{STREAMS} event streams of it are open")
        self._streaming = self._streaming or self._open_session(STREAMS)
        connect = self._timeout.sock_connect
        patience = aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=SILENCE)
        headers = {"Accept": "text/event-stream"}
        tls = self._context()
        self._streams += 1
        try:
            async with self._streaming.get(
                url, headers=headers, allow_redirects=False, ssl=tls, timeout=patience
            ) as response:
                if response.status != 200:
                    raise await self._refusal(response, "event stream")
                if response.content_type != "text/event-stream":
                    raise KmeNonsenseError(self.name, "its event stream is none")
                async for chunk in response.content.iter_any():
                    yield chunk
        except aiohttp.SocketTimeoutError as error:
            what = f"event stream was silent for {SILENCE:g} s"
            raise KmeTimeoutError(self.name, what) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise transport_fault(self.name, error, self._timeout.total or 0.0) from error
        finally:
            self._streams -= 1
        raise KmeUnreachableError(self.name, "ended its event stream")

    async def close(self) -> None:
        """Drop the connections. The client cannot be used afterwards. Idempotent."""
        self._closed = True
        sessions = (self._session, self._streaming)
        self._session = self._streaming = None
        for session in sessions:
            if session is not None:
                await session.close()

    def _open_session(self, connections: int) -> aiohttp.ClientSession:
        if self._closed:
            raise KmeError(self.name, "the client was closed")
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=KEEPALIVE),
            timeout=self._timeout,
            headers=_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    def _context(self) -> ssl.SSLContext:
        try:
            return self._tls.context()
        except TlsMaterialError as error:
            raise KmeTlsError(self.name, str(error)) from error

    def _resolve(self, path: str, reference: str) -> URL:
        base = URL(self.url + path, encoded=True)
        try:
            url = base.join(URL(reference, encoded=True))
            stays = url.origin() == base.origin()
        except ValueError:
            stays = False
        if not stays:
            raise KmeNonsenseError(self.name, "advertises an event stream at another address")
        return url

    async def _refusal(self, response: aiohttp.ClientResponse, verb: str) -> KmeError:
        words = bytearray()
        with suppress(KmeNonsenseError):  # the status code says enough
            words = await self._read(response)
        fault = self._fault_of(self.name, verb, response.status, words)
        overwrite(words)
        return fault

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


class SendOnce:
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
