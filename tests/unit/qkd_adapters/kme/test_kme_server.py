"""The ETSI 014 server, asked over real mTLS: every resource, every refusal."""

from __future__ import annotations

import asyncio
import base64
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest
from cryptography.hazmat.primitives import serialization

from qkd_adapters.errors import KmeStartupError
from qkd_adapters.kme.config import KeySettings
from qkd_adapters.kme.server import server_context
from qkd_adapters.pki import make_pki
from tests.support.kme_lab import DEFAULT_KEYS, KmeLab, eventually


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For ids whose notice never comes: do not wait a second for it."""
    monkeypatch.setattr("qkd_adapters.kme.server.NOTICE_WAIT", 0.01)


def key_ids(answer: Any) -> list[str]:
    return [entry["key_ID"] for entry in answer.json["keys"]]


def is_error(answer: Any, status: int) -> bool:
    """Status, and a body of the standard's Error form."""
    return (
        answer.status == status
        and answer.content_type == "application/json"
        and isinstance(answer.json["message"], str)
        and all(isinstance(detail, dict) for detail in answer.json["details"])
    )


async def test_both_kmes_deliver_the_same_octets(lab: KmeLab) -> None:
    sent = await lab.post("moon", "sun/enc_keys", {"number": 3})
    assert sent.status == 200
    assert len({UUID(key_id) for key_id in key_ids(sent)}) == 3
    for entry in sent.json["keys"]:
        assert len(base64.b64decode(entry["key"], validate=True)) == 32
    received = await lab.fetch("sun", "moon", key_ids(sent)[::-1])
    assert received.status == 200
    by_id = {entry["key_ID"]: entry["key"] for entry in received.json["keys"]}
    assert by_id == {entry["key_ID"]: entry["key"] for entry in sent.json["keys"]}
    assert len(set(by_id.values())) == 3


async def test_get_asks_and_fetches_as_post_does(lab: KmeLab) -> None:
    sent = await lab.get("sun", "moon/enc_keys", number=2, size=128)
    assert [len(base64.b64decode(entry["key"])) for entry in sent.json["keys"]] == [16, 16]
    for entry in sent.json["keys"]:
        received = await lab.get("moon", "sun/dec_keys", key_ID=entry["key_ID"].upper())
        assert received.json["keys"] == [entry]


@pytest.mark.parametrize("arguments", [{"data": b""}, {"json": {}}, {"data": b"{}"}])
async def test_request_without_parameters_gives_one_default_key(
    lab: KmeLab, arguments: dict[str, Any]
) -> None:
    answer = await lab.request("moon", "POST", "sun/enc_keys", **arguments)
    (entry,) = answer.json["keys"]
    assert len(base64.b64decode(entry["key"])) == 32


