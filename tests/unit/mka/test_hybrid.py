"""A CAK from what an IKE SA exports."""

from __future__ import annotations

import hmac
from dataclasses import replace

import pytest

from gateway.crypto.secret import Secret
from gateway.mka.hybrid import EXPORT_SIZE, hybrid_cak
from gateway.mka.keys import MkaKeys
from gateway.model import KeyId, Mixed, PpkMethod

EXPORTED = bytes(range(EXPORT_SIZE))
MIXED = Mixed(
    key_exchanges=("X25519", "ML-KEM-768"),
    key_id=KeyId("11111111-2222-3333-4444-555555555555"),
    ppk_method=PpkMethod.INTERMEDIATE,
)
GIVEN = {"initiator": b"\x02moon", "responder": b"\x02sun", "link": "metro-1", "mixed": MIXED}


def made(exported: bytes = EXPORTED, **change):
    return hybrid_cak(Secret(exported), **(GIVEN | change))


def test_both_ends_have_the_same():
    one, other = made(), made()
    assert one.key == other.key
    assert one.ckn == other.ckn
    assert len(one.ckn) == len(one.key) == 32
    assert len(made(size=16).key) == 16


@pytest.mark.parametrize(
    "change",
    [
        {"exported": bytes(EXPORT_SIZE)},
        {"initiator": b"\x02mars"},
        {"responder": b"\x02mars"},
        {"initiator": b"\x02sun", "responder": b"\x02moon"},
        {"initiator": b"\x02moo", "responder": b"n\x02sun"},
        {"link": "metro-2"},
        {"mixed": replace(MIXED, key_exchanges=("X25519",))},
        {"mixed": replace(MIXED, key_exchanges=("X25519ML-KEM-768",))},
        {"mixed": replace(MIXED, key_id=None, ppk_method=None)},
        {"mixed": replace(MIXED, ppk_method=PpkMethod.AUTH)},
        {"size": 16},
    ],
)
def test_whatever_differs_gives_another(change):
    first, second = made(), made(**change)
    assert first.ckn != second.ckn
    assert first.key.expose()[:16] != second.key.expose()[:16]
    keys = MkaKeys(first), MkaKeys(second)
    assert not keys[1].verifies(b"frame", keys[0].icv(b"frame"))


def test_as_it_is_written_down():
    """The formula of the module, written out once more."""

    def field(octets: bytes) -> bytes:
        return len(octets).to_bytes(2, "big") + octets

    seed = field(b"\x02moon") + field(b"\x02sun") + field(b"metro-1")
    seed += b"\x02" + field(b"X25519") + field(b"ML-KEM-768")
    seed += field(b"RFC9867") + field(b"11111111-2222-3333-4444-555555555555")
    for label, octets in ((b"CAK", made().key.expose()), (b"CKN", made().ckn)):
        text = b"qsgw MKA " + label + b" v1\x00\x20" + seed + b"\x01"
        assert octets == hmac.digest(EXPORTED, text, "sha512")[:32]


@pytest.mark.parametrize(
    "change",
    [
        {"exported": bytes(32)},
        {"size": 24},
        {"link": ""},
        {"initiator": b""},
        {"initiator": b"\x02sun"},
    ],
)
def test_what_cannot_be(change):
    with pytest.raises(ValueError):
        made(**change)


def test_the_exported_secret_stays_the_callers():
    exported = Secret(EXPORTED)
    hybrid_cak(exported, **GIVEN).wipe()
    assert exported.expose() == EXPORTED
