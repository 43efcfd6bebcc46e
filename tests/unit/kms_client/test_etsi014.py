"""What the client makes of proper answers, and what it sends."""

from __future__ import annotations

import base64
import json
import shutil
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import web

from kms_client.errors import KmeError, KmeNonsenseError, KmeTlsError
from kms_client.etsi014 import MAX_BODY, KmeClient
from kms_client.models import LinkState
from kms_client.tls import TlsFiles

ID_A = "6a1c1c9e-0a36-4b1e-9d5c-0f1c6f0c2a01"
ID_B = "6a1c1c9e-0a36-4b1e-9d5c-0f1c6f0c2a02"
KEY_A = bytes(range(32))
KEY_B = bytes(range(1, 33))

Seen = tuple[web.Request, Any]  # a request and its JSON


def member(key_id: str, key: bytes, **more: Any) -> dict[str, Any]:
    return {"key_ID": key_id, "key": base64.b64encode(key).decode(), **more}


def answering(*members: dict[str, Any], seen: list[Seen] | None = None, **more: Any):
    """A handler that answers every request with a container of these members."""

    async def handler(request: web.Request) -> web.Response:
        if seen is not None:
            seen.append((request, json.loads(await request.read() or b"null")))
        return web.json_response({"keys": list(members), **more})

    return handler


STATUS = {
    "source_KME_ID": "kme-moon",
    "target_KME_ID": "kme-sun",
    "master_SAE_ID": "moon",
    "slave_SAE_ID": "sun",
    "key_size": 256,
    "stored_key_count": 25,
    "max_key_count": 100,
    "max_key_per_request": 10,
    "max_key_size": 1024,
    "min_key_size": 64,
    "max_SAE_ID_count": 0,
}


async def status_of(serve, connect, answer: Any):
    async def handler(request: web.Request) -> web.Response:
        return web.json_response(answer)

    return await connect(await serve(handler)).status("sun")


async def test_status_gives_counts_and_limits(serve, connect):
    status = await status_of(serve, connect, STATUS)
    assert (status.stored_key_count, status.max_key_per_request) == (25, 10)
    assert status.link is None


@pytest.mark.parametrize("name", [7, None, "kme-7"])
async def test_ids_in_a_status_may_be_numbers(serve, connect, name):
    status = await status_of(serve, connect, {**STATUS, "master_SAE_ID": name})
    assert status.stored_key_count == 25


async def test_status_may_lack_everything_but_the_count(serve, connect):
    status = await status_of(serve, connect, {"stored_key_count": 3, "colour": "green"})
    assert status.stored_key_count == 3
    assert status.max_key_per_request is None


@pytest.mark.parametrize(
    "answer",
    [{}, [], None, "ok", {"stored_key_count": -1}, {"stored_key_count": "many"}, {"message": "hi"}],
)
async def test_status_without_a_sensible_count_is_nonsense(serve, connect, answer):
    with pytest.raises(KmeNonsenseError, match="KME primary: answer breaks ETSI GS QKD 014"):
        await status_of(serve, connect, answer)


async def test_status_extension_tells_the_state_of_the_link(serve, connect):
    extension = {"qsgw_link": {"state": "suspect", "since": "2026-01-01T00:00:00Z",
                               "alarms": ["QBER 12 %\x1b[2J"], "key_rate": 1.5}}  # fmt: skip
    link = (await status_of(serve, connect, STATUS | {"status_extension": extension})).link
    assert link is not None
    assert (link.state, link.key_rate) == (LinkState.SUSPECT, 1.5)
    assert link.reason == "QBER 12 % [2J"


async def test_enc_keys_is_a_post_with_number_and_size(serve, connect):
    seen: list[Seen] = []
    url = await serve(answering(member(ID_A.upper(), KEY_A, key_extension={}), seen=seen, x=1))
    (key,) = await connect(url).enc_keys("sun")
    assert (key.key_id, key.key.expose()) == (ID_A, KEY_A)
    assert (seen[0][0].method, seen[0][0].path) == ("POST", "/api/v1/keys/sun/enc_keys")
    assert seen[0][1] == {"number": 1, "size": 256}
    assert seen[0][0].content_type == "application/json"
    assert seen[0][0].headers["Accept-Encoding"] == "identity"


