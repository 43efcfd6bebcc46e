"""AUTH with a pre-shared key, and IntAuth."""

from __future__ import annotations

import hmac

from gateway.crypto.algorithms import PrfId
from gateway.crypto.prf import Prf
from gateway.crypto.secret import Secret
from gateway.ike.auth import IntAuth, psk_auth, psk_verify, signed_octets

PRF = Prf(PrfId.HMAC_SHA2_256)
PSK = Secret(b"correct horse")


def prf(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def test_psk_auth_follows_rfc_7296_2_15():
    made = psk_auth(PRF, PSK, b"octets")
    assert made == prf(prf(b"correct horse", b"Key Pad for IKEv2"), b"octets")


def test_psk_verify():
    made = psk_auth(PRF, PSK, b"octets")
    assert psk_verify(PRF, PSK, b"octets", made)
    assert not psk_verify(PRF, PSK, b"other octets", made)
    assert not psk_verify(PRF, Secret(b"another"), b"octets", made)
    assert not psk_verify(PRF, PSK, b"octets", made[:-1])
    assert not psk_verify(PRF, PSK, b"octets", b"")


def test_signed_octets():
    made = signed_octets(
        prf=PRF,
        message=b"message",
        nonce=b"nonce",
        sk_p=Secret(b"k" * 32),
        identity=b"identity",
        int_auth=b"int",
    )
    assert made == b"message" + b"nonce" + prf(b"k" * 32, b"identity") + b"int"


def test_int_auth_without_intermediate_is_empty():
    assert IntAuth().octets(1) == b""


def test_int_auth_chains_over_the_exchanges():
    int_auth = IntAuth()
    keys = [Secret(bytes((number,)) * 32) for number in range(4)]
    int_auth.add_request(PRF, keys[0], b"request 1")
    int_auth.add_response(PRF, keys[1], b"response 1")
    int_auth.add_request(PRF, keys[2], b"request 2")
    int_auth.add_response(PRF, keys[3], b"response 2")
    first = prf(bytes(32), b"request 1")
    answer = prf(b"\x01" * 32, b"response 1")
    assert int_auth.octets(3) == (
        prf(b"\x02" * 32, first + b"request 2")
        + prf(b"\x03" * 32, answer + b"response 2")
        + b"\x00\x00\x00\x03"
    )
