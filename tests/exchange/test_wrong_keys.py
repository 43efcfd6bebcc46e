"""Wrong PPK, wrong PSK, tampered and replayed messages: no SA that should not be there.

In every variant of the exchanges: both PPK methods, whole and in fragments, and with the
larger algorithms.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from gateway.ike.config import PpkMode
from gateway.ike.flows import ppk_choice
from gateway.ike.registry import ExchangeType as X
from gateway.model import Protection
from tests.support.ike_pair import IKE_HYBRID, Flight, Pair, Side

BIG = "aes256gcm16-prfsha384-ecp384-ke1_mlkem1024"
VARIANTS = [
    pytest.param(IKE_HYBRID, 1280, id="x25519-768"),
    pytest.param(IKE_HYBRID, 576, id="x25519-768-fragments"),
    pytest.param(BIG, 1280, id="p384-1024"),
    pytest.param(BIG, 576, id="p384-1024-fragments"),
]


@pytest.fixture(params=["rfc9867", "rfc8784"])
def method(request):
    """Both ways to mix the PPK into the IKE SA."""
    if request.param == "rfc8784":
        request.getfixturevalue("rfc8784_only")
    return request.param


def attempt(pair: Pair, **key: bytes | None) -> Pair:
    pair.moon.endpoint.initiate("net", ppk=pair.key(**key), now=pair.now)
    pair.run(100)
    return pair


def check_no_sa(pair: Pair) -> None:
    assert not pair.moon.ups
    assert not pair.sun.ups
    assert not any(side.facts.ike for side in pair.sides)
    pair.check_empty()
    pair.check_settled()


@pytest.mark.parametrize(("ike", "size"), VARIANTS)
@pytest.mark.parametrize("strict", ["moon", "sun"])
@pytest.mark.parametrize("at_peer", [None, bytes(32)], ids=["missing", "differs"])
def test_wrong_ppk_where_it_is_required(method, ike, size, strict, at_peer):
    pair = Pair(ike=(ike,), fragment_size=size, toy_kex=True, **{strict: {"ppk": PpkMode.REQUIRE}})
    check_no_sa(attempt(pair, at_peer=at_peer))
    assert not any(command.used for side in pair.sides for command in side.settled)


@pytest.mark.parametrize("at_peer", [None, bytes(32)], ids=["missing", "differs"])
def test_wrong_ppk_where_it_is_preferred(at_peer):
    """Told before anything is mixed: both sides go on without it, and both know."""
    pair = Pair()
    pair.moon.endpoint.initiate("net", ppk=pair.key(at_peer=at_peer), now=pair.now)
    pair.run()
    assert [side.ups[0].mixed.protection for side in pair.sides] == [Protection.PQC_ONLY] * 2
    assert not any(command.used for side in pair.sides for command in side.settled)
    pair.check_mirrored()
    pair.check_settled()


def test_wrong_ppk_under_a_confirmation_that_is_believed(monkeypatch):
    """If the confirmation were forged, AUTH would still not verify under different keys."""
    monkeypatch.setattr(ppk_choice, "confirms", lambda ours, received: True)
    check_no_sa(attempt(Pair(), at_peer=bytes(32)))


def test_child_under_a_confirmation_that_is_believed(monkeypatch):
    """In CREATE_CHILD_SA only the confirmation stands between two keys and a dead SA."""
    pair = Pair().initiate()
    pair.rekey()
    monkeypatch.setattr(ppk_choice, "confirms", lambda ours, received: True)
    pair.moon.endpoint.rekey_child("net", ppk=pair.key(at_peer=bytes(32)), now=pair.now)
    pair.run()
    assert not pair.carries(pair.moon)  # why the comparison matters
    monkeypatch.undo()
    pair.moon.endpoint.rekey_child("net", ppk=pair.key(at_peer=bytes(32)), now=pair.now)
    pair.run()
    assert pair.carries(pair.moon)


def test_confirmation_of_another_exchange_is_worth_nothing():
    """Nonces and SPIs are in it: seen once, it does not help to have a key fetched again."""
    seen: list[bytes] = []

    def keep(original):
        def offer(ppk, confirm):
            notify = original(ppk, confirm)
            seen.append(notify.data[-8:])
            return replace(notify, data=notify.data[:-8] + seen[0])

        return offer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ppk_choice, "offer", keep(ppk_choice.offer))
        pair = Pair().initiate()
        pair.rekey()
    assert seen[0] != seen[1]
    assert pair.sun.ups[1].mixed.key_id is None
    pair.check_settled()


@pytest.mark.parametrize(("ike", "size"), VARIANTS)
@pytest.mark.parametrize("wrong", ["moon", "sun"])
def test_wrong_psk(method, ike, size, wrong):
    pair = Pair(ike=(ike,), fragment_size=size, toy_kex=True, **{wrong: {"psk": b"another one"}})
    check_no_sa(attempt(pair))


@pytest.mark.parametrize(("ike", "size"), VARIANTS)
@pytest.mark.parametrize("place", [0.3, 0.999])
def test_every_copy_of_one_message_tampered(method, ike, size, place):
    """Not a copy of it gets through: no SA comes up, whichever message it is.

    The responder's last word is its own AUTH. Where that, or the IKE_SA_INIT response under
    it, was damaged, it has an SA until the initiator's report comes or liveness finds out.
    """
    clean = Pair(ike=(ike,), fragment_size=size, toy_kex=True).initiate()
    kinds = dict.fromkeys((f.header.exchange, f.header.response) for f in clean.sent)
    for kind in list(kinds)[:-2]:  # after IKE_AUTH it is established

        def tamper(flight: Flight, kind=kind) -> list[tuple[float, bytes]]:
            data = bytearray(flight.data)
            if (flight.header.exchange, flight.header.response) == kind:
                data[int(place * (len(data) - 1))] ^= 0x40
            return [(0.0, bytes(data))]

        pair = Pair(ike=(ike,), fragment_size=size, toy_kex=True, fault=tamper)
        pair.initiate()
        pair.run(150)
        assert not pair.moon.ups, kind
        if kind not in ((X.IKE_SA_INIT, True), (X.IKE_AUTH, True)):
            assert not pair.sun.ups, kind
        assert not any(side.facts.ike for side in pair.sides)
        pair.check_empty()
        pair.check_settled()


def state(side: Side) -> tuple[object, ...]:
    kernel = side.kernel
    counts = (len(side.ups), len(side.fetches), len(side.closed), len(side.failures))
    return dict(kernel.keys), kernel.outbound, counts, len(side.facts.ike)


@pytest.mark.parametrize("size", [1280, 576])
def test_everything_ever_sent_comes_again(method, size):
    """To both sides, twice: not an SA, not a key look-up, not an end more than before."""
    pair = Pair(fragment_size=size).initiate().rekey()
    pair.rekey(side=pair.sun)
    pair.run(6)
    pair.fault = lambda flight: []
    before = [state(side) for side in pair.sides]
    for flight in [*pair.sent, *reversed(pair.sent)]:
        receiver, sender = pair.sun, pair.moon
        if flight.sender == "sun":
            receiver, sender = sender, receiver
        receiver.endpoint.receive_datagram(
            flight.data,
            local=(receiver.address, 500),
            remote=(sender.address, 500),
            now=pair.now,
        )
        pair.run()
    assert [state(side) for side in pair.sides] == before
    pair.check_mirrored()
    pair.check_settled()


def test_no_key_stands_in_any_text():
    """Events, commands, status, and what a debugger would print of an IKE SA."""
    pair = Pair(psk=b"pre-shared and secret")
    texts: list[str] = []
    for side in pair.sides:

        def listen(command, now, original=side.carry_out):
            texts.append(repr(command))
            original(command, now)

        side.carry_out = listen
    pair.initiate()
    pair.rekey()
    secrets = [b"pre-shared and secret"]
    for side in pair.sides:
        sa = side.endpoint._sessions.all()[0].sa
        texts += [repr(side.events), repr(side.facts), repr(sa), repr(side.connection)]
        keys = sa.keys
        secrets += [one.expose() for one in (keys.sk_d, keys.sk_ei, keys.sk_er, keys.sk_pi)]
        secrets += side.kernel.seen
    secrets += [hashlib.sha256(f"QKD key {number}".encode()).digest() for number in (1, 2)]
    text = "\n".join(texts)
    assert len(text) > 5000
    for secret in secrets:
        assert secret.hex() not in text
        assert repr(secret)[2:-1] not in text
