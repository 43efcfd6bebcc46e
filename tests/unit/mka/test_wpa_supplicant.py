"""MKPDUs of another maker, as they came over a link: read, verified, unwrapped."""

from __future__ import annotations

import pytest

from gateway.crypto.secret import Secret
from gateway.mka.errors import MkpduError
from gateway.mka.keys import Cak, MkaKeys
from gateway.mka.mkpdu import Envelope, Mkpdu, encode_mkpdu, parse_frame
from gateway.mka.registry import CipherSuite, Confidentiality
from gateway.mka.sets import UnknownSet
from tests.support.vectors import load

CASES = load("wpa_supplicant")
case = pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])


def keys_of(case) -> MkaKeys:
    return MkaKeys(Cak(Secret(bytes.fromhex(case["cak"])), bytes.fromhex(case["ckn"])))


def envelope_of(case) -> Envelope:
    return parse_frame(bytes.fromhex(case["frame"]))


def opened(case) -> Mkpdu:
    return envelope_of(case).open(keys_of(case))


def listed(peers) -> list:
    return [] if peers is None else [[item.mi.hex(), item.mn] for item in peers.peers]


def said(key) -> list | None:
    return key and [key.ki.mi.hex(), key.ki.kn, key.an, key.transmits, key.receives]


@case
def test_what_it_says_of_itself_and_of_others(case):
    mkpdu = opened(case)
    basic = mkpdu.basic
    assert (str(basic.sci), basic.mi.hex(), basic.mn) == (case["sci"], case["mi"], case["mn"])
    assert (basic.priority, basic.key_server) == (case["priority"], case["key_server"])
    assert basic.ckn.hex() == case["ckn"]
    assert listed(mkpdu.live_peers) == case["live"]
    assert listed(mkpdu.potential_peers) == case["potential"]
    assert not any(isinstance(item, UnknownSet) for item in mkpdu.sets)


@case
def test_what_it_does_with_its_saks(case):
    use = opened(case).sak_use
    assert said(use and use.latest) == case["latest"]
    assert said(use and use.old) == case["old"]


@case
def test_the_sak_it_distributes_is_the_one_it_made(case):
    distributed, expected = opened(case).distributed_sak, case["distributed"]
    assert (distributed is None) == (expected is None)
    if distributed is not None:
        assert (distributed.an, distributed.kn) == (expected["an"], expected["kn"])
        assert distributed.suite == CipherSuite.GCM_AES_128  # in the short form
        assert distributed.confidentiality == Confidentiality.OFFSET_0
        sak = keys_of(case).unwrap(distributed.wrapped)
        assert sak.expose().hex() == expected["sak"]


@case
def test_another_cak_or_a_changed_octet_does_not_verify(case):
    other = Cak(Secret(bytes(len(case["cak"]) // 2)), bytes.fromhex(case["ckn"]))
    with pytest.raises(MkpduError, match="wrong"):
        envelope_of(case).open(MkaKeys(other))
    frame = bytearray.fromhex(case["frame"])
    frame[6] ^= 1  # of the source address, which the ICV covers as well
    with pytest.raises(MkpduError, match="wrong"):
        parse_frame(bytes(frame)).open(keys_of(case))


@case
def test_said_again_it_is_the_same_frame_octet_by_octet(case):
    """So we lay out what it lays out, a lowest PN of 1 for a key that is not there included."""
    envelope = envelope_of(case)
    mkpdu = envelope.open(keys_of(case))
    assert encode_mkpdu(mkpdu, envelope.source, keys_of(case)).hex() == case["frame"]


def test_every_kind_of_set_it_sends_is_among_them():
    mkpdus = [opened(case) for case in CASES]
    assert any(item.live_peers for item in mkpdus)
    assert any(item.potential_peers for item in mkpdus)
    assert any(item.sak_use for item in mkpdus)
    assert any(item.distributed_sak for item in mkpdus)
