"""A new IKE SA in place of one: keys, children, message IDs, and what ends the old one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.crypto.algorithms import KeMethod
from gateway.crypto.kex import SystemKex
from gateway.errors import CryptoError
from gateway.ike import limits
from gateway.ike.config import PpkMode
from gateway.ike.events import ChildDown, IkeRekeyed, PpkNotUsed
from gateway.ike.registry import ExchangeType as X
from gateway.model import PpkMethod, Protection, Role
from tests.support import ike_pair
from tests.support.ike_pair import IKE_HYBRID, Flight, Side

REKEY = [X.CREATE_CHILD_SA, X.IKE_FOLLOWUP_KE, X.INFORMATIONAL]
IKE_PLAIN = "aes256gcm16-prfsha512-mlkem768"
IKE_THREE = "aes256gcm16-prfsha512-x25519-ke1_mlkem768-ke3_mlkem1024"


class Pair(ike_pair.Pair):
    def rekey_ike(self, *, ppk: bool = True, side: Side | None = None) -> Pair:
        ours = side or self.moon
        ours.endpoint.rekey_ike("net", ppk=self.key(ours) if ppk else None, now=self.now)
        self.run()
        return self


def rekeyed(side: Side) -> list[IkeRekeyed]:
    return [event for event in side.events if isinstance(event, IkeRekeyed)]


def spis(side: Side) -> set[tuple[bytes, bytes]]:
    return {(facts.spi_i, facts.spi_r) for facts in side.facts.ike}


def requests(pair: Pair, since: int, sender: str) -> list[Flight]:
    """First transmissions, the first fragment of each."""
    seen: dict[tuple[bytes, int], Flight] = {}
    for flight in pair.sent[since:]:
        if flight.sender == sender and not flight.header.response:
            seen.setdefault((flight.header.spi_i, flight.header.message_id), flight)
    return list(seen.values())


def check_moved(pair: Pair, *, fresh: bool = True) -> None:
    """One IKE SA, a new one; the same children; no traffic was touched."""
    for side in pair.sides:
        assert len(side.facts.ike) == 1
        assert len(rekeyed(side)) == 1
        assert (rekeyed(side)[0].key_id is not None) is fresh
        assert len(side.ups) == 1
        assert not [event for event in side.events if isinstance(event, ChildDown)]
    assert spis(pair.moon) == spis(pair.sun)
    pair.check_mirrored()
    pair.check_settled()


@pytest.mark.parametrize("ike", [IKE_PLAIN, IKE_HYBRID, IKE_THREE])
@pytest.mark.parametrize("name", ["moon", "sun"])
def test_rekey_from_either_end(ike, name):
    """
    CREATE_CHILD_SA  SK{SA(SPIi'), Ni, KE(X25519), N(PPK_IDENTITY_KEY)} -->
        <-- SK{SA(SPIr'), Nr, KE(X25519), N(PPK_IDENTITY), N(ADDITIONAL_KEY_EXCHANGE)}
    IKE_FOLLOWUP_KE  SK{KE(ML-KEM-768), N(ADDITIONAL_KEY_EXCHANGE)} --> <-- SK{KE(ML-KEM-768)}
    INFORMATIONAL    SK{D(IKE)} -->                                     <-- SK{}
    """
    pair = Pair(ike=(ike,)).initiate()
    pair.run(1)
    pair.watch_traffic()
    side = getattr(pair, name)
    (before,) = spis(side)
    since, commands = len(pair.sent), len(pair.moon.kernel.seen)
    pair.rekey_ike(side=side)
    sent = requests(pair, since, name)
    followups = ike.count("ke1_") + ike.count("ke3_")
    assert [one.header.exchange for one in sent] == [REKEY[0], *[REKEY[1]] * followups, REKEY[2]]
    assert {(one.header.spi_i, one.header.spi_r) for one in sent} == {before}
    check_moved(pair)
    assert len(pair.moon.kernel.seen) == commands  # nothing new went into the kernel
    for one in pair.sides:
        (facts,) = one.facts.ike
        assert facts.role is (Role.INITIATOR if one is side else Role.RESPONDER)
        assert facts.ppk_method is PpkMethod.CREATE_CHILD
        assert facts.key_id == side.handed[-1] == rekeyed(one)[0].key_id


@pytest.mark.parametrize("name", ["moon", "sun"])
def test_the_new_ike_sa_works_from_message_id_0(name):
    pair = Pair().initiate()
    pair.rekey_ike(side=getattr(pair, name))
    since = len(pair.sent)
    for side in pair.sides:
        pair.rekey(side=side)
    for sender in ("moon", "sun"):
        assert [one.header.message_id for one in requests(pair, since, sender)] == [0, 1, 2]
    pair.run(6)
    assert pair.moon.ups[-1].mixed.protection is Protection.HYBRID
    pair.check_mirrored()
    pair.check_settled()


def test_twenty_rekeys_in_turn():
    pair = Pair(toy_kex=True, report_inbound=True).initiate()
    pair.watch_traffic()
    for number in range(20):
        pair.rekey_ike(side=pair.sides[number % 2], ppk=number % 3 > 0)
        pair.rekey(side=pair.sides[number // 2 % 2])
    pair.run(40)
    assert len(rekeyed(pair.moon)) == len(rekeyed(pair.sun)) == 20
    assert all(len(side.facts.ike) == 1 for side in pair.sides)
    pair.check_mirrored()
    pair.check_settled()


def test_liveness_goes_on_in_the_new_one():
    pair = Pair().initiate()
    pair.rekey_ike()
    since = len(pair.sent)
    pair.run(200)
    kinds = {one.header.exchange for one in requests(pair, since, "moon")}
    assert kinds == {X.INFORMATIONAL}
    pair.fault = lambda flight: []
    pair.run(200)
    assert [one.peer_lost for one in pair.moon.closed] == [False, True]
    pair.check_empty()


def test_closing_after_a_rekey():
    pair = Pair().initiate()
    pair.rekey_ike()
    pair.sun.endpoint.close("net", reason="terminated by the operator", now=pair.now)
    pair.run()
    pair.check_empty()
    assert not pair.moon.facts.ike
    assert not pair.sun.facts.ike


# --- the key exchange ------------------------------------------------------------------------


def test_responder_wants_another_key_exchange():
    """
    SK{SA, Ni, KE(X25519)} --> <-- SK{N(INVALID_KE_PAYLOAD)}
    SK{SA, Ni', KE(P-384)} --> <-- SK{SA, Nr, KE(P-384), ...}
    """
    both = "aes256gcm16-prfsha512-x25519-ecp384-ke1_mlkem768"
    other = "aes256gcm16-prfsha512-ecp384-ke1_mlkem768"
    pair = Pair(moon={"ike": (both,)}, sun={"ike": (other,)}).initiate()
    since = len(pair.sent)
    pair.rekey_ike()
    kinds = [one.header.exchange for one in requests(pair, since, "moon")]
    assert kinds == [X.CREATE_CHILD_SA, *REKEY]
    check_moved(pair)
    assert pair.moon.facts.ike[0].key_exchanges == ("P-384", "ML-KEM-768")


def test_a_weaker_key_exchange_is_refused():
    """The peer's settings have changed since: no ML-KEM any more."""
    pair = Pair(moon={"allow_classical": True}).initiate()
    weak = Pair(ike=("aes256gcm16-prfsha512-x25519",)).moon.connection.ike_proposals
    changed = replace(pair.moon.connection, ike_proposals=weak)
    pair.moon.endpoint._peerings["net"].connection = changed
    pair.rekey_ike()
    assert pair.moon.failures[0].notify == "NO_PROPOSAL_CHOSEN"
    assert "in common" in pair.sun.failures[0].reason
    assert not rekeyed(pair.moon)
    pair.rekey(ppk=False)
    pair.run(6)
    pair.check_mirrored()


def test_allow_classical_allows_it():
    pair = Pair(ike=("aes256gcm16-prfsha512-x25519",), allow_classical=True).initiate(ppk=False)
    pair.rekey_ike(ppk=False)
    check_moved(pair, fresh=False)


def test_bad_key_exchange_value_ends_the_ike_sa(monkeypatch):
    """RFC 6989 2.5."""
    pair = Pair().initiate()

    def finish(self, peer):
        raise CryptoError("bad ciphertext")

    monkeypatch.setattr(type(SystemKex().initiate(KeMethod.ML_KEM_768)), "finish", finish)
    pair.rekey_ike()
    pair.run(5)
    assert pair.moon.failures[0].what == "rekey-ike"
    assert not pair.moon.facts.ike
    assert not pair.sun.facts.ike
    pair.check_empty()
    pair.check_settled()


def test_bad_key_exchange_value_at_the_responder_ends_it_at_both_ends(monkeypatch):
    """RFC 7296 2.21.3: INVALID_SYNTAX is fatal for both."""
    pair = Pair().initiate()

    def respond(self, method, peer):
        raise CryptoError("bad encapsulation key")

    monkeypatch.setattr(SystemKex, "respond", respond)
    pair.rekey_ike()
    pair.run(20)
    assert pair.moon.failures[0].notify == "INVALID_SYNTAX"
    assert not pair.moon.facts.ike
    assert not pair.sun.facts.ike
    pair.check_empty()
    pair.check_settled()


# --- the QKD key -----------------------------------------------------------------------------


@pytest.mark.parametrize("at_peer", [None, bytes(32)], ids=["missing", "differs"])
@pytest.mark.parametrize("mode", [PpkMode.PREFER, PpkMode.REQUIRE])
def test_key_not_at_the_responder_leaves_the_one_in_sk_d(at_peer, mode):
    pair = Pair(ppk=mode).initiate()
    first = pair.moon.facts.ike[0].key_id
    key = pair.key(at_peer=at_peer)
    pair.moon.endpoint.rekey_ike("net", ppk=key, now=pair.now)
    pair.run()
    check_moved(pair, fresh=False)
    for side in pair.sides:
        assert side.facts.ike[0].key_id == first
        assert side.facts.ike[0].ppk_method is PpkMethod.INTERMEDIATE


@pytest.mark.parametrize("ike", [IKE_PLAIN, IKE_HYBRID])
@pytest.mark.parametrize("strict", ["moon", "sun"])
def test_required_and_none_anywhere(ike, strict):
    """Set up without a key; by now policy requires one, and this rekey brings none either."""
    pair = Pair(ike=(ike,)).initiate(ppk=False)
    side = getattr(pair, strict)
    side.endpoint.set_ppk_mode("net", PpkMode.REQUIRE, pair.now)
    pair.watch_traffic()
    pair.moon.endpoint.rekey_ike("net", ppk=pair.key(at_peer=None), now=pair.now)
    pair.run()
    assert pair.moon.failures[0].what == "rekey-ike"
    assert pair.moon.failures[0].ppk_missing
    assert not rekeyed(pair.moon)
    assert not rekeyed(pair.sun)
    assert all(len(one.facts.ike) == 1 for one in pair.sides)
    pair.run(40)
    assert not pair.moon.closed
    assert not pair.sun.closed
    pair.rekey()  # what was there goes on
    pair.run(6)
    pair.check_mirrored()
    pair.check_settled()


def test_peer_of_another_vendor_keeps_the_key_in_sk_d(foreign_peer):
    pair = Pair().initiate()
    first = pair.moon.facts.ike[0].key_id
    pair.rekey_ike()
    check_moved(pair, fresh=False)
    assert pair.moon.facts.ike[0].key_id == first
    assert not pair.sun.fetches[1:]
    assert not [event for side in pair.sides for event in side.of(PpkNotUsed)]


def test_rfc8784_key_is_inherited(rfc8784_only):
    pair = Pair().initiate()
    pair.rekey_ike(ppk=False)
    check_moved(pair, fresh=False)
    assert pair.moon.facts.ike[0].ppk_method is PpkMethod.AUTH


def test_fresh_key_is_mixed_into_every_later_key():
    """Both ends have the same SK_d after it: a child keyed from it works."""
    pair = Pair().initiate(ppk=False)
    pair.rekey_ike()
    pair.rekey(ppk=False)
    pair.run(6)
    pair.check_mirrored()


# --- loss ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", range(8))
@pytest.mark.parametrize("name", ["moon", "sun"])
def test_every_message_lost_once(lost, name):
    pair = Pair(toy_kex=True).initiate()
    pair.run(1)
    first = len(pair.sent)
    pair.fault = lambda flight: [] if flight.number == first + lost else [(0.0, flight.data)]
    pair.watch_traffic()
    pair.rekey_ike(side=getattr(pair, name))
    pair.run(20)
    check_moved(pair)


@pytest.mark.parametrize("late", range(8))
def test_every_message_twice_and_late(late):
    pair = Pair(toy_kex=True).initiate()
    pair.run(1)
    first = len(pair.sent)
    pair.fault = lambda flight: (
        [(0.0, flight.data), (3.0, flight.data), (25.0, flight.data)]
        if flight.number == first + late
        else [(0.0, flight.data)]
    )
    pair.rekey_ike()
    pair.run(60)
    check_moved(pair)


def test_peer_never_deletes_the_old_one():
    """Forced after a grace: the initiator's Delete never arrives."""
    pair = Pair(toy_kex=True).initiate()
    pair.run(1)

    def no_delete(flight: Flight) -> list[tuple[float, bytes]]:
        old = flight.header.spi_i == before
        lost = flight.sender == "moon" and flight.header.exchange == X.INFORMATIONAL and old
        return [] if lost and not flight.header.response else [(0.0, flight.data)]

    ((before, _),) = spis(pair.moon)
    pair.fault = no_delete
    pair.watch_traffic()
    pair.rekey_ike()
    assert rekeyed(pair.moon)
    assert not rekeyed(pair.sun)
    assert pair.sun.facts.ike[0].state == "rekeyed"
    pair.run(limits.REPLACED_GRACE + 10)
    check_moved(pair)


def test_peer_uses_the_new_one_before_it_deletes_the_old():
    """The Delete is late; what the initiator says in the new IKE SA tells as much."""
    pair = Pair(toy_kex=True).initiate()
    pair.run(1)
    ((before, _),) = spis(pair.moon)
    pair.fault = lambda flight: [
        (
            5.0
            if flight.header.spi_i == before and flight.header.exchange == X.INFORMATIONAL
            else 0.0,
            flight.data,
        )
    ]
    pair.watch_traffic()
    pair.rekey_ike()
    pair.rekey()
    pair.run(20)
    assert len(pair.sun.ups) == 2
    assert all(len(side.facts.ike) == 1 for side in pair.sides)
    pair.check_mirrored()
    pair.check_settled()


def test_answer_that_never_comes_ends_the_ike_sa():
    pair = Pair(toy_kex=True).initiate()
    pair.run(1)
    pair.fault = lambda flight: [] if flight.sender == "sun" else [(0.0, flight.data)]
    pair.rekey_ike()
    pair.run(300)
    assert [one.what for one in pair.moon.failures] == ["rekey-ike"]
    assert not pair.moon.facts.ike
    assert not pair.sun.facts.ike
    pair.check_empty()
    pair.check_settled()


# --- when not --------------------------------------------------------------------------------


def test_without_an_ike_sa():
    pair = Pair().rekey_ike()
    assert pair.moon.failures[0].reason == "there is no IKE SA"
    pair.check_settled()


def test_a_rekey_under_way_is_not_doubled():
    pair = Pair(fault=lambda flight: [(0.05, flight.data)]).initiate()
    pair.run(1)
    pair.rekey_ike()
    pair.rekey_ike()
    pair.rekey()
    pair.run(6)
    assert [one.reason for one in pair.moon.failures] == ["a rekey is under way already"] * 2
    check_moved(pair)
