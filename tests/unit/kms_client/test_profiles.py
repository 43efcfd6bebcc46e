"""KMEs that differ from the standard: with their profile they give keys, without it an error."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from aiohttp import web

from kms_client.errors import (
    KmeEmptyError,
    KmeNonsenseError,
    KmeRefusedError,
    KmeUnauthorizedError,
    KmeUnavailableError,
    KmeUnreachableError,
)
from kms_client.etsi014 import KmeClient
from kms_client.profiles import (
    DEFAULT_PROFILE,
    PROFILES,
    Base64,
    KeyIds,
    Profile,
    UnknownProfileError,
    find_profile,
)

STRICT = PROFILES[DEFAULT_PROFILE]
ID = "0b51f2a6-7c7b-4f6c-9a7e-1c2d3e4f5a6b"
KEY = bytes(range(224, 256))  # its base64 has digits that the two alphabets write differently


class OddKme:
    """Answers what it is told to and keeps what it was asked."""

    def __init__(self, serve, pki) -> None:
        self._serve = serve
        self._pki = pki
        self.asked: list[tuple[str, str, object]] = []
        self.answers: list[object] = []
        self.client: KmeClient | None = None

    async def start(self, profile: Profile, *answers: object, peers=None) -> KmeClient:
        self.answers = list(answers)
        self.client = KmeClient(
            name="primary",
            url=await self._serve(self._handle),
            tls=self._pki.sae,
            profile=profile,
            peers=peers or {},
        )
        return self.client

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        self.asked.append((request.method, request.path_qs, json.loads(text) if text else None))
        answer = self.answers.pop(0)
        if isinstance(answer, int):
            return web.Response(status=answer)
        if answer is None:
            request.transport.close()
            return web.Response()
        return web.json_response(answer)


@pytest.fixture
async def kme(serve, pki):
    kme = OddKme(serve, pki)
    yield kme
    await kme.client.close()


def keys(text: str | None = None, key_id: str = ID) -> dict[str, object]:
    return {"keys": [{"key_ID": key_id, "key": text or base64.b64encode(KEY).decode()}]}


def test_every_profile_says_where_it_is_from():
    for name, profile in PROFILES.items():
        assert name == profile.name
        assert profile.source
        assert profile.evidence
    assert (
        Profile(
            name=DEFAULT_PROFILE,
            product=STRICT.product,
            source=STRICT.source,
            evidence=STRICT.evidence,
        )
        == STRICT
    )


def test_an_unknown_profile_is_an_error_that_names_the_known():
    with pytest.raises(UnknownProfileError, match="qkd-kme-server"):
        find_profile("acme")


async def test_integer_sae_ids_come_from_peers(kme):
    client = await kme.start(find_profile("qkd-kme-server"), keys(), peers={"sun": "3"})
    (key,) = await client.enc_keys("sun")
    assert key.key.expose() == KEY
    assert kme.asked == [("POST", "/api/v1/keys/3/enc_keys", {"number": 1})]


async def test_without_a_number_nothing_is_sent(kme):
    client = await kme.start(find_profile("qkd-kme-server"))
    with pytest.raises(KmeRefusedError, match=r'KME primary: not asked: .* "sun" is none'):
        await client.status("sun")
    assert kme.asked == []


async def test_a_size_that_is_ignored_is_not_asked_for(kme):
    """A key of the wrong size would be lost; so nothing is asked where none can fit."""
    client = await kme.start(find_profile("qkd-kme-server"), peers={"sun": "3"})
    with pytest.raises(KmeRefusedError, match="256 bits only"):
        await client.enc_keys("sun", size=512)
    assert kme.asked == []


async def test_no_more_keys_are_asked_for_than_the_kme_gives_at_once(kme):
    client = await kme.start(find_profile("qkd-kme-server"), keys(), peers={"sun": "3"})
    assert len(await client.enc_keys("sun", number=20)) == 1
    assert kme.asked[0][2] == {"number": 10}


@pytest.mark.parametrize(
    ("profile", "status", "error", "strict"),
    [
        ("qkd-kme-server", 404, KmeEmptyError, KmeRefusedError),
        ("qkd-kme-server", 409, KmeUnavailableError, KmeRefusedError),
        ("next-door-key", 400, KmeEmptyError, KmeRefusedError),
        ("lenient", 404, KmeEmptyError, KmeRefusedError),
    ],
)
async def test_what_a_status_code_means(kme, profile, status, error, strict):
    odd = replace(find_profile(profile), sae_ids=STRICT.sae_ids, fixed_size=None)
    client = await kme.start(odd, status)
    with pytest.raises(error, match="KME primary: enc_keys answered with HTTP") as caught:
        await client.enc_keys("sun")
    assert type(caught.value) is error
    await client.close()
    client = await kme.start(STRICT, status)
    with pytest.raises(strict) as caught:
        await client.enc_keys("sun")
    assert type(caught.value) is strict


async def test_401_for_an_unknown_key(kme):
    client = await kme.start(find_profile("next-door-key"), 401)
    with pytest.raises(KmeRefusedError):
        await client.dec_keys("sun", [ID])
    await client.close()
    client = await kme.start(STRICT, 401)
    with pytest.raises(KmeUnauthorizedError):
        await client.dec_keys("sun", [ID])


@pytest.mark.parametrize(
    "text",
    [
        base64.urlsafe_b64encode(KEY).decode(),
        base64.b64encode(KEY).decode().rstrip("="),
        base64.b64encode(KEY).decode()[:20] + "\r\n" + base64.b64encode(KEY).decode()[20:],
    ],
)
async def test_base64_variants(kme, text):
    client = await kme.start(replace(STRICT, base64=Base64.ANY), keys(text))
    (key,) = await client.enc_keys("sun")
    assert key.key.expose() == KEY
    await client.close()
    client = await kme.start(STRICT, keys(text))
    with pytest.raises(KmeNonsenseError, match="KME primary: answer breaks ETSI GS QKD 014"):
        await client.enc_keys("sun")


@pytest.mark.parametrize("text", ["!!!!", "AAAAA", "Ä" * 8])
async def test_what_is_no_base64_at_all_stays_nonsense(kme, text):
    client = await kme.start(find_profile("lenient"), keys(text))
    with pytest.raises(KmeNonsenseError, match="KME primary: gave a key that is not base64"):
        await client.enc_keys("sun")


@pytest.mark.parametrize(
    ("form", "written"), [(KeyIds.HEX, ID.replace("-", "")), (KeyIds.UPPER, ID.upper())]
)
async def test_forms_of_a_key_id(kme, form, written):
    """Ours is the UUID in any case: the peer's KME may write it otherwise."""
    profile = replace(STRICT, key_ids=form)
    client = await kme.start(profile, keys(key_id=written), keys(key_id=written))
    (key,) = await client.enc_keys("sun")
    assert key.key_id == ID
    await client.dec_keys("sun", [ID])
    assert kme.asked[1][2] == {"key_IDs": [{"key_ID": written}]}