@pytest.mark.parametrize("size", [64, 256, 512, 1024])
async def test_sizes_within_the_limits(lab: KmeLab, size: int) -> None:
    sent = await lab.post("moon", "sun/enc_keys", {"size": size, "number": 2})
    assert [len(base64.b64decode(entry["key"])) for entry in sent.json["keys"]] == [size // 8] * 2
    received = await lab.fetch("sun", "moon", key_ids(sent))
    assert received.json == sent.json


async def test_a_key_is_delivered_once(lab: KmeLab) -> None:
    sent = await lab.post("moon", "sun/enc_keys")
    assert (await lab.fetch("sun", "moon", key_ids(sent))).status == 200
    assert is_error(await lab.fetch("sun", "moon", key_ids(sent)), 400)
    again = await lab.post("moon", "sun/enc_keys", {"number": 7})
    assert not set(key_ids(again)) & set(key_ids(sent))


@pytest.mark.usefixtures("impatient")
async def test_one_unknown_key_id_and_none_is_delivered(lab: KmeLab) -> None:
    sent = await lab.post("moon", "sun/enc_keys")
    unknown = str(uuid4())
    refused = await lab.fetch("sun", "moon", [*key_ids(sent), unknown])
    assert is_error(refused, 400)
    assert refused.json["details"] == [{"key_ID": unknown}]
    assert (await lab.fetch("sun", "moon", key_ids(sent))).status == 200


async def test_directions_are_apart(lab: KmeLab) -> None:
    """A key given to moon as master can never go to sun as master."""
    for_moon = lab.ids("kme-moon", "moon", "sun")
    for_sun = lab.ids("kme-sun", "sun", "moon")
    assert not for_moon & for_sun
    moons = await lab.post("moon", "sun/enc_keys", {"number": 8})
    suns = await lab.post("sun", "moon/enc_keys", {"number": 8})
    assert set(key_ids(moons)) == for_moon
    assert set(key_ids(suns)) == for_sun


@pytest.mark.usefixtures("impatient")
async def test_key_of_another_pair_is_refused_with_401(lab: KmeLab) -> None:
    sent = await lab.post("moon", "sun/enc_keys")
    assert is_error(await lab.fetch("mars", "moon", key_ids(sent)), 401)
    assert (await lab.fetch("sun", "moon", key_ids(sent))).status == 200


@pytest.mark.usefixtures("impatient")
async def test_master_cannot_fetch_what_waits_for_it_as_slave(lab: KmeLab) -> None:
    (some_id, *_) = lab.ids("kme-moon", "moon", "sun")
    assert is_error(await lab.fetch("moon", "sun", [some_id]), 401)


@pytest.mark.parametrize("resource", ["status", "enc_keys", "dec_keys"])
async def test_sae_without_a_common_pair_is_refused_with_401(lab: KmeLab, resource: str) -> None:
    assert is_error(await lab.get("sun", f"mars/{resource}"), 401)
    assert is_error(await lab.get("moon", f"nobody/{resource}"), 401)


async def test_certificate_of_no_known_sae_is_refused_with_401(lab: KmeLab) -> None:
    answer = await lab.get("stranger", "sun/status", kme="kme-moon")
    assert is_error(answer, 401)
    # Sun is known at its own KME only: who asks follows from the certificate and the KME.
    assert is_error(await lab.get("sun", "sun/status", kme="kme-moon"), 401)


async def _attempt(lab: KmeLab, context: ssl.SSLContext) -> int:
    connector = aiohttp.TCPConnector(ssl=context)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(f"{lab.url('kme-moon')}/api/v1/keys/sun/status") as response,
    ):
        return response.status


async def test_no_client_certificate_no_answer(lab: KmeLab) -> None:
    assert await _attempt(lab, lab.client_context("moon")) == 200
    with pytest.raises((aiohttp.ClientError, OSError)):
        await _attempt(lab, lab.client_context(None))


async def test_client_certificate_of_another_ca_gets_no_answer(lab: KmeLab, tmp_path: Path) -> None:
    make_pki(tmp_path / "wrong", kmes=[], saes=["moon"], force=False)
    with pytest.raises((aiohttp.ClientError, OSError)):
        await _attempt(lab, lab.client_context("moon", tmp_path / "wrong"))


async def test_server_certificate_does_not_serve_as_client_certificate(lab: KmeLab) -> None:
    with pytest.raises((aiohttp.ClientError, OSError)):
        await _attempt(lab, lab.client_context("kme-sun"))


async def test_tls_1_2_is_refused(lab: KmeLab) -> None:
    context = lab.client_context("moon")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((aiohttp.ClientError, OSError)):
        await _attempt(lab, context)


BAD_ENC = [
    {"number": 0},
    {"number": -1},
    {"number": 9},
    {"number": "2"},
    {"number": 1.5},
    {"size": 255},
    {"size": 0},
    {"size": -256},
    {"size": 56},
    {"size": 1032},
    {"extension_mandatory": [{"route": "short"}]},
    {"extension_mandatory": "route"},
    {"additional_slave_SAE_IDs": ["nobody"]},
    {"additional_slave_SAE_IDs": ["sun"]},
    {"additional_slave_SAE_IDs": ["mars", "mars"]},
    {"additional_slave_SAE_IDs": ["mars", "a", "b"]},
    [],
    "text",
]


