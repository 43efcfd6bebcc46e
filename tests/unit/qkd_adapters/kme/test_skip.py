"""SKIP at our KME with our client: the same keys as by ETSI 014, and the draft's errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import NoReturn

import pytest

from kms_client.errors import (
    KmeEmptyError,
    KmeRefusedError,
    KmeUnauthorizedError,
    KmeUnreachableError,
)
from kms_client.failover import KmeGroup
from kms_client.pool import KeyPool, PoolSettings
from kms_client.skip import SkipClient
from kms_client.tls import ClientTls, TlsFiles
from qkd_adapters.kme.faults import Fault
from tests.support.kme_lab import SITES, KmeLab, eventually

Connect = Callable[[str], SkipClient]


@pytest.fixture(autouse=True)
def _short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qkd_adapters.kme.server.NOTICE_WAIT", 0.2)


@pytest.fixture
async def connect(lab: KmeLab) -> AsyncIterator[Connect]:
    clients = []

    def make(sae: str, kme: str | None = None) -> SkipClient:
        site = kme or SITES[sae]
        files = TlsFiles(
            ca=lab.pki / "ca.pem", certificate=lab.pki / f"{sae}.pem", key=lab.pki / f"{sae}.key"
        )
        clients.append(SkipClient(name=site, url=lab.url(site), tls=ClientTls(files)))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


async def test_both_ends_get_the_same_keys(connect: Connect) -> None:
    sent = await connect("moon").enc_keys("sun", number=3, size=512)
    received = await connect("sun").dec_keys("moon", [key.key_id for key in sent])
    assert [key.key for key in sent] == [key.key for key in received]
    assert len(sent) == 3


async def test_a_key_taken_by_skip_is_had_by_etsi_014(lab: KmeLab, connect: Connect) -> None:
    (key,) = await connect("moon").enc_keys("sun")
    sun = lab.client("sun")
    (same,) = await sun.dec_keys("moon", [key.key_id])
    await sun.close()
    assert same.key == key.key


async def test_capabilities(connect: Connect) -> None:
    client = connect("moon")
    can = await client.capabilities()
    assert (can.local, can.remotes, can.key, can.entropy) == ("moon", ("sun", "mars"), True, True)
    assert (await client.status("sun")).stored_key_count is None
    with pytest.raises(KmeRefusedError, match=r"names? no remote system venus"):
        await client.status("venus")


async def test_entropy_is_never_the_same(connect: Connect) -> None:
    client = connect("moon")
    first, second = await client.entropy(512), await client.entropy(512)
    assert len(first) == 64
    assert first != second


async def test_a_key_is_given_once(connect: Connect) -> None:
    (key,) = await connect("moon").enc_keys("sun")
    sun = connect("sun")
    await sun.dec_keys("moon", [key.key_id])
    with pytest.raises(KmeRefusedError, match=r"KME kme-sun: .*400"):
        await sun.dec_keys("moon", [key.key_id])


async def test_another_pairs_key_is_not_given(connect: Connect) -> None:
    (key,) = await connect("moon").enc_keys("sun")
    with pytest.raises(KmeRefusedError, match=r"KME kme-sun: .*400"):
        await connect("mars").dec_keys("moon", [key.key_id])


async def test_refusals(connect: Connect) -> None:
    client = connect("moon")
    with pytest.raises(KmeRefusedError, match=r"no such remoteSystemID"):
        await client.enc_keys("venus")
    with pytest.raises(KmeRefusedError, match=r"not one this key provider gives"):
        await client.enc_keys("sun", size=4096)
    assert len(await client.enc_keys("sun", number=9)) == 8
    with pytest.raises(KmeEmptyError, match=r"not enough keys"):
        await client.enc_keys("sun")
    with pytest.raises(KmeUnauthorizedError):
        await connect("stranger", "kme-moon").enc_keys("sun")


async def test_a_lost_answer_costs_one_key_and_is_told(lab: KmeLab, connect: Connect) -> None:
    lab.kmes["kme-moon"].faults.command([Fault.LOST_ANSWER.value, "on"])
    with pytest.raises(KmeUnreachableError, match=r"KME kme-moon"):
        await connect("moon").enc_keys("sun")
    store = lab.kmes["kme-moon"].store
    direction = next(each for each in store.directions if each.slave == "sun")
    assert store.stored(direction) == 7


async def test_a_pool_fills_from_skip_when_etsi_014_fails(lab: KmeLab, connect: Connect) -> None:
    """Both protocols in one group: to pool and failover they look the same."""
    etsi = lab.client("moon")
    etsi.name = "etsi"

    async def refuse(*_: object, **__: object) -> NoReturn:
        raise KmeUnreachableError("etsi", "cannot connect")

    etsi.enc_keys = etsi.status = refuse  # type: ignore[method-assign]
    group = KmeGroup([etsi, connect("moon")])
    pool = KeyPool(group, peer_sae="sun", settings=PoolSettings(target=2, low_water=1))
    pool.start()
    try:
        await eventually(lambda: pool.stock().ready == 2)
        key = pool.take()
        assert key is not None
        (same,) = await connect("sun").dec_keys("moon", [key.key_id])
        assert same.key == key.key
        assert pool.stock().stored_at_kme is None  # SKIP has no count
        assert [(kme.name, kme.active) for kme in group.health()] == [
            ("etsi", False),
            ("kme-moon", True),
        ]
    finally:
        await pool.stop()
        await group.close()


async def test_only_get_is_supported(lab: KmeLab) -> None:
    """Table 3: 405, and no key is taken."""
    import aiohttp

    connector = aiohttp.TCPConnector(ssl=lab.client_context("moon"))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(f"{lab.url('kme-moon')}/key?remoteSystemID=sun") as response,
    ):
        assert response.status == 405