@pytest.mark.parametrize("written", [ID.replace("-", ""), "key-7"])
async def test_a_key_id_that_is_no_uuid_needs_a_profile(kme, written):
    client = await kme.start(STRICT, keys(key_id=written))
    with pytest.raises(KmeNonsenseError, match="KME primary: gave a key_ID that is not a UUID"):
        await client.enc_keys("sun")


async def test_keys_by_get(kme):
    client = await kme.start(replace(STRICT, get=True), keys(), keys())
    await client.enc_keys("sun", size=256)
    await client.dec_keys("sun", [ID])
    assert kme.asked == [
        ("GET", "/api/v1/keys/sun/enc_keys?number=1&size=256", None),
        ("GET", f"/api/v1/keys/sun/dec_keys?key_ID={ID}", None),
    ]


async def test_what_get_cannot_carry_is_not_sent(kme):
    client = await kme.start(replace(STRICT, get=True))
    with pytest.raises(KmeRefusedError, match="GET only"):
        await client.enc_keys("sun", extension_mandatory=[{"abc_route": "direct"}])
    assert kme.asked == []


async def test_a_get_whose_answer_is_lost_is_not_sent_again(kme):
    """aiohttp repeats a GET on a kept-alive connection that breaks; each would cost a key."""
    client = await kme.start(replace(STRICT, get=True), keys(), None, keys())
    await client.enc_keys("sun")
    with pytest.raises(KmeUnreachableError):
        await client.enc_keys("sun")
    assert len(kme.asked) == 2


async def test_a_lost_dec_keys_is_asked_again_only_where_reads_repeat(kme):
    client = await kme.start(replace(STRICT, repeatable=True), None, keys())
    (key,) = await client.dec_keys("sun", [ID])
    assert key.key.expose() == KEY
    await client.close()
    client = await kme.start(STRICT, None, keys())
    with pytest.raises(KmeUnreachableError):
        await client.dec_keys("sun", [ID])


async def test_enc_keys_is_never_asked_twice(kme):
    client = await kme.start(replace(STRICT, repeatable=True), None, keys())
    with pytest.raises(KmeUnreachableError):
        await client.enc_keys("sun")
    assert len(kme.asked) == 1
