"""Our SKIP client (draft-cisco-skip-02) against servers that answer well and badly."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl

import pytest
from aiohttp import web

from kms_client.errors import (
    KmeEmptyError,
    KmeNonsenseError,
    KmeRefusedError,
    KmeTlsError,
    KmeUnavailableError,
    KmeUnreachableError,
    TlsMaterialError,
)
from kms_client.skip import SkipClient
from kms_client.tls import ClientTls
from kms_client.tls_psk import ClientPsk, PskFile

KEY_ID = "1726e9ae76234fb1dd1283d4dca1911e"
UUID = "1726e9ae-7623-4fb1-dd12-83d4dca1911e"
KEY = "ad229dfb8a276e74c1f3b6c09349a69fb2fed73c541270663f0e5cbbfb031670"
CAPABLE = {
    "entropy": True,
    "key": True,
    "algorithm": "QKD",
    "localSystemID": "KP_MOON",
    "remoteSystemID": ["KP_S*"],
}


@pytest.fixture
async def provider(serve, pki):
    """``await provider(answer, ...)``: a client and the list of what it asked for."""
    clients = []

    async def start(*answers, peers=None):
        asked = []
        left = list(answers)

        async def handler(request: web.Request) -> web.StreamResponse:
            asked.append(request.path_qs)
            assert request.method == "GET"
            answer = left.pop(0)
            if answer is None:
                request.transport.close()
                return web.Response()
            if isinstance(answer, int):
                return web.Response(status=answer)
            return web.json_response(answer)

        client = SkipClient(
            name="kp", url=await serve(handler), tls=ClientTls(pki.sae), peers=peers or {}
        )
        clients.append(client)
        return client, asked

    yield start
    for client in clients:
        await client.close()


async def test_a_new_key(provider):
    client, asked = await provider({"keyId": KEY_ID, "key": KEY}, peers={"sun": "KP SUN"})
    (key,) = await client.enc_keys("sun")
    assert (key.key_id, key.key.expose().hex()) == (UUID, KEY)
    assert asked == ["/key?remoteSystemID=KP%20SUN&size=256"]


async def test_a_key_by_its_id(provider):
    client, asked = await provider({"keyId": KEY_ID.upper(), "key": KEY})
    (key,) = await client.dec_keys("KP_SUN", [UUID])
    assert key.key_id == UUID
    assert asked == [f"/key/{KEY_ID}?remoteSystemID=KP_SUN"]


async def test_status_comes_from_the_capabilities(provider):
    client, _ = await provider(CAPABLE)
    status = await client.status("KP_SUN")
    assert (status.source_KME_ID, status.stored_key_count) == ("KP_MOON", None)


@pytest.mark.parametrize(
    ("capabilities", "words"),
    [
        (CAPABLE | {"key": False}, "gives no keys"),
        (CAPABLE | {"remoteSystemID": ["KP_MARS"]}, "no remote system KP_SUN"),
    ],
)
async def test_a_provider_that_cannot_serve_us_says_so(provider, capabilities, words):
    client, _ = await provider(capabilities)
    with pytest.raises(KmeRefusedError, match=f"KME kp: .*{words}"):
        await client.status("KP_SUN")


async def test_entropy(provider):
    client, asked = await provider({"randomStr": KEY.upper(), "minentropy": 256})
    assert (await client.entropy()).expose().hex() == KEY
    assert asked == ["/entropy?minentropy=256"]


async def test_too_little_entropy_is_nonsense(provider):
    client, _ = await provider({"randomStr": "00ff", "minentropy": 256})
    with pytest.raises(KmeNonsenseError, match="16 bits of entropy"):
        await client.entropy()


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (400, KmeRefusedError, "HTTP 400"),
        (404, KmeRefusedError, "HTTP 404"),
        (405, KmeRefusedError, "HTTP 405"),
        (500, KmeUnavailableError, "HTTP 500"),
        (503, KmeEmptyError, "HTTP 503"),
        (None, KmeUnreachableError, "without an answer"),
        ({"keyId": KEY_ID}, KmeNonsenseError, "breaks draft-cisco-skip-02"),
        ({"keyId": KEY_ID + "00" * 8, "key": KEY}, KmeNonsenseError, "keyId of 192 bits"),
        ({"keyId": KEY_ID, "key": "0" * 64}, KmeNonsenseError, "all-zero"),
        ({"keyId": KEY_ID, "key": KEY[:32]}, KmeNonsenseError, "128 bits where 256"),
        ({"keyId": KEY_ID, "key": "xy" * 32}, KmeNonsenseError, "not hexadecimal"),
    ],
)
async def test_bad_answers_are_errors_that_name_the_provider(provider, answer, error, words):
    client, asked = await provider(answer)
    with pytest.raises(error, match=f"KME kp: .*{words}"):
        await client.enc_keys("KP_SUN")
    assert len(asked) == 1  # and nothing was asked for twice


async def test_another_key_than_the_one_asked_for(provider):
    client, _ = await provider({"keyId": KEY_ID[::-1], "key": KEY})
    with pytest.raises(KmeNonsenseError, match="not asked for"):
        await client.dec_keys("KP_SUN", [UUID])


async def test_what_came_before_the_stock_ran_out_is_kept(provider):
    client, _ = await provider({"keyId": KEY_ID, "key": KEY}, 503)
    assert len(await client.enc_keys("KP_SUN", number=2)) == 1


async def test_a_key_that_comes_twice(provider):
    answer = {"keyId": KEY_ID, "key": KEY}
    client, _ = await provider(answer, answer)
    with pytest.raises(KmeNonsenseError, match="same keyId twice"):
        await client.enc_keys("KP_SUN", number=2)


# --- TLS with a pre-shared key ---------------------------------------------------------------


@pytest.fixture
def psk(tmp_path):
    file = tmp_path / "kp.psk"
    file.write_text(KEY + "\n")
    return PskFile(identity="moon", key=file)


HAS_PSK = getattr(ssl, "HAS_PSK", False)


@pytest.mark.skipif(HAS_PSK, reason="this Python has TLS-PSK")
async def test_without_tls_psk_every_request_says_so(psk):
    client = SkipClient(name="kp", url="https://127.0.0.1:1", tls=ClientPsk(psk))
    with pytest.raises(KmeTlsError, match=r"KME kp: .*needs Python 3\.13.*use certificates"):
        await client.status("KP_SUN")
    await client.close()


@pytest.mark.parametrize(
    ("text", "words"), [("zz", "no key in hexadecimal"), ("00ff", "key of 2 octets; 32")]
)
def test_a_bad_psk_file(psk, text, words):
    psk.key.write_text(text)
    with pytest.raises(TlsMaterialError, match=words):
        ClientPsk(psk).context()


def test_a_missing_psk_file(psk):
    psk.key.unlink()
    with pytest.raises(TlsMaterialError, match="cannot be read"):
        ClientPsk(psk).context()


@pytest.mark.skipif(not HAS_PSK, reason="TLS-PSK came with Python 3.13")
@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl program here")
@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize(
    "cipher", ["DHE-PSK-AES256-CBC-SHA384", "DHE-PSK-AES256-CBC-SHA"]
)  # Table 1
async def test_tls_psk_with_openssl(psk, tmp_path, right, cipher):
    """OpenSSL's own server; it serves files that hold a whole HTTP answer."""
    body = json.dumps(CAPABLE)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    (tmp_path / "capabilities").write_text(f"{head}\r\nConnection: close\r\n\r\n{body}")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = await asyncio.create_subprocess_exec(
        *("openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-HTTP", "-nocert", "-tls1_2"),
        *("-cipher", cipher, "-psk_identity", "moon", "-psk", KEY if right else "00" * 32),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
    )
    client = SkipClient(name="kp", url=f"https://127.0.0.1:{port}", tls=ClientPsk(psk))
    try:
        async with asyncio.timeout(10):
            while await server.stdout.readline() != b"ACCEPT\n":
                pass
        if right:
            assert (await client.status("KP_SUN")).source_KME_ID == "KP_MOON"
        else:
            with pytest.raises(KmeTlsError, match="KME kp"):
                await client.status("KP_SUN")
    finally:
        await client.close()
        server.kill()
        await server.wait()
