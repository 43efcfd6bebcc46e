"""AES-GCM and ChaCha20-Poly1305 with salt and IV."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.crypto.aead import IkeAead, keymat_size
from gateway.crypto.algorithms import EncryptionId
from gateway.crypto.secret import Secret
from gateway.errors import CryptoError
from tests.support.vectors import load

CIPHERS = {
    "AES-GCM": EncryptionId.AES_GCM_16,
    "CHACHA20-POLY1305": EncryptionId.CHACHA20_POLY1305,
}


@pytest.mark.parametrize(
    "case", load("wycheproof_aead"), ids=lambda c: f"{c['cipher']}-{c['tcId']}"
)
def test_wycheproof_aead(case: dict[str, Any]) -> None:
    nonce = bytes.fromhex(case["iv"])
    key = Secret(bytes.fromhex(case["key"]) + nonce[:4])
    aead = IkeAead(key, CIPHERS[case["cipher"]])
    aad, message = bytes.fromhex(case["aad"]), bytes.fromhex(case["msg"])
    sealed = bytes.fromhex(case["ct"] + case["tag"])
    if case["result"] == "valid":
        assert aead.open(nonce[4:], aad, sealed) == message
        assert aead.seal(nonce[4:], aad, message) == sealed
    else:
        with pytest.raises(CryptoError):
            aead.open(nonce[4:], aad, sealed)


@pytest.fixture
def aead() -> IkeAead:
    return IkeAead(Secret(bytes(range(36))))


def test_any_changed_octet_is_noticed(aead: IkeAead) -> None:
    iv, aad = bytes(8), b"header"
    sealed = aead.seal(iv, aad, b"content")
    assert aead.open(iv, aad, sealed) == b"content"
    for position in range(len(sealed)):
        broken = bytearray(sealed)
        broken[position] ^= 1
        with pytest.raises(CryptoError, match="ICV"):
            aead.open(iv, aad, bytes(broken))
    with pytest.raises(CryptoError):
        aead.open(iv, b"Header", sealed)
    with pytest.raises(CryptoError):
        aead.open(bytes(7) + b"\x01", aad, sealed)


def test_the_salt_is_part_of_the_nonce(aead: IkeAead) -> None:
    other = IkeAead(Secret(bytes(range(32)) + b"salt"))
    with pytest.raises(CryptoError):
        other.open(bytes(8), b"", aead.seal(bytes(8), b"", b"content"))


def test_less_than_an_icv_is_an_error_not_a_crash(aead: IkeAead) -> None:
    for size in range(16):
        with pytest.raises(CryptoError):
            aead.open(bytes(8), b"", bytes(size))


def test_key_of_a_wrong_size() -> None:
    with pytest.raises(CryptoError, match="35 octets"):
        IkeAead(Secret(bytes(35)))
    with pytest.raises(CryptoError):
        IkeAead(Secret(bytes(20)), EncryptionId.CHACHA20_POLY1305)


def test_keymat_sizes() -> None:
    assert keymat_size(EncryptionId.AES_GCM_16, 256) == 36
    assert keymat_size(EncryptionId.AES_GCM_16, 128) == 20
    assert keymat_size(EncryptionId.CHACHA20_POLY1305, None) == 36
    with pytest.raises(ValueError, match="192"):
        keymat_size(EncryptionId.AES_GCM_16, 192)
