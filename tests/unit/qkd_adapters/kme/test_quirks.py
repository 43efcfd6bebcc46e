"""Our client at our KME with each quirk on: with the right profile keys come; without, an error
that names the KME, and a key that was given is not put to a use its owner does not know of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from kms_client.errors import (
    KmeEmptyError,
    KmeError,
    KmeNonsenseError,
    KmeRefusedError,
)
from kms_client.etsi014 import KmeClient
from kms_client.profiles import (
    DEFAULT_PROFILE,
    PROFILES,
    Base64,
    KeyIds,
    Profile,
    SaeIds,
    find_profile,
)
from kms_client.tls import TlsFiles
from qkd_adapters.errors import ControlRequestError
from qkd_adapters.kme.faults import Fault
from qkd_adapters.kme.quirk_names import Quirk
from qkd_adapters.kme.quirks import PREFIX, Quirks
from tests.support.kme_lab import SITES, KmeLab

STRICT = PROFILES[DEFAULT_PROFILE]
LENIENT = find_profile("lenient")
NUMBERS = {"mars": "1", "moon": "2", "sun": "3"}  # in alphabetical order


@pytest.fixture(autouse=True)
def _short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qkd_adapters.kme.server.NOTICE_WAIT", 0.5)


@asynccontextmanager
async def client_of(
    lab: KmeLab, sae: str, profile: Profile = STRICT, *, path: str = "", **settings: Any
) -> AsyncIterator[KmeClient]:
    files = TlsFiles(
        ca=lab.pki / "ca.pem", certificate=lab.pki / f"{sae}.pem", key=lab.pki / f"{sae}.key"
    )
    client = KmeClient(
        name=SITES[sae], url=lab.url(SITES[sae]) + path, tls=files, profile=profile, **settings
    )
    try:
        yield client
    finally:
        await client.close()


def switch(lab: KmeLab, *quirks: Quirk) -> None:
    for kme in lab.kmes.values():
        for quirk in quirks:
            kme.quirks.command([quirk.value, "on"])


async def round_trip(moon: KmeClient, sun: KmeClient, number: int = 1) -> None:
    sent = await moon.enc_keys("sun", number=number)
    received = await sun.dec_keys("moon", [key.key_id for key in sent])
    assert [key.key for key in sent] == [key.key for key in received]
    assert [key.key_id for key in sent] == [key.key_id for key in received]


@pytest.mark.parametrize(
    ("quirk", "profile", "settings"),
    [
        (
            Quirk.INTEGER_SAE_IDS,
            replace(STRICT, sae_ids=SaeIds.INTEGER),
            {"peers": NUMBERS},
        ),
        (Quirk.URL_BASE64, replace(STRICT, base64=Base64.ANY), {}),
        (Quirk.URL_BASE64, LENIENT, {}),
        (Quirk.HEX_KEY_IDS, replace(STRICT, key_ids=KeyIds.HEX), {}),
        (Quirk.UPPER_KEY_IDS, replace(STRICT, key_ids=KeyIds.UPPER), {}),
        (Quirk.GET_ONLY, replace(STRICT, get=True), {}),
        (Quirk.PATH_PREFIX, STRICT, {"path": PREFIX}),
    ],
)
async def test_with_its_profile_each_works_and_without_none_does(
    lab: KmeLab, quirk: Quirk, profile: Profile, settings: dict[str, Any]
) -> None:
    switch(lab, quirk)
    async with (
        client_of(lab, "moon", profile, **settings) as moon,
        client_of(lab, "sun", profile, **settings) as sun,
    ):
        assert (await moon.status("sun")).stored_key_count == 8
        await round_trip(moon, sun)
    async with client_of(lab, "moon") as moon, client_of(lab, "sun") as sun:
        with pytest.raises(KmeError, match=r"KME kme-(moon|sun): "):
            await round_trip(moon, sun)


@pytest.mark.parametrize(
    "quirk", [Quirk.FEWER_KEYS, Quirk.REPEATABLE_READS, Quirk.POST_ONLY, Quirk.NO_STATUS]
)
async def test_some_need_no_profile(lab: KmeLab, quirk: Quirk) -> None:
    switch(lab, quirk)
    async with client_of(lab, "moon") as moon, client_of(lab, "sun") as sun:
        await round_trip(moon, sun, number=3)


async def test_an_ignored_size(lab: KmeLab) -> None:
    """Asked for 512 bits it gives 256: an error without the profile, nothing asked with it."""
    switch(lab, Quirk.IGNORES_SIZE)
    store = lab.kmes["kme-moon"].store
    direction = next(each for each in store.directions if each.slave == "sun")
    async with client_of(lab, "moon") as moon:
        with pytest.raises(KmeNonsenseError, match=r"KME kme-moon: gave keys of \[256\] bits"):
            await moon.enc_keys("sun", size=512)
        assert store.stored(direction) == 7  # the key is gone, and we were told
    profile = replace(STRICT, fixed_size=256)
    async with client_of(lab, "moon", profile) as moon, client_of(lab, "sun", profile) as sun:
        with pytest.raises(KmeRefusedError, match=r"KME kme-moon: not asked: .*256 bits only"):
            await moon.enc_keys("sun", size=512)
        assert store.stored(direction) == 7  # no key was lost
        await round_trip(moon, sun)


async def test_odd_status_codes(lab: KmeLab) -> None:
    switch(lab, Quirk.ODD_STATUS)
    unknown = "6a1c1c9e-0a36-4b1e-9d5c-0f1c6f0c2a01"
    for profile, empty in ((LENIENT, KmeEmptyError), (STRICT, KmeRefusedError)):
        async with client_of(lab, "moon", profile) as moon, client_of(lab, "sun", profile) as sun:
            with pytest.raises(KmeRefusedError, match=r"KME kme-sun: .*404"):
                await sun.dec_keys("moon", [unknown])
            if profile is LENIENT:
                await moon.enc_keys("sun", number=8)
            with pytest.raises(empty, match=r"KME kme-moon: .*404") as caught:
                await moon.enc_keys("sun")
            assert type(caught.value) is empty


async def test_a_key_can_be_read_again_only_with_the_quirk(lab: KmeLab) -> None:
    async with client_of(lab, "moon") as moon, client_of(lab, "sun") as sun:
        (key,) = await moon.enc_keys("sun")
        await sun.dec_keys("moon", [key.key_id])
        with pytest.raises(KmeRefusedError):
            await sun.dec_keys("moon", [key.key_id])
        switch(lab, Quirk.REPEATABLE_READS)
        (key,) = await moon.enc_keys("sun")
        for _ in range(2):
            (again,) = await sun.dec_keys("moon", [key.key_id])
            assert again.key == key.key


async def test_short_retention(short_dir: Any) -> None:
    class Clock:
        now = 1000.0

    async with KmeLab(short_dir, clock=lambda: Clock.now) as lab:
        await lab.filled()
        lab.source.cut()
        switch(lab, Quirk.SHORT_RETENTION)
        async with client_of(lab, "moon") as moon, client_of(lab, "sun") as sun:
            await round_trip(moon, sun)
            (key,) = await moon.enc_keys("sun")
            await asyncio.sleep(0)
            (late,) = await moon.enc_keys("sun")
            (in_time,) = await sun.dec_keys("moon", [late.key_id])
            assert in_time.key == late.key
            Clock.now += 2.0
            with pytest.raises(KmeRefusedError, match=r"KME kme-sun: .*not found"):
                await sun.dec_keys("moon", [key.key_id])


async def test_one_outstanding_key(lab: KmeLab) -> None:
    switch(lab, Quirk.ONE_OUTSTANDING)
    async with client_of(lab, "moon") as moon, client_of(lab, "sun") as sun:
        (first,) = await moon.enc_keys("sun")
        (second,) = await moon.enc_keys("sun")
        (key,) = await sun.dec_keys("moon", [second.key_id])
        assert key.key == second.key
        with pytest.raises(KmeRefusedError, match=r"KME kme-sun: .*not found"):
            await sun.dec_keys("moon", [first.key_id])


async def test_a_desynchronised_pool(lab: KmeLab) -> None:
    """The master cannot know; the slave's KME refuses, and the next key without it is good."""
    lab.kmes["kme-moon"].faults.command([Fault.DESYNCHRONISED.value, "on"])
    async with client_of(lab, "moon") as moon, client_of(lab, "sun") as sun:
        (key,) = await moon.enc_keys("sun")
        with pytest.raises(KmeRefusedError, match=r"KME kme-sun: .*not found"):
            await sun.dec_keys("moon", [key.key_id])
        lab.kmes["kme-moon"].faults.command([Fault.DESYNCHRONISED.value, "off"])
        await round_trip(moon, sun)


async def test_a_key_that_expires_before_the_slave_asks(lab: KmeLab) -> None:
    kme = lab.kmes["kme-sun"]
    kme.faults.command([Fault.EXPIRED.value, "on"])
    async with client_of(lab, "moon") as moon, client_of(lab, "sun") as sun:
        (key,) = await moon.enc_keys("sun")
        with pytest.raises(KmeRefusedError, match=r"KME kme-sun: .*not found"):
            await sun.dec_keys("moon", [key.key_id])
    direction = next(each for each in kme.store.directions if each.slave == "sun")
    assert kme.store.account(direction).unfetched == 1


def test_a_command_that_is_none() -> None:
    with pytest.raises(ControlRequestError, match=r"hex-key-ids"):
        Quirks(["moon"]).command(["nonsense", "on"])