async def test_bad_enc_keys_requests_are_refused_and_consume_nothing(lab: KmeLab) -> None:
    before = lab.ids("kme-moon")
    for body in BAD_ENC:
        assert is_error(await lab.post("moon", "sun/enc_keys", body), 400), body
    assert lab.ids("kme-moon") == before


async def test_bad_enc_keys_queries_are_refused(lab: KmeLab) -> None:
    for query in [{"number": "x"}, {"number": "0"}, {"size": "1e3"}]:
        assert is_error(await lab.get("moon", "sun/enc_keys", **query), 400), query


async def test_extension_optional_may_be_ignored(lab: KmeLab) -> None:
    body = {"extension_optional": [{"route": "short"}], "extension_mandatory": [], "x_new": 1}
    assert (await lab.post("moon", "sun/enc_keys", body)).status == 200


BAD_DEC = [
    {},
    {"key_IDs": []},
    {"key_IDs": ["not an object"]},
    {"key_IDs": [{"key_ID": "not a uuid"}]},
    {"key_IDs": [{"key_ID": str(UUID(int=1))}] * 2},
    {"key_IDs": [{"key_ID": str(UUID(int=n))} for n in range(9)]},
]


async def test_bad_dec_keys_requests_are_refused(lab: KmeLab) -> None:
    for body in BAD_DEC:
        assert is_error(await lab.post("sun", "moon/dec_keys", body), 400), body


async def test_bodies_that_are_not_json_are_refused(lab: KmeLab) -> None:
    for resource in ("sun/enc_keys", "sun/dec_keys"):
        for body in (b"{", b"\xff\xfe", b"nonsense"):
            answer = await lab.request("moon", "POST", resource, data=body)
            assert is_error(answer, 400), body


async def test_a_body_nested_too_deep_is_refused(lab: KmeLab) -> None:
    body = b'{"extension_optional": [{"a": ' + b"[" * 20_000 + b"]" * 20_000 + b"}]}"
    answer = await lab.request("moon", "POST", "sun/enc_keys", data=body)
    assert answer.status == 400


async def test_dec_keys_query_without_key_id_is_refused(lab: KmeLab) -> None:
    assert is_error(await lab.get("moon", "sun/dec_keys"), 400)


async def test_other_paths_methods_and_sizes(lab: KmeLab) -> None:
    assert is_error(await lab.get("moon", "sun/nothing"), 404)
    wrong_method = await lab.request("moon", "DELETE", "sun/enc_keys")
    assert is_error(wrong_method, 405)
    big = await lab.request("moon", "POST", "sun/enc_keys", data=b" " * 70_000)
    assert is_error(big, 413)


async def test_head_consumes_nothing(lab: KmeLab) -> None:
    before = lab.ids("kme-moon")
    assert (await lab.request("moon", "HEAD", "sun/enc_keys")).status == 405
    assert lab.ids("kme-moon") == before


async def test_more_keys_than_stored_gives_503_and_consumes_nothing(lab: KmeLab) -> None:
    await lab.post("moon", "sun/enc_keys", {"number": 5})
    before = lab.ids("kme-moon")
    refused = await lab.post("moon", "sun/enc_keys", {"number": 4})
    assert is_error(refused, 503)
    assert refused.json["details"] == [{"available": 3, "number": 4}]
    assert lab.ids("kme-moon") == before
    assert (await lab.post("moon", "sun/enc_keys", {"number": 3})).status == 200


