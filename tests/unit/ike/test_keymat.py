"""The key schedule against values computed outside of qsgw, and its properties."""

from __future__ import annotations

import hmac
from itertools import pairwise

import pytest

from gateway.crypto.algorithms import PrfId
from gateway.crypto.prf import Prf
from gateway.crypto.secret import Secret
from gateway.ike import keymat
from gateway.ike.ppk import confirmation

PRF = Prf(PrfId.HMAC_SHA2_256)
NI, NR = b"N" * 32, b"R" * 32
SPI_I, SPI_R = bytes.fromhex("0102030405060708"), bytes.fromhex("1112131415161718")
PPK = b"P" * 32
SK_D = bytes(range(32))
INPUTS = keymat.KeyInputs(
    prf=PRF, encryption_size=36, nonce_i=NI, nonce_r=NR, spi_i=SPI_I, spi_r=SPI_R
)


def prf(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def prf_plus(key: bytes, seed: bytes, size: int) -> bytes:
    out, block, counter = b"", b"", 1
    while len(out) < size:
        block = prf(key, block + seed + bytes((counter,)))
        out += block
        counter += 1
    return out[:size]


def keys_with(sk_d: bytes) -> keymat.IkeKeys:
    filler = [Secret(bytes((number,)) * 36) for number in range(4)]
    return keymat.IkeKeys(
        sk_d=Secret(sk_d), sk_ei=filler[0], sk_er=filler[1], sk_pi=filler[2], sk_pr=filler[3]
    )


def expected(skeyseed: bytes) -> list[bytes]:
    stream = prf_plus(skeyseed, NI + NR + SPI_I + SPI_R, 3 * 32 + 2 * 36)
    cuts = [0, 32, 68, 104, 136, 168]
    return [stream[one:two] for one, two in pairwise(cuts)]


def exposed(keys: keymat.IkeKeys) -> list[bytes]:
    return [
        secret.expose() for secret in (keys.sk_d, keys.sk_ei, keys.sk_er, keys.sk_pi, keys.sk_pr)
    ]


def test_initial_keys_follow_rfc_7296_2_14():
    keys = keymat.initial_keys(INPUTS, Secret(b"g^ir"))
    assert exposed(keys) == expected(prf(NI + NR, b"g^ir"))


def test_additional_keys_follow_rfc_9370_2_2_2():
    keys = keymat.additional_keys(INPUTS, keys_with(SK_D), Secret(b"SK(1)"))
    assert exposed(keys) == expected(prf(SK_D, b"SK(1)" + NI + NR))


def test_rfc_9867_known_answers():
    """Values computed independently with Python's hmac when the formula was written down."""
    keys = keymat.ppk_intermediate_keys(INPUTS, keys_with(SK_D), Secret(PPK))
    assert keys.sk_d.expose().hex() == (
        "3545e71f042b3529325bbd7eb4203ee4861b57ab0097d653863501a1725e88a5"
    )
    made = confirmation(PRF, Secret(PPK), NI + NR, SPI_I, SPI_R)
    assert made.hex() == "6c069ac529d7e4de"


def test_rfc_8784_known_answer_and_what_stays():
    before = keys_with(SK_D)
    keys = keymat.ppk_auth_keys(PRF, before, Secret(PPK))
    assert keys.sk_d.expose().hex() == (
        "f4fd040b366e437219286e834d4fbbc98af42b7c7f276b1f4ea36c18217b67a5"
    )
    assert keys.sk_ei == before.sk_ei
    assert keys.sk_er == before.sk_er
    assert keys.sk_pi.expose() == prf_plus(PPK, before.sk_pi.expose(), 32)
    assert keys.sk_pr.expose() == prf_plus(PPK, before.sk_pr.expose(), 32)


def test_child_keymat_of_the_first_child():
    ours, theirs = keymat.child_keymat(PRF, Secret(SK_D), NI + NR, (), 36)
    stream = prf_plus(SK_D, NI + NR, 72)
    assert ours.expose() + theirs.expose() == stream


def test_child_keymat_with_key_exchanges_has_the_first_before_the_nonces():
    shared = [Secret(b"zero"), Secret(b"one"), Secret(b"two")]
    ours, theirs = keymat.child_keymat(PRF, Secret(SK_D), NI + NR, shared, 36)
    stream = prf_plus(SK_D, b"zero" + NI + NR + b"one" + b"two", 72)
    assert ours.expose() + theirs.expose() == stream


def test_fresh_ppk_changes_the_child_and_nothing_else():
    sk_d = Secret(SK_D)
    mixed = keymat.fresh_sk_d(PRF, sk_d, Secret(PPK))
    assert mixed.expose() == prf_plus(PPK, SK_D, 32)
    assert sk_d.expose() == SK_D
    assert keymat.fresh_sk_d(PRF, sk_d, None) == sk_d


@pytest.mark.parametrize("prf_id", list(PrfId))
def test_sizes_follow_the_prf(prf_id):
    one = Prf(prf_id)
    inputs = keymat.KeyInputs(
        prf=one, encryption_size=20, nonce_i=NI, nonce_r=NR, spi_i=SPI_I, spi_r=SPI_R
    )
    keys = keymat.initial_keys(inputs, Secret(b"x"))
    assert [len(octets) for octets in exposed(keys)] == [one.size, 20, 20, one.size, one.size]
    assert len(set(exposed(keys))) == 5


def test_wipe():
    keys = keymat.initial_keys(INPUTS, Secret(b"x"))
    keys.wipe()
    with pytest.raises(ValueError, match="wiped"):
        keys.sk_d.expose()
