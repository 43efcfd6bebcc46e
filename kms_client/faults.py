"""Turns what can go wrong in a request to a KME into one typed error and one clear line."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from http import HTTPStatus

import aiohttp
import msgspec

from kms_client.errors import (
    KmeEmptyError,
    KmeError,
    KmeNonsenseError,
    KmeRefusedError,
    KmeTimeoutError,
    KmeTlsError,
    KmeUnauthorizedError,
    KmeUnavailableError,
    KmeUnreachableError,
    one_line,
)

# OpenSSL's names for the alerts a server sends about a client certificate (RFC 8446 6.2).
_CERTIFICATE_ALERTS = (
    "BAD_CERTIFICATE",
    "CERTIFICATE_REQUIRED",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_UNKNOWN",
    "UNSUPPORTED_CERTIFICATE",
    "UNKNOWN_CA",
    "ACCESS_DENIED",
)
# OpenSSL's names for a first record that is not TLS.
_NOT_TLS = (
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "PACKET_LENGTH_TOO_LONG",
    "RECORD_LAYER_FAILURE",
)

# Some servers send no alert, and in TLS 1.3 the handshake is over for us before they look.
_MAYBE = "(some KMEs refuse a client certificate this way)"


def http_fault(kme: str, verb: str, status: int, body: bytearray) -> KmeError:
    """The error for an answer other than 200 (ETSI GS QKD 014)."""
    words = error_words(body)
    phrase = f"HTTP {status}" + (f" {_phrase(status)}" if _phrase(status) else "")
    said = f"{verb} answered with {phrase}" + (f": {words}" if words else "")
    match status:
        case 401 | 403:
            return KmeUnauthorizedError(kme, said)
        case 503 if words is not None:
            return KmeEmptyError(kme, said)
        case 408 | 429:  # asks us to come back later
            return KmeUnavailableError(kme, said)
        case _ if 400 <= status < 500:
            return KmeRefusedError(kme, said, details=words or "")
        case _ if 500 <= status < 600:
            return KmeUnavailableError(kme, said)
        case _ if 300 <= status < 400:
            return KmeNonsenseError(kme, f"{verb} answered with a redirect ({phrase})")
        case _:
            return KmeNonsenseError(kme, said)


def error_words(body: bytearray) -> str | None:
    """Message and details of an ETSI error body, fit for a log; None when it is not one.

    Only these two members are ever quoted: whatever else an answer holds stays out of logs.
    """
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(answer, Mapping) or not isinstance(answer.get("message"), str):
        return None
    parts = [answer["message"]]
    details = answer.get("details")
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, Mapping):
            parts += [f"{name}: {text}" for name, text in detail.items() if isinstance(text, str)]
        elif isinstance(detail, str):
            parts.append(detail)
    return one_line("; ".join(part for part in parts if part))


def transport_fault(kme: str, error: BaseException, timeout: float) -> KmeError:
    """The error for a request that got no complete answer. ``timeout`` is in seconds."""
    tls = _tls_error(error)
    if tls is not None:
        return KmeTlsError(kme, _tls_words(tls))
    match error:
        case aiohttp.ConnectionTimeoutError():
            return KmeUnreachableError(kme, f"no connection within {timeout / 2:g} s")
        case TimeoutError():
            return KmeTimeoutError(kme, f"no complete answer within {timeout:g} s")
        case aiohttp.ClientConnectorDNSError():
            return KmeUnreachableError(kme, f"host name {one_line(error.host)} does not resolve")
        case aiohttp.ClientConnectorError(os_error=ConnectionResetError()):
            return KmeTlsError(kme, f"closed the connection during the TLS handshake {_MAYBE}")
        case aiohttp.ClientConnectorError():
            where = f"{error.host}:{error.port}"
            number = error.os_error.errno  # asyncio's own text repeats the address
            reason = os.strerror(number) if number else "no address of it accepts a connection"
            return KmeUnreachableError(kme, f"cannot connect to {where}: {reason}")
        case aiohttp.ClientPayloadError():
            return KmeUnreachableError(kme, "connection was lost in the middle of the answer")
        case aiohttp.ClientConnectionError() | OSError():
            return KmeUnreachableError(kme, f"closed the connection without an answer {_MAYBE}")
        case _:
            return KmeNonsenseError(kme, "answer is not HTTP")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _tls_error(error: BaseException) -> ssl.SSLError | None:
    """The TLS error underneath, wherever aiohttp has put it."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is None or id(current) in seen:
            continue
        if isinstance(current, ssl.SSLError) and not isinstance(current, aiohttp.ClientError):
            return current
        seen.add(id(current))
        pending += [current.__cause__, current.__context__]
        if isinstance(current, aiohttp.ClientConnectorCertificateError):
            pending.append(current.certificate_error)
        elif isinstance(current, aiohttp.ClientConnectorError):
            pending.append(current.os_error)
    return None


def _tls_words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not verify: {one_line(error.verify_message)}"
    reason = error.reason or ""
    if any(name in reason for name in _NOT_TLS):
        return "does not speak TLS at this address and port"
    if "ALERT" in reason and any(name in reason for name in _CERTIFICATE_ALERTS):
        return f"refused our certificate ({reason})"
    return f"TLS failed: {reason or one_line(str(error))}"
