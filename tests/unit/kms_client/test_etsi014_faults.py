"""Every way a request can fail has its error, one clear line, and is never sent again."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl

import pytest
from aiohttp import web

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
)
from kms_client.etsi014 import MAX_BODY
from kms_client.tls import TlsFiles

ID_A = "6a1c1c9e-0a36-4b1e-9d5c-0f1c6f0c2a01"
SECRET_WORD = "S2V5Qnl0ZXNUaGF0TXVzdE5vdExlYWs"  # stands for key bytes in a broken answer


async def failure(client) -> KmeError:
    """The error of one enc_keys; checks what holds for all of them."""
    with pytest.raises(KmeError) as caught:
        await client.enc_keys("sun")
    text = str(caught.value)
    assert text.startswith("KME primary: ")
    assert text.isprintable()
    assert len(text) < 400
    assert SECRET_WORD not in text
    return caught.value


def http(status: int, body: object = None, *, raw: bytes | None = None, **headers: str):
    data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()

    async def handler(request: web.Request) -> web.Response:
        kind = {"Content-Type": "application/json"}
        return web.Response(status=status, body=data, headers=kind | headers)

    return handler


# --- answers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, KmeRefusedError),
        (404, KmeRefusedError),
        (409, KmeRefusedError),
        (412, KmeRefusedError),
        (401, KmeUnauthorizedError),
        (403, KmeUnauthorizedError),
        (408, KmeUnavailableError),
        (429, KmeUnavailableError),
        (500, KmeUnavailableError),
        (502, KmeUnavailableError),
        (503, KmeUnavailableError),
        (504, KmeUnavailableError),
        (599, KmeUnavailableError),
        (201, KmeNonsenseError),
        (302, KmeNonsenseError),
        (600, KmeNonsenseError),
    ],
)
async def test_status_codes_without_a_body(serve, connect, status, kind):
    error = await failure(connect(await serve(http(status))))
    assert type(error) is kind
    assert str(status) in error.what


async def test_503_with_an_etsi_body_means_no_keys_now(serve, connect):
    error = await failure(connect(await serve(http(503, {"message": "not enough keys"}))))
    assert type(error) is KmeEmptyError
    assert error.what.endswith("Service Unavailable: not enough keys")


async def test_503_of_a_proxy_is_not_the_word_of_a_kme(serve, connect):
    error = await failure(connect(await serve(http(503, raw=b"<html>" + SECRET_WORD.encode()))))
    assert type(error) is KmeUnavailableError


async def test_400_carries_the_words_of_the_kme(serve, connect):
    body = {"message": "bad request", "details": [{"size": "size shall be a multiple of 8"}, "b"]}
    error = await failure(connect(await serve(http(400, body))))
    assert isinstance(error, KmeRefusedError)
    assert error.details == "bad request; size: size shall be a multiple of 8; b"
    assert error.what == f"enc_keys answered with HTTP 400 Bad Request: {error.details}"


async def test_words_of_a_kme_are_made_harmless(serve, connect):
    hostile = "a\x1b[31m\r\nlevel=critical \u202e" + "x" * 5000
    error = await failure(connect(await serve(http(400, {"message": hostile, "details": 7}))))
    assert isinstance(error, KmeRefusedError)
    assert error.details.startswith("a [31m level=critical xxx")
    assert len(error.details) == 200


async def test_an_error_body_is_never_quoted_beyond_message_and_details(serve, connect):
    body = {"message": "no", "keys": [{"key_ID": ID_A, "key": SECRET_WORD}]}
    error = await failure(connect(await serve(http(400, body))))
    assert error.what.endswith(": no")


async def test_a_redirect_is_not_followed(serve, connect):
    asked = []

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request)
        return web.json_response({})

    target = await serve(elsewhere)
    for status in (301, 307, 308):
        error = await failure(connect(await serve(http(status, Location=f"{target}/x"))))
        assert type(error) is KmeNonsenseError
        assert "redirect" in error.what
    assert not asked


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>" + SECRET_WORD.encode(),
        b'{"keys":[{"key_ID":"' + ID_A.encode() + b'","key":"' + SECRET_WORD.encode(),  # truncated
        b'{"keys":"' + SECRET_WORD.encode() + b'"}',
        b'{"keys":[{"key_ID":"\xff","key":"' + SECRET_WORD.encode() + b'"}]}',
        b'{"keys":[],"x":' + b"[" * 100_000,
        b"\x00" * 100,
        b"[]",
        b"null",
    ],
)
async def test_garbage_is_nonsense_and_is_not_quoted(serve, connect, body):
    error = await failure(connect(await serve(http(200, raw=body))))
    assert type(error) is KmeNonsenseError
    while error is not None:  # nor does it hang on the exception
        assert SECRET_WORD not in repr(getattr(error, "object", "")) + str(error)
        error = error.__context__  # type: ignore[assignment]


async def test_an_html_page_is_no_answer_even_if_it_parses(serve, connect):
    client = connect(await serve(http(200, raw=b"{}", **{"Content-Type": "text/html"})))
    assert "Content-Type" in (await failure(client)).what


async def test_a_compressed_answer_is_refused(serve, connect):
    client = connect(await serve(http(200, raw=b"x", **{"Content-Encoding": "gzip"})))
    assert "compressed" in (await failure(client)).what


@pytest.mark.parametrize("announced", [True, False])
async def test_an_oversized_body_is_cut_off(serve, connect, announced):
    sent = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        if announced:
            response.content_length = 64 * MAX_BODY
        await response.prepare(request)
        for _ in range(64):
            await response.write(b" " * MAX_BODY)
            sent += MAX_BODY
        return response

    error = await failure(connect(await serve(handler)))
    assert type(error) is KmeNonsenseError
    assert f"larger than {MAX_BODY} octets" in error.what
    assert sent < 32 * MAX_BODY


async def test_an_oversized_error_body_leaves_the_status_code(serve, connect):
    client = connect(await serve(http(400, {"message": "x" * MAX_BODY})))
    error = await failure(client)
    assert isinstance(error, KmeRefusedError)
    assert error.details == ""


# --- connections -----------------------------------------------------------------------------


async def test_never_answering_is_a_timeout(serve, connect):
    gate = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        await gate.wait()
        return web.json_response({})

    error = await failure(connect(await serve(handler), timeout=0.3))
    gate.set()
    assert type(error) is KmeTimeoutError
    assert error.what == "no complete answer within 0.3 s"


async def test_stopping_in_the_middle_of_the_answer_is_a_timeout_too(serve_raw, connect):
    gate = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        await gate.wait()

    error = await failure(connect(await serve_raw(handler), timeout=0.3))
    gate.set()
    assert type(error) is KmeTimeoutError


async def test_nobody_listens(connect, unused_tcp_port):
    error = await failure(connect(f"https://127.0.0.1:{unused_tcp_port}"))
    assert type(error) is KmeUnreachableError
    assert error.what == f"cannot connect to 127.0.0.1:{unused_tcp_port}: Connection refused"


async def test_a_server_that_accepts_and_stays_silent_is_no_connection(serve_raw, connect):
    gate = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gate.wait()

    error = await failure(connect(await serve_raw(handler, tls=False), timeout=0.4))
    gate.set()
    assert type(error) is KmeUnreachableError
    assert error.what == "no connection within 0.2 s"


async def test_host_name_that_does_not_resolve(connect, monkeypatch):
    async def no_such_host(*args: object, **kwargs: object) -> list[object]:
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", no_such_host)
    error = await failure(connect("https://kme.invalid"))
    assert type(error) is KmeUnreachableError
    assert error.what == "host name kme.invalid does not resolve"


async def test_plain_http_server(serve_raw, connect):
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    error = await failure(connect(await serve_raw(handler, tls=False)))
    assert type(error) is KmeTlsError
    assert error.what == "does not speak TLS at this address and port"


async def test_not_http_inside_tls(serve_raw, connect):
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail ready\r\n" + SECRET_WORD.encode() + b"\r\n\r\n")
        await writer.drain()

    error = await failure(connect(await serve_raw(handler)))
    assert type(error) is KmeNonsenseError
    assert error.what == "answer is not HTTP"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Content-Length: 500\r\n", b'{"keys":['),
        (b"Transfer-Encoding: chunked\r\n", b'9\r\n{"keys":['),
    ],
)
async def test_connection_dropped_in_the_middle_of_the_answer(serve_raw, connect, head, body):
    requests = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await reader.readuntil(b"\r\n\r\n")
        requests += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + head + b"\r\n")
        writer.write(body)
        await writer.drain()

    error = await failure(connect(await serve_raw(handler)))
    assert type(error) is KmeUnreachableError
    assert error.what == "connection was lost in the middle of the answer"
    assert requests == 1


async def test_a_lost_answer_is_never_asked_for_again(serve_raw, connect):
    """The KME has consumed the key and drops the kept-alive connection instead of answering."""
    good = json.dumps(
        {"keys": [{"key_ID": ID_A, "key": base64.b64encode(bytes(range(32))).decode()}]}
    ).encode()
    consumed = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal consumed
        for answer in (True, False):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            consumed += 1
            if answer:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n" % len(good) + good)
                await writer.drain()

    client = connect(await serve_raw(handler))
    await client.enc_keys("sun")
    error = await failure(client)
    assert type(error) is KmeUnreachableError
    assert "without an answer" in error.what
    assert consumed == 2
    await client.enc_keys("sun")  # a new request on a new connection
    assert consumed == 3


# --- TLS -------------------------------------------------------------------------------------


async def test_certificate_of_an_unknown_authority(serve, connect, pki):
    files = pki.foreign.issue("kme", hosts=("127.0.0.1",))
    error = await failure(connect(await serve(http(200), files=files)))
    assert type(error) is KmeTlsError
    assert error.what.startswith("its certificate does not verify: ")


async def test_certificate_for_another_host(serve, connect, pki):
    files = pki.ca.issue("other-kme", hosts=("10.9.1.1", "kme.example"))
    error = await failure(connect(await serve(http(200), files=files)))
    assert type(error) is KmeTlsError
    assert "IP address mismatch" in error.what


async def test_certificate_of_the_kme_expired(serve, connect, pki):
    files = pki.ca.issue("old-kme", hosts=("127.0.0.1",), days=-1)
    error = await failure(connect(await serve(http(200), files=files)))
    assert type(error) is KmeTlsError
    assert "expired" in error.what


TLS_VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


def refused_client(connect, pki, url, version):
    """A client whose certificate the KME's authority did not sign."""
    own = pki.foreign.issue("moon")
    client = connect(url, tls=TlsFiles(ca=pki.ca.file, certificate=own.certificate, key=own.key))
    client._transport._tls.context().maximum_version = version
    return client


@TLS_VERSIONS
async def test_our_certificate_is_refused(serve_with_alerts, connect, pki, version):
    error = await failure(refused_client(connect, pki, serve_with_alerts(), version))
    assert type(error) is KmeTlsError
    assert error.what == "refused our certificate (TLSV1_ALERT_UNKNOWN_CA)"


@TLS_VERSIONS
async def test_our_certificate_is_refused_without_a_word(serve, connect, pki, version):
    error = await failure(refused_client(connect, pki, await serve(http(200)), version))
    kind = KmeTlsError if version is ssl.TLSVersion.TLSv1_2 else KmeUnreachableError
    assert type(error) is kind
    assert error.what.endswith("(some KMEs refuse a client certificate this way)")


async def test_the_right_certificates_pass(serve, connect):
    error = await failure(connect(await serve(http(503, {"message": "no keys"}))))
    assert type(error) is KmeEmptyError
