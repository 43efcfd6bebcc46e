"""ML-KEM in the encodings of IKEv2."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.crypto import mlkem
from gateway.crypto.algorithms import KeMethod
from gateway.errors import CryptoError
from tests.support.vectors import load

METHODS = {"ML-KEM-768": KeMethod.ML_KEM_768, "ML-KEM-1024": KeMethod.ML_KEM_1024}
# KE payloads of 1192/1096 and 1576/1576 octets, less their eight of headers.
SIZES = {KeMethod.ML_KEM_768: (1184, 1088), KeMethod.ML_KEM_1024: (1568, 1568)}


@pytest.mark.parametrize(
    "case",
    load("wycheproof_mlkem"),
    ids=lambda c: f"{c['parameters']}-{c['kind']}-{c['tcId']}",
)
def test_wycheproof_mlkem(case: dict[str, Any]) -> None:
    method = METHODS[case["parameters"]]
    valid = case["result"] == "valid"
    if case["kind"] == "encapsulate":
        assert not valid
        with pytest.raises(CryptoError):
            mlkem.respond(method, bytes.fromhex(case["ek"]))
        return
    seed, ciphertext = bytes.fromhex(case["seed"]), bytes.fromhex(case["c"])
    if valid:
        ours = mlkem.from_seed(method, seed)
        assert ours.public.hex() == case["ek"]
        assert ours.finish(ciphertext).expose().hex() == case["K"]
    else:
        with pytest.raises(CryptoError):
            mlkem.from_seed(method, seed).finish(ciphertext)


@pytest.mark.parametrize("method", SIZES, ids=lambda m: m.name)
def test_both_ends_agree(method: KeMethod) -> None:
    initiator = mlkem.initiate(method)
    ciphertext, secret = mlkem.respond(method, initiator.public)
    assert (len(initiator.public), len(ciphertext)) == SIZES[method]
    assert len(secret) == 32
    assert initiator.finish(ciphertext) == secret


@pytest.mark.parametrize("method", SIZES, ids=lambda m: m.name)
def test_a_corrupt_ciphertext_gives_another_secret(method: KeMethod) -> None:
    """Implicit rejection (FIPS 203 6.3): no error here, the next ICV does not verify."""
    initiator = mlkem.initiate(method)
    ciphertext, secret = mlkem.respond(method, initiator.public)
    corrupt = bytes((ciphertext[0] ^ 1,)) + ciphertext[1:]
    assert initiator.finish(corrupt) != secret


@pytest.mark.parametrize("method", SIZES, ids=lambda m: m.name)
def test_wrong_sizes_are_refused_by_name(method: KeMethod) -> None:
    initiator = mlkem.initiate(method)
    ciphertext, _ = mlkem.respond(method, initiator.public)
    with pytest.raises(CryptoError, match=f"encapsulation key has {SIZES[method][0] - 1} octets"):
        mlkem.respond(method, initiator.public[:-1])
    with pytest.raises(CryptoError, match=f"ciphertext has {SIZES[method][1] + 1} octets"):
        initiator.finish(ciphertext + b"\x00")


def test_a_coefficient_above_the_modulus_is_refused() -> None:
    """FIPS 203 7.2: 3329 itself, in the first coefficient."""
    public = bytearray(mlkem.initiate(KeMethod.ML_KEM_768).public)
    public[0], public[1] = 3329 & 0xFF, (public[1] & 0xF0) | (3329 >> 8)
    with pytest.raises(CryptoError, match="modulus"):
        mlkem.respond(KeMethod.ML_KEM_768, bytes(public))