async def test_further_slaves_and_extensions_are_sent_only_when_given(serve, connect):
    seen: list[Seen] = []
    client = connect(await serve(answering(member(ID_A, KEY_A), seen=seen)))
    await client.enc_keys("sun", additional_slaves=["mars"], extension_mandatory=[{"route": "a"}])
    assert seen[0][1] == {
        "number": 1,
        "size": 256,
        "additional_slave_SAE_IDs": ["mars"],
        "extension_mandatory": [{"route": "a"}],
    }


async def test_sae_id_and_base_path_go_into_the_url_encoded(serve, connect):
    seen: list[Seen] = []
    url = await serve(answering(member(ID_A, KEY_A), seen=seen))
    await connect(url + "/vendor/").enc_keys("sun/../moon?ä")
    assert seen[0][0].raw_path == "/vendor/api/v1/keys/sun%2F..%2Fmoon%3F%C3%A4/enc_keys"


async def test_dec_keys_matches_by_key_id_in_any_order(serve, connect):
    seen: list[Seen] = []
    url = await serve(answering(member(ID_B.upper(), KEY_B), member(ID_A, KEY_A), seen=seen))
    keys = await connect(url).dec_keys("moon", [ID_A.upper(), ID_B])
    assert [(key.key_id, key.key.expose()) for key in keys] == [(ID_A, KEY_A), (ID_B, KEY_B)]
    assert (seen[0][0].method, seen[0][0].path) == ("POST", "/api/v1/keys/moon/dec_keys")
    assert seen[0][1] == {"key_IDs": [{"key_ID": ID_A}, {"key_ID": ID_B}]}


async def test_fewer_keys_than_asked_for_are_accepted(serve, connect):
    client = connect(await serve(answering(member(ID_A, KEY_A))))
    assert len(await client.enc_keys("sun", number=3)) == 1


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([], "gave no key"),
        ([member(ID_A, KEY_A), member(ID_B, KEY_B)], "gave 2 keys where 1 were asked for"),
        ([member(ID_A, KEY_A[:16])], r"gave keys of \[128\] bits where 256 were asked for"),
        ([member(ID_A, KEY_A + KEY_B)], r"\[512\] bits"),
        ([member("42", KEY_A)], "a key_ID that is not a UUID"),
        ([member("{" + ID_A + "}", KEY_A)], "a key_ID that is not a UUID"),
        ([member(ID_A, bytes(32))], "all-zero"),
        ([member(ID_A, b"")], "all-zero or empty"),
        ([member(ID_A, KEY_A), member(ID_A.upper(), KEY_B)], "the same key_ID twice"),
        ([member(ID_A, KEY_A), member(ID_B, KEY_A)], "the same key under two key_IDs"),
        ([{"key_ID": ID_A, "key": "not/base64!"}], "base64"),
        ([{"key_ID": ID_A}], "missing required field `key`"),
        ([{"key_ID": 7, "key": ""}], "Expected `str`, got `int`"),
        (["key"], "Expected `object`"),
    ],
)
async def test_enc_keys_that_break_the_standard_are_nonsense(serve, connect, members, words):
    client = connect(await serve(answering(*members)))
    with pytest.raises(KmeNonsenseError, match=words) as caught:
        await client.enc_keys("sun")
    assert str(caught.value).startswith("KME primary: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([member(ID_A, KEY_A)], "gave 1 of 2 keys"),
        ([member(ID_A, KEY_A), member(ID_A[:-2] + "77", KEY_B)], "that was not asked for"),
        ([member(ID_A, KEY_A), member(ID_B, KEY_B), member(ID_A[:-2] + "77", b"x" * 32)], "asked"),
        ([member(ID_A, KEY_A), member(ID_B, KEY_B[:4])], "less than 256 bits"),
    ],
)
async def test_dec_keys_must_be_exactly_those_asked_for(serve, connect, members, words):
    client = connect(await serve(answering(*members)))
    with pytest.raises(KmeNonsenseError, match=words):
        await client.dec_keys("moon", [ID_A, ID_B])


