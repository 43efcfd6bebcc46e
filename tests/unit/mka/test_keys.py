"""KDF, KEK, ICK, ICV, key wrap, salt."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from gateway.crypto.secret import Secret
from gateway.errors import CryptoError
from gateway.mka.identifiers import KeyIdentifier, MemberId
from gateway.mka.keys import Cak, MkaKeys, SakInputs, derive_sak, kdf, xpn_salt
from tests.support.vectors import load

CASES = load("mka")
case = pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])


def octets(case, name) -> bytes:
    return bytes.fromhex(case[name])


def cak_of(case) -> Cak:
    return Cak(Secret(octets(case, "cak")), octets(case, "ckn"))


@case
def test_sak_is_derived_as_others_do(case):
    sak = kdf(cak_of(case).key, b"IEEE8021 SAK", octets(case, "sak_context"), len(case["sak"]) // 2)
    assert sak.expose() == octets(case, "sak")


@case
def test_kek_wraps_as_others_do(case):
    keys = MkaKeys(cak_of(case))
    assert keys.wrap(Secret(octets(case, "sak"))) == octets(case, "wrapped_sak")
    assert keys.unwrap(octets(case, "wrapped_sak")) == Secret(octets(case, "sak"))


@case
def test_icv_is_made_as_others_do(case):
    keys = MkaKeys(cak_of(case))
    keys.ick = kdf(cak_of(case).key, b"IEEE8021 ICK", octets(case, "ick_context"), len(keys.ick))
    assert keys.icv(octets(case, "data")) == octets(case, "icv")
    assert keys.verifies(octets(case, "data"), octets(case, "icv"))


@case
@pytest.mark.parametrize("at", [0, 7, 15])
def test_a_changed_icv_or_wrapped_key_is_refused(case, at):
    keys = MkaKeys(cak_of(case))
    icv = bytearray(keys.icv(b"data"))
    icv[at] ^= 1
    assert not keys.verifies(b"data", bytes(icv))
    assert not keys.verifies(b"data", bytes(icv[:at]))
    wrapped = bytearray(octets(case, "wrapped_sak"))
    wrapped[at] ^= 1
    with pytest.raises(CryptoError):
        keys.unwrap(bytes(wrapped))
    with pytest.raises(CryptoError):
        keys.unwrap(bytes(wrapped[:at]))


def test_the_longer_key_is_two_blocks_with_the_length_in_both():
    """6.2.1, written out once more."""
    key = bytes(range(32))
    blocks = b""
    for counter in (1, 2):
        mac = CMAC(AES(key))
        message = bytes((counter,)) + b"IEEE8021 KEK\x00" + b"\x01\x02".ljust(16, b"\x00")
        mac.update(message + b"\x01\x00")
        blocks += mac.finalize()
    assert MkaKeys(Cak(Secret(key), b"\x01\x02")).kek.expose() == blocks


def test_only_the_first_16_octets_of_a_ckn_matter_to_the_keys():
    key, name = bytes(16), bytes(range(1, 33))
    longer, shorter = MkaKeys(Cak(Secret(key), name)), MkaKeys(Cak(Secret(key), name[:16]))
    assert longer.kek == shorter.kek
    assert longer.kek != MkaKeys(Cak(Secret(key), name[:15])).kek


def test_a_sak_depends_on_everything_that_goes_in():
    cak = Cak(Secret(bytes(16)), b"name")
    members = (MemberId(bytes(12)), MemberId(b"\x01" * 12))
    inputs = [
        SakInputs(nonce=bytes(16), members=members, kn=1),
        SakInputs(nonce=bytes(16), members=members, kn=2),
        SakInputs(nonce=bytes(16), members=members[::-1], kn=1),
        SakInputs(nonce=b"\x01" * 16, members=members, kn=1),
        SakInputs(nonce=bytes(32), members=members, kn=1),
    ]
    saks = {derive_sak(cak, item).expose() for item in inputs}
    assert len(saks) == len(inputs)


def test_salt_of_an_xpn_suite():
    ki = KeyIdentifier(MemberId(bytes(range(12))), 0x00010002)
    assert xpn_salt(ki).hex() == "000302020405060708090a0b"


@pytest.mark.parametrize(("size", "name"), [(15, b"x"), (24, b"x"), (16, b""), (16, bytes(33))])
def test_a_cak_that_cannot_be(size, name):
    with pytest.raises(ValueError):
        Cak(Secret(bytes(size)), name)


def test_keys_are_wiped_and_not_shown():
    cak = Cak(Secret(b"\x42" * 16), b"name")
    keys = MkaKeys(cak)
    assert "42" * 4 not in repr(cak) + repr(keys.kek)
    keys.wipe()
    cak.wipe()
    assert keys.kek.wiped and keys.ick.wiped and cak.key.wiped  # noqa: PT018