async def test_status_has_every_member_of_the_standard(lab: KmeLab) -> None:
    await lab.post("moon", "sun/enc_keys", {"number": 2})
    await lab.post("moon", "sun/enc_keys", {"number": 0})
    status = (await lab.get("moon", "sun/status")).json
    extension = status.pop("status_extension")
    assert status == {
        "source_KME_ID": "kme-moon",
        "target_KME_ID": "kme-sun",
        "master_SAE_ID": "moon",
        "slave_SAE_ID": "sun",
        "key_size": 256,
        "stored_key_count": 6,
        "max_key_count": 8,
        "max_key_per_request": 8,
        "max_key_size": 1024,
        "min_key_size": 64,
        "max_SAE_ID_count": 2,
    }
    assert extension["qsgw_link"]["state"] == "down"
    assert extension["qsgw_link"]["alarms"] == ["quantum channel cut"]
    assert extension["qsgw_accounting"]["delivered_master"] == 2
    assert extension["qsgw_accounting"]["refused"] == {"400": 1}


@pytest.mark.usefixtures("impatient")
async def test_refusals_are_counted_for_the_direction_asked(lab: KmeLab) -> None:
    await lab.fetch("sun", "moon", [str(uuid4())])
    assert (await lab.get("sun", "moon/status")).json["status_extension"]["qsgw_accounting"][
        "refused"
    ] == {}
    account = lab.kmes["kme-sun"].store.account(lab.kmes["kme-sun"].store.directions[1])
    assert account.refused == {400: 1}


async def test_every_additional_slave_gets_its_own_copy_once(lab: KmeLab) -> None:
    body = {"additional_slave_SAE_IDs": ["mars"]}
    sent = await lab.post("moon", "sun/enc_keys", body)
    for slave in ("mars", "sun"):
        received = await lab.fetch(slave, "moon", key_ids(sent))
        assert received.json == sent.json
        assert is_error(await lab.fetch(slave, "moon", key_ids(sent)), 400)


async def test_additional_slave_that_asks_early_waits_for_the_notice(lab: KmeLab) -> None:
    """The notice is held back until the slave's request waits for it."""
    assert lab.link is not None
    moon = lab.kmes["kme-moon"]
    session = moon.agent._session
    assert session is not None
    held: list[Any] = []
    really_send, session.send = session.send, held.append
    sent = await lab.post("moon", "sun/enc_keys", {"additional_slave_SAE_IDs": ["mars"]})
    early = asyncio.create_task(lab.fetch("mars", "moon", key_ids(sent)))
    sun = lab.kmes["kme-sun"]
    await eventually(lambda: bool(sun.agent._news._waiters))
    assert not early.done()
    session.send = really_send
    for message in held:
        really_send(message)
    assert (await early).json == sent.json


async def test_without_the_classical_channel_nobody_waits_and_stock_is_still_good(
    lab: KmeLab,
) -> None:
    await lab.stop_link()
    await eventually(lambda: not any(kme.agent.connected for kme in lab.kmes.values()))
    sent = await lab.post("moon", "sun/enc_keys", {"number": 2})
    started = asyncio.get_running_loop().time()
    assert is_error(await lab.fetch("sun", "moon", [str(uuid4())]), 400)
    assert asyncio.get_running_loop().time() - started < 0.9  # NOTICE_WAIT is 1 s
    assert (await lab.fetch("sun", "moon", key_ids(sent))).json == sent.json


@pytest.mark.usefixtures("impatient")
async def test_keys_expire(short_dir: Path) -> None:
    now = 1000.0
    keys = KeySettings(
        min_size=64, max_size=256, max_per_request=8, max_count=4, max_sae_ids=0, lifetime=60.0
    )
    async with KmeLab(short_dir, keys=keys, clock=lambda: now) as lab:
        await lab.filled()
        lab.source.cut()
        taken = await lab.post("moon", "sun/enc_keys", {"number": 2})
        await eventually(lambda: len(lab.ids("kme-sun")) == 2)
        old = lab.ids("kme-moon")
        now += 59.9
        assert (await lab.fetch("sun", "moon", key_ids(taken)[:1])).status == 200
        assert (await lab.get("moon", "sun/status")).json["stored_key_count"] == 2
        now += 0.2
        assert is_error(await lab.post("moon", "sun/enc_keys"), 503)
        await eventually(lambda: not lab.ids("kme-sun"))
        assert is_error(await lab.fetch("sun", "moon", key_ids(taken)[1:]), 400)
        assert is_error(await lab.fetch("sun", "moon", list(old)), 400)
        account = (await lab.get("moon", "sun/status")).json["status_extension"]["qsgw_accounting"]
        assert account["expired"] == 2
        lab.source.heal()
        await lab.filled()
        assert not lab.ids("kme-moon") & old