async def test_requests_that_make_no_sense_are_not_sent(serve, connect):
    seen: list[Seen] = []
    client = connect(await serve(answering(member(ID_A, KEY_A), seen=seen)))
    for number, size in ((0, 256), (1000, 256), (1, 255), (1, 64)):
        with pytest.raises(ValueError):
            await client.enc_keys("sun", number=number, size=size)
    for key_ids in ([], ["42"], [ID_A, ID_A.upper()]):
        with pytest.raises(ValueError):
            await client.dec_keys("moon", key_ids)
    assert not seen


async def test_an_answer_as_large_as_the_cap_is_read(serve, connect):
    body = json.dumps({"keys": [member(ID_A, KEY_A)]}).encode()

    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=body.ljust(MAX_BODY), content_type="application/json")

    assert await connect(await serve(handler)).enc_keys("sun")


async def test_connection_is_kept_for_the_next_request(serve, connect):
    ports = set()

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        ports.add(request.transport.get_extra_info("peername"))
        return web.json_response({"keys": [member(ID_A, KEY_A)]})

    client = connect(await serve(handler))
    for _ in range(3):
        await client.enc_keys("sun")
    assert len(ports) == 1


async def test_a_closed_client_says_so(serve, connect):
    client = connect(await serve(answering(member(ID_A, KEY_A))))
    await client.enc_keys("sun")
    await client.close()
    await client.close()
    with pytest.raises(KmeError, match="client was closed"):
        await client.enc_keys("sun")


@pytest.mark.parametrize(
    "url",
    [
        "http://10.9.1.1:8443",
        "10.9.1.1:8443",
        "https://",
        "https://kme:port",
        "https://user:word@kme",
        "https://kme/?a=b",
        "",
    ],
)
def test_a_url_that_is_not_plain_https_is_refused(pki, url):
    with pytest.raises(KmeError, match="url must read https"):
        KmeClient(name="primary", url=url, tls=pki.sae)


def test_buffers_of_key_bytes_are_overwritten(pki):
    client = KmeClient(name="primary", url="https://127.0.0.1:1", tls=pki.sae)
    for body in (
        bytearray(json.dumps({"keys": [member(ID_A, KEY_A)]}).encode()),
        bytearray(json.dumps({"keys": [member("42", KEY_A)]}).encode()),
        bytearray(json.dumps({"keys": [member(ID_A, KEY_A), 5]}).encode()),
    ):
        with suppress(KmeNonsenseError):
            client._edition.read_keys(body)
        assert not any(body)


async def test_a_renewed_certificate_is_shown_without_a_restart(serve, connect, pki, tmp_path):
    files = TlsFiles(ca=pki.ca.file, certificate=tmp_path / "sae.pem", key=tmp_path / "sae.key")
    shown = []

    async def handler(request: web.Request) -> web.Response:
        (((_, name),),) = request.get_extra_info("peercert")["subject"]
        shown.append(name)
        return web.json_response(STATUS)

    client = connect(await serve(handler), tls=files)
    with pytest.raises(KmeTlsError, match=r"sae\.pem: file is missing"):
        await client.status("sun")
    for name in ("moon-1", "moon-2"):
        issued = pki.ca.issue(name)
        shutil.copy(issued.key, files.key)
        shutil.copy(issued.certificate, files.certificate)
        await client.status("sun")
    assert shown == ["moon-1", "moon-2"]


async def test_a_broken_off_answer_leaves_no_key_in_our_buffer(pki):
    """What came before the connection broke, or we were cancelled, hangs on no traceback."""

    class Content:
        async def iter_any(self):
            yield b"key bytes"
            raise OSError("connection lost")

    class Response:
        content_length = None
        content = Content()

    client = KmeClient(name="primary", url="https://127.0.0.1:1", tls=pki.sae)
    with pytest.raises(OSError, match="connection lost") as caught:
        await client._transport._read(Response())
    (body,) = [
        entry.locals["body"]
        for entry in caught.traceback
        if entry.name == client._transport._read.__name__
    ]
    assert len(body) == len(b"key bytes")
    assert not any(body)
