"""HMAC PRFs and prf+."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.crypto.algorithms import PrfId
from gateway.crypto.prf import Prf
from gateway.crypto.secret import Secret
from tests.support.vectors import load

PRF_OF_HASH = {
    "sha256": PrfId.HMAC_SHA2_256,
    "sha384": PrfId.HMAC_SHA2_384,
    "sha512": PrfId.HMAC_SHA2_512,
}


@pytest.mark.parametrize("case", load("wycheproof_hmac"), ids=lambda c: f"{c['hash']}-{c['tcId']}")
def test_wycheproof_hmac(case: dict[str, Any]) -> None:
    prf = Prf(PRF_OF_HASH[case["hash"]])
    tag = prf.compute(bytes.fromhex(case["key"]), bytes.fromhex(case["msg"]))
    assert (tag.hex() == case["tag"]) == (case["result"] == "valid")


@pytest.mark.parametrize("case", load("prf_plus"), ids=lambda c: c["what"])
def test_prf_plus_check_values(case: dict[str, Any]) -> None:
    prf = Prf(PrfId(case["prf"]))
    key, seed = bytes.fromhex(case["key"]), bytes.fromhex(case["seed"])
    length = len(case["out"]) // 2
    assert prf.plus(key, seed, length).expose().hex() == case["out"]
    assert prf.plus(Secret(key), Secret(seed), length).expose().hex() == case["out"]


@pytest.mark.parametrize(
    ("prf_id", "size"),
    [(PrfId.HMAC_SHA2_256, 32), (PrfId.HMAC_SHA2_384, 48), (PrfId.HMAC_SHA2_512, 64)],
)
def test_sizes(prf_id: PrfId, size: int) -> None:
    prf = Prf(prf_id)
    assert (prf.size, prf.key_size, len(prf.compute(b"k", b"d"))) == (size, size, size)


def test_prf_plus_chains_its_blocks() -> None:
    """RFC 7296 2.13: T1 = prf(K, S | 1), T2 = prf(K, T1 | S | 2), ..."""
    prf = Prf(PrfId.HMAC_SHA2_256)
    first = prf.compute(b"key", b"seed\x01")
    second = prf.compute(b"key", first + b"seed\x02")
    third = prf.compute(b"key", second + b"seed\x03")
    assert prf.plus(b"key", b"seed", 80).expose() == (first + second + third)[:80]


def test_a_shorter_output_begins_a_longer_one() -> None:
    prf = Prf(PrfId.HMAC_SHA2_512)
    assert prf.plus(b"k", b"s", 200).expose().startswith(prf.plus(b"k", b"s", 65).expose())


def test_prf_plus_ends_at_255_blocks() -> None:
    prf = Prf(PrfId.HMAC_SHA2_256)
    assert len(prf.plus(b"k", b"s", 255 * 32)) == 255 * 32
    with pytest.raises(ValueError, match="8161"):
        prf.plus(b"k", b"s", 255 * 32 + 1)