async def test_two_clients_at_once_never_get_the_same_key(lab: KmeLab) -> None:
    answers = await asyncio.gather(
        *(lab.post("moon", "sun/enc_keys", {"number": 1}) for _ in range(12))
    )
    good = [answer for answer in answers if answer.status == 200]
    assert len(good) == DEFAULT_KEYS.max_count
    assert all(is_error(answer, 503) for answer in answers if answer.status != 200)
    delivered = [entry["key_ID"] for answer in good for entry in answer.json["keys"]]
    assert len(set(delivered)) == len(delivered)


# --- faults for client tests ---------------------------------------------------------------


async def test_fault_lost_answer_consumes(lab: KmeLab) -> None:
    lab.kmes["kme-moon"].faults.command(["lost-answer", "on"])
    with pytest.raises(aiohttp.ClientError):
        await lab.post("moon", "sun/enc_keys")
    lab.kmes["kme-moon"].faults.command(["lost-answer", "off"])
    assert (await lab.get("moon", "sun/status")).json["stored_key_count"] == 7
    assert (await lab.post("moon", "sun/enc_keys")).status == 200


async def test_fault_truncated(lab: KmeLab) -> None:
    lab.kmes["kme-moon"].faults.command(["truncated", "on"])
    with pytest.raises(aiohttp.ClientPayloadError):
        await lab.post("moon", "sun/enc_keys")


async def test_fault_unavailable_consumes_nothing(lab: KmeLab) -> None:
    lab.kmes["kme-moon"].faults.command(["unavailable", "on"])
    assert is_error(await lab.post("moon", "sun/enc_keys"), 503)
    assert len(lab.ids("kme-moon")) == 8


async def test_fault_garbage_is_not_json(lab: KmeLab) -> None:
    lab.kmes["kme-moon"].faults.command(["garbage", "on"])
    answer = await lab.post("moon", "sun/enc_keys")
    assert answer.status == 200
    assert answer.json is None


async def test_fault_wrong_size_and_duplicate_id(lab: KmeLab) -> None:
    faults = lab.kmes["kme-moon"].faults
    faults.command(["wrong-size", "on"])
    answer = await lab.post("moon", "sun/enc_keys")
    assert len(base64.b64decode(answer.json["keys"][0]["key"])) < 32
    faults.command(["wrong-size", "off"])
    faults.command(["duplicate-id", "on"])
    answer = await lab.post("moon", "sun/enc_keys", {"number": 2})
    assert len(key_ids(answer)) == 3
    assert len(set(key_ids(answer))) == 2


async def test_fault_slow_answers_late(lab: KmeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    release = asyncio.Event()

    async def held(_: float) -> None:
        await release.wait()

    monkeypatch.setattr("qkd_adapters.kme.server._pause", held)
    lab.kmes["kme-moon"].faults.command(["slow", "on"])
    request = asyncio.create_task(lab.post("moon", "sun/enc_keys"))
    assert (await lab.get("moon", "sun/status")).status == 200
    assert not request.done()
    release.set()
    assert (await request).status == 200


async def test_an_encrypted_key_is_an_error_and_nobody_is_asked_for_a_password(
    lab: KmeLab, tmp_path: Path
) -> None:
    settings = lab.settings("kme-moon")
    encrypted = tmp_path / "encrypted.key"
    key = serialization.load_pem_private_key(settings.key.read_bytes(), password=None)
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"word"),
        )
    )
    with pytest.raises(KmeStartupError, match=r"encrypted\.key"):
        server_context(replace(settings, key=encrypted))
