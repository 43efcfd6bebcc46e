"""PPK identities, confirmations, the table of RFC 8784, and that a key is settled once."""

from __future__ import annotations

import itertools

import pytest

from gateway.crypto.algorithms import PrfId
from gateway.crypto.prf import Prf
from gateway.crypto.secret import Secret
from gateway.ike import ppk
from gateway.ike.commands import SettlePpk
from gateway.ike.config import PpkMode
from gateway.ike.errors import ProtocolError
from gateway.ike.outbox import Outbox
from gateway.model import KeyId, Ppk

KEY_ID = KeyId("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0")
PRF = Prf(PrfId.HMAC_SHA2_512)


def test_ppk_id_is_fixed_and_text():
    assert ppk.encode_ppk_id(KEY_ID) == b"\x02" + KEY_ID.encode()
    assert ppk.key_id_of(ppk.encode_ppk_id(KEY_ID)) == KEY_ID


@pytest.mark.parametrize(
    "ppk_id",
    [
        b"",
        b"\x02",
        b"\x01" + KEY_ID.encode(),
        b"\x02" + KEY_ID.encode() + b"0",
        b"\x02" + KEY_ID.encode()[:-1],
        b"\x02" + KEY_ID.replace("-", "").encode(),
        b"\x02../../etc/passwd/../../etc/passwd/../..",
        b"\x02" + KEY_ID.encode().replace(b"0", b"\n", 1),
    ],
)
def test_what_is_no_key_id(ppk_id):
    assert ppk.key_id_of(ppk_id) is None


def test_upper_case_names_the_same_key():
    assert ppk.key_id_of(b"\x02" + KEY_ID.upper().encode()) == KEY_ID


def test_offer_round_trip_splits_from_the_end():
    offer = ppk.decode_offer(ppk.encode_offer(KEY_ID, b"12345678"))
    assert offer == ppk.PpkOffer(ppk.encode_ppk_id(KEY_ID), b"12345678")


@pytest.mark.parametrize("size", range(10))
def test_offer_that_is_too_short(size):
    with pytest.raises(ProtocolError, match="INVALID_SYNTAX"):
        ppk.decode_offer(bytes(size))


def test_confirmation_depends_on_everything():
    base = (b"n" * 32, b"i" * 8, b"r" * 8)
    made = ppk.confirmation(PRF, Secret(b"k" * 32), *base)
    assert len(made) == 8
    others = [
        ppk.confirmation(PRF, Secret(b"K" * 32), *base),
        ppk.confirmation(PRF, Secret(b"k" * 32), b"m" * 32, *base[1:]),
        ppk.confirmation(PRF, Secret(b"k" * 32), base[0], b"j" * 8, base[2]),
        ppk.confirmation(PRF, Secret(b"k" * 32), base[0], base[1], b"s" * 8),
    ]
    assert len({made, *others}) == 5
    assert ppk.confirms(made, bytes(made))
    assert not ppk.confirms(made, others[0])


U, P, A = ppk.PpkVerdict.USE, ppk.PpkVerdict.PLAIN, ppk.PpkVerdict.ABORT


@pytest.mark.parametrize(
    ("use_ppk", "no_ppk_auth", "have_ppk", "mode", "verdict"),
    [
        # RFC 8784 section 3, row by row; "-" of the table is both values here
        (False, False, False, PpkMode.PREFER, P),
        (False, True, False, PpkMode.OFF, P),
        (False, False, True, PpkMode.PREFER, P),
        (False, False, True, PpkMode.REQUIRE, A),
        (True, False, False, PpkMode.PREFER, A),
        (True, False, False, PpkMode.REQUIRE, A),
        (True, True, False, PpkMode.REQUIRE, A),
        (True, True, False, PpkMode.PREFER, P),
        (True, False, True, PpkMode.PREFER, U),
        (True, True, True, PpkMode.REQUIRE, U),
    ],
)
def test_table_of_rfc_8784(use_ppk, no_ppk_auth, have_ppk, mode, verdict):
    found = ppk.responder_verdict(
        use_ppk=use_ppk, no_ppk_auth=no_ppk_auth, have_ppk=have_ppk, mode=mode
    )
    assert found is verdict


def test_required_is_never_plain():
    for values in itertools.product([False, True], repeat=3):
        names = dict(zip(("use_ppk", "no_ppk_auth", "have_ppk"), values, strict=True))
        verdict = ppk.responder_verdict(**names, mode=PpkMode.REQUIRE)
        assert verdict is not P
        assert (verdict is U) == (names["use_ppk"] and names["have_ppk"])


def held() -> tuple[ppk.HeldPpk, Outbox, Secret]:
    outbox, key = Outbox(), Secret(b"k" * 32)
    made = ppk.HeldPpk(Ppk(key_id=KEY_ID, key=key), tunnel="net", outbox=outbox)
    return made, outbox, key


def test_a_held_key_is_settled_once_and_wiped():
    one, outbox, key = held()
    one.settle(used=True, reason="mixed in")
    one.settle(used=False, reason="too late")
    assert outbox.commands == [SettlePpk(tunnel="net", key_id=KEY_ID, used=True, reason="mixed in")]
    assert key.wiped


def test_a_held_key_shows_nothing():
    one, _, _ = held()
    assert "kkkk" not in repr(one)
    assert "kkkk" not in repr(one.key)
