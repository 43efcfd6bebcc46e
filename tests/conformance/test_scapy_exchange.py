"""What whole exchanges look like to scapy: which payloads, in which order, with what in them.

That scapy and our codec agree about every message is checked in all tests by the wire itself
(``tests/support/witness.py``).
"""

from __future__ import annotations

import pytest

from gateway.ike.flows import sa_init
from tests.support.ike_pair import Pair
from tests.support.witness import scapy

INIT, IKE_AUTH, CHILD, INFORMATIONAL, INTERMEDIATE, FOLLOWUP = 34, 35, 36, 37, 43, 44
PPK_IDENTITY_KEY, PPK_IDENTITY, ADDITIONAL_KE, NO_PPK_AUTH = 16446, 16436, 16441, 16437


def play(pair: Pair) -> Pair:
    """A whole life."""
    pair.initiate()
    pair.rekey()
    pair.rekey(side=pair.sun)
    pair.run(31)
    pair.moon.endpoint.close("net", reason="terminated by the operator", now=pair.now)
    pair.run(10)
    assert [len(side.ups) for side in pair.sides] == [3, 3]
    return pair


def chains(pair: Pair, exchange: int, sender: str = "moon") -> list[list[object]]:
    return [
        seen.layers()
        for seen in pair.witness.messages
        if (seen.sender, seen.exchange) == (sender, exchange)
    ]


def names(chain: list[object]) -> list[str]:
    return [type(layer).__name__.removeprefix("IKEv2_") for layer in chain]


def notifies(chain: list[object]) -> dict[int, bytes]:
    return {one.type: bytes(one.notify) for one in chain if isinstance(one, scapy().IKEv2_Notify)}


@pytest.mark.parametrize("size", [1280, 576])
def test_a_life_with_rfc_9867(size):
    pair = play(Pair(fragment_size=size))
    request, response = chains(pair, INTERMEDIATE), chains(pair, INTERMEDIATE, "sun")
    assert [names(one) for one in (*request, *response)] == [["KE", "Notify"]] * 2
    assert (request[0][0].group, len(request[0][0].ke)) == (36, 1184)
    assert (response[0][0].group, len(response[0][0].ke)) == (36, 1088)
    key_id = b"\x02" + pair.moon.handed[0].encode()
    offer = notifies(request[0])[PPK_IDENTITY_KEY]
    assert (offer[:-8], len(offer)) == (key_id, 1 + 36 + 8)
    assert notifies(response[0]) == {PPK_IDENTITY: key_id}
    (auth,), (proof,) = chains(pair, IKE_AUTH), chains(pair, IKE_AUTH, "sun")
    assert names(auth) == ["IDi", "IDr", "AUTH", "SA", "TSi", "TSr", "Notify"]
    assert names(proof) == ["IDr", "AUTH", "SA", "TSi", "TSr"]
    assert auth[0].ID == b"moon.example"
    assert auth[2].auth_type == proof[1].auth_type == 2
    assert len(auth[2].load) == 64


@pytest.mark.parametrize("size", [1280, 576])
def test_a_rekey(size):
    pair = play(Pair(fragment_size=size))
    (request,), (response,) = (
        [one for one in chains(pair, CHILD, who) if (PPK_IDENTITY_KEY in notifies(one)) is asks]
        for who, asks in (("moon", True), ("sun", False))
    )
    assert names(request) == ["Notify", "SA", "Nonce", "KE", "Notify", "TSi", "TSr"]
    rekey = request[0]
    assert (rekey.type, rekey.proto, rekey.SPIsize) == (16393, 3, 4)
    assert int.from_bytes(rekey.SPI, "big") == pair.moon.ups[0].spi_in
    link = notifies(response)[ADDITIONAL_KE]
    assert notifies(response)[PPK_IDENTITY] == b"\x02" + pair.moon.handed[1].encode()
    followup = chains(pair, FOLLOWUP)[0]
    assert (names(followup), notifies(followup)) == (["KE", "Notify"], {ADDITIONAL_KE: link})
    deletes = [one for one in chains(pair, INFORMATIONAL) if names(one) == ["Delete"]]
    assert len(deletes) == 3  # for moon's rekey, in answer to sun's, and for the IKE SA
    assert [(one[0].proto, one[0].SPInum) for one in deletes] == [(3, 1), (3, 1), (1, 0)]


def test_a_handshake_with_rfc_8784(monkeypatch):
    """The initiator offers USE_PPK alone, as one without RFC 9867 does."""
    original = sa_init._ppk_offers
    monkeypatch.setattr(sa_init, "_ppk_offers", lambda sa, **how: original(sa, **how)[1:])
    pair = Pair().initiate()
    (auth,), (proof,) = chains(pair, IKE_AUTH), chains(pair, IKE_AUTH, "sun")
    assert notifies(auth)[PPK_IDENTITY] == b"\x02" + pair.moon.handed[0].encode()
    assert len(notifies(auth)[NO_PPK_AUTH]) == 64
    assert notifies(proof) == {PPK_IDENTITY: b""}


def test_cookie_and_another_key_exchange():
    pair = Pair(
        cookie_threshold=0,
        moon={"ike": ("aes256gcm16-prfsha384-x25519-ecp384-ke1_mlkem1024",)},
        sun={"ike": ("aes256gcm16-prfsha384-ecp384-ke1_mlkem1024",)},
    ).initiate()
    requests, responses = chains(pair, INIT), chains(pair, INIT, "sun")
    assert [names(one)[0] for one in requests] == ["SA", "Notify", "Notify"]
    assert [names(one) for one in responses[:2]] == [["Notify"], ["Notify"]]
    assert notifies(requests[2])[16390] == notifies(responses[0])[16390]
    assert notifies(responses[1]) == {17: b"\x00\x14"}
    assert [one[-1].vendorID for one in requests] == [b"qsgw PPK in CREATE_CHILD_SA v1"] * 3
    (ke,) = [one for one in responses[2] if isinstance(one, scapy().IKEv2_KE)]
    assert (ke.group, len(ke.ke)) == (20, 96)
