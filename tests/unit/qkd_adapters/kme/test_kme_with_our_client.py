"""kms_client against this KME: what one sends the other understands, faults included."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from kms_client.errors import (
    KmeError,
    KmeNonsenseError,
    KmeRefusedError,
    KmeTimeoutError,
    KmeUnauthorizedError,
    KmeUnavailableError,
    KmeUnreachableError,
)
from kms_client.etsi014 import KmeClient
from qkd_adapters.kme.faults import Fault
from tests.support.kme_lab import KmeLab


@asynccontextmanager
async def client_of(lab: KmeLab, sae: str, *, timeout: float = 3.0) -> AsyncIterator[KmeClient]:  # noqa: ASYNC109
    client = lab.client(sae, timeout=timeout)
    try:
        yield client
    finally:
        await client.close()


async def test_master_and_slave_get_the_same_keys(lab: KmeLab) -> None:
    async with client_of(lab, "moon") as moon, client_of(lab, "sun") as sun:
        sent = await moon.enc_keys("sun", number=3, size=512)
        received = await sun.dec_keys("moon", [key.key_id for key in sent])
        assert [(key.key_id, key.key) for key in received] == [
            (key.key_id, key.key) for key in sent
        ]


async def test_link_report_comes_through(lab: KmeLab) -> None:
    lab.source.suspect("error rate 9 %")
    lab.source.heal()
    await lab.connected()
    async with client_of(lab, "moon") as moon:
        status = await moon.status("sun")
        assert status.stored_key_count == 8
        report = status.link
        assert report is not None
        assert "error rate 9 %" in report.alarms


async def test_refusals_are_told_apart(lab: KmeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qkd_adapters.kme.server.NOTICE_WAIT", 0.01)
    async with client_of(lab, "moon") as moon, client_of(lab, "mars") as mars:
        (key,) = await moon.enc_keys("sun")
        with pytest.raises(KmeUnauthorizedError):
            await mars.dec_keys("moon", [key.key_id])
        with pytest.raises(KmeRefusedError):
            await mars.dec_keys("moon", [str(uuid4())])
        with pytest.raises(KmeRefusedError):
            await moon.enc_keys("sun", extension_mandatory=[{"route": "short"}])
        with pytest.raises(KmeUnavailableError):
            await moon.enc_keys("sun", number=8)
        with pytest.raises(KmeUnauthorizedError):
            await moon.status("venus")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.LOST_ANSWER, KmeUnreachableError),
        (Fault.TRUNCATED, KmeError),
        (Fault.SLOW, KmeTimeoutError),
        (Fault.UNAVAILABLE, KmeUnavailableError),
        (Fault.GARBAGE, KmeNonsenseError),
        (Fault.WRONG_SIZE, KmeNonsenseError),
        (Fault.DUPLICATE_ID, KmeNonsenseError),
    ],
)
async def test_every_fault_is_an_error_of_the_client_and_passes(
    lab: KmeLab, fault: Fault, error: type[KmeError]
) -> None:
    faults = lab.kmes["kme-moon"].faults
    async with client_of(lab, "moon", timeout=0.3) as moon:
        faults.command([fault.value, "on"])
        with pytest.raises(error):
            await moon.enc_keys("sun")
        faults.command([fault.value, "off"])
        assert len(await moon.enc_keys("sun")) == 1
