"""A path that drops what is too large and tells nobody: smaller fragments (RFC 7383 2.5.2)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.crypto.aead import IkeAead
from gateway.crypto.secret import Secret
from gateway.errors import CryptoError
from gateway.ike.courier import Courier
from gateway.ike.encrypted import find_encrypted, ip_datagram
from gateway.ike.flow import Respond
from gateway.ike.limits import REFRAGMENT_AFTER
from gateway.ike.payloads import VendorIdPayload
from gateway.ike.registry import ExchangeType as X
from gateway.ike.sa import PeerTraits
from tests.support.collisions import IKE_HYBRID as COLLISION_IKE
from tests.support.collisions import QUIET, Collision, Rule
from tests.support.hostile_peer import newest
from tests.support.ike_pair import IKE_HYBRID, TIMING, Fault, Flight, Pair

BIG = "aes256gcm16-prfsha512-x25519-ke1_mlkem1024"
PATIENCE = 20  # seconds: longer than REFRAGMENT_AFTER repetitions of one request


def narrow(limit: int, *, sender: str | None = None) -> Fault:
    """Drops IP datagrams above ``limit`` octets, of one sender or of both."""

    def fault(flight: Flight) -> list[tuple[float, bytes]]:
        fits = ip_datagram(len(flight.data), 4) <= limit
        return [(0.0, flight.data)] if fits or sender not in (None, flight.sender) else []

    return fault


def place(flight: Flight) -> tuple[int, int]:
    """Number and total of a fragment; (0, 0): none."""
    if flight.header.exchange == X.IKE_SA_INIT:
        return 0, 0
    envelope = find_encrypted(flight.data, flight.header)
    assert envelope is not None
    return envelope.number, envelope.total


def totals(pair: Pair, sender: str, exchange: X) -> list[int]:
    """In how many fragments each transmission of moon's request, or sun's answer, went."""
    return [
        place(flight)[1]
        for flight in pair.sent
        if (flight.sender, flight.header.exchange) == (sender, exchange)
        and flight.header.response == (sender == "sun")
        and place(flight)[0] in (0, 1)
    ]


def largest(pair: Pair, since: int = 0) -> int:
    """Octets of the largest IP datagram sent."""
    return max(ip_datagram(len(flight.data), 4) for flight in pair.sent[since:])


def check_nonces(pair: Pair) -> None:
    """No key ever saw one IV with two contents, whatever was cut again."""
    seen: dict[tuple[bytes, bytes], bytes] = {}
    keys = {
        key.expose()
        for side in pair.sides
        for one in side.recorded
        for key in (one.sk_ei, one.sk_er)
    }
    for flight in pair.sent:
        if flight.header.exchange == X.IKE_SA_INIT:
            continue
        start = 28 + (8 if place(flight)[1] else 4)
        head, iv, sealed = (
            flight.data[:start],
            flight.data[start : start + 8],
            flight.data[start + 8 :],
        )
        (key,) = [key for key in keys if opens(key, iv, head, sealed)]
        assert seen.setdefault((key, iv), flight.data) == flight.data


def opens(key: bytes, iv: bytes, head: bytes, sealed: bytes) -> bool:
    try:
        IkeAead(Secret(key)).open(iv, head, sealed)
    except CryptoError:
        return False
    return True


@pytest.mark.parametrize("ike", [IKE_HYBRID, BIG])
@pytest.mark.parametrize("limit", [1280, 1000, 576])
def test_a_narrow_path(limit: int, ike: str):
    pair = Pair(ike=(ike,), fault=narrow(limit), toy_kex=True).initiate()
    pair.run(PATIENCE)
    pair.check_mirrored()
    check_nonces(pair)
    recut = limit < 1280
    assert (largest(pair) > limit) == recut
    for side in ("moon", "sun"):
        of_request = totals(pair, side, X.IKE_INTERMEDIATE)
        assert of_request == sorted(of_request)
    requests = totals(pair, "moon", X.IKE_INTERMEDIATE)
    assert len(set(requests)) == 1 + recut
    if recut:
        # three times bit by bit the same, then once in more fragments
        assert requests[:-1] == [requests[0]] * (REFRAGMENT_AFTER + 1)
        assert requests[-1] > max(requests[0], 1)
        # the answer is cut the same way at once, and nothing large goes out any more
        assert len(totals(pair, "sun", X.IKE_INTERMEDIATE)) == 1
    pair.check_settled()


@pytest.mark.parametrize("limit", [1000, 576])
def test_what_got_through_is_kept(limit: int):
    pair = Pair(fault=narrow(limit), toy_kex=True).initiate()
    pair.run(PATIENCE)
    since = len(pair.sent)
    began = pair.now
    pair.watch_traffic()
    for side in pair.sides:
        pair.rekey(side=side)
        assert pair.now == began, "without a repetition"
        pair.run(6)
        began = pair.now
    assert largest(pair, since) <= 576
    pair.check_mirrored()
    check_nonces(pair)


@pytest.mark.parametrize("name", ["moon", "sun"])
def test_what_is_lost_by_chance_comes_through_in_its_smaller_fragments(name: str):
    """The large ones are lost as often as it takes to be cut again, and the small ones once."""
    lost = REFRAGMENT_AFTER + 2
    pair = Collision(ike=COLLISION_IKE)
    pair.watch_traffic()
    pair.meet("rekey ike", "nothing", Rule(name, X.IKE_FOLLOWUP_KE, 1, name == "sun", lost=lost))
    pair.run(QUIET)
    assert len(set(totals(pair, name, X.IKE_FOLLOWUP_KE))) == 2
    assert len(totals(pair, "moon", X.IKE_FOLLOWUP_KE)) == lost + 1
    pair.check_rest()
    check_nonces(pair)


def test_a_message_that_is_always_lost_ends_the_ike_sa():
    pair = Collision(ike=COLLISION_IKE)
    lost = TIMING.retransmit_tries + 1
    pair.meet("rekey ike", "nothing", Rule("moon", X.IKE_FOLLOWUP_KE, lost=lost))
    pair.run(QUIET)
    assert len(totals(pair, "moon", X.IKE_FOLLOWUP_KE)) == lost
    assert not pair.moon.facts.ike
    assert [one.reason for one in pair.moon.failures] == ["no answer from 10.0.23.3"]


def test_a_rekeyed_ike_sa_keeps_it():
    pair = Pair(fault=narrow(1000), toy_kex=True).initiate()
    pair.run(PATIENCE)
    since = len(pair.sent)
    pair.moon.endpoint.rekey_ike("net", ppk=None, now=pair.now)
    pair.run(6)
    pair.rekey()
    pair.run(6)
    assert len(pair.moon.facts.ike) == 1
    assert largest(pair, since) <= 576
    pair.check_mirrored()


@pytest.mark.parametrize("sender", ["moon", "sun"])
def test_only_one_direction_is_narrow(sender: str):
    pair = Pair(fault=narrow(1000, sender=sender), toy_kex=True).initiate()
    pair.run(PATIENCE)
    pair.check_mirrored()
    check_nonces(pair)


def test_a_lost_answer_is_cut_as_its_request():
    """The request was answered already when it comes again in smaller fragments."""
    pair = Pair(fault=narrow(1000, sender="sun"), toy_kex=True).initiate()
    pair.run(PATIENCE)
    first, *_, last = totals(pair, "sun", X.IKE_INTERMEDIATE)
    assert last > max(first, 1)
    assert len(pair.sun.facts.ike) == 1
    pair.check_mirrored()
    check_nonces(pair)


def test_an_answer_to_a_small_request_is_cut_when_it_was_repeated(monkeypatch: pytest.MonkeyPatch):
    """The initiator has nothing to cut there: the answer alone is too long for the path."""
    send = Courier.send_response

    def at_length(courier: Courier, response: Respond) -> None:
        long = VendorIdPayload(data=bytes(1100))
        send(courier, replace(response, payloads=[*response.payloads, long]))

    pair = Pair(toy_kex=True).initiate()
    monkeypatch.setattr(Courier, "send_response", at_length)
    pair.fault = narrow(1000)
    pair.run(45)  # a liveness check
    assert totals(pair, "moon", X.INFORMATIONAL)[-4:] == [0] * 4
    assert totals(pair, "sun", X.INFORMATIONAL)[-4:] == [0, 0, 0, 3]
    assert not pair.moon.closed
    assert newest(pair.sun).datagram_max == 576
    check_nonces(pair)


def test_without_fragmentation_it_is_bit_by_bit_the_same(monkeypatch: pytest.MonkeyPatch):
    """RFC 7296 2.1; the message cannot be cut, so the IKE SA does not come up."""
    unable = property(lambda self: False, lambda self, value: None)
    monkeypatch.setattr(PeerTraits, "fragmentation", unable)
    pair = Pair(fault=narrow(1000), toy_kex=True).initiate()
    pair.run(PATIENCE * 3)
    sent = [f.data for f in pair.sent if f.header.exchange == X.IKE_INTERMEDIATE]
    assert len(sent) > REFRAGMENT_AFTER + 1
    assert len(set(sent)) == 1
    assert not pair.moon.kernel.sas
    assert pair.moon.failures


def test_small_messages_stay_as_they_are():
    """Nothing is learned from a peer that is gone, or slow, when nothing was large."""
    pair = Pair(toy_kex=True).initiate()
    pair.run(1)
    since = len(pair.sent)
    pair.fault = lambda flight: []
    pair.run(35)
    sent = [flight.data for flight in pair.sent[since:] if flight.sender == "moon"]
    assert len(sent) > REFRAGMENT_AFTER + 1
    assert len(set(sent)) == 1
    assert newest(pair.moon).datagram_max is None


@pytest.mark.parametrize("late", [3.0, 4.8, 5.1, 6.0])
def test_old_and_new_fragments_mixed(late: float):
    """What was sent large comes after all, late and backwards, among what was cut again."""

    def fault(flight: Flight) -> list[tuple[float, bytes]]:
        number, total = place(flight)
        if flight.header.exchange != X.IKE_INTERMEDIATE:
            return [(0.0, flight.data)]
        if total <= 2:
            return [(late - 0.1 * number, flight.data)]
        return [(0.5 - 0.1 * number, flight.data)] * 2

    pair = Pair(ike=(BIG,), fault=fault, toy_kex=True).initiate()
    pair.run(30)
    assert set(totals(pair, "moon", X.IKE_INTERMEDIATE)) >= {2}
    assert len(pair.moon.facts.ike) == len(pair.sun.facts.ike) == 1
    pair.check_mirrored()
    pair.check_settled()
    check_nonces(pair)
    pair.rekey()
    pair.run(6)
    pair.check_mirrored()


def test_small_fragments_of_a_peer_are_followed_no_further_than_the_smallest():
    pair = Pair(moon={"fragment_size": 120}, toy_kex=True).initiate()
    pair.check_mirrored()
    assert newest(pair.sun).datagram_max == 576
    assert largest(pair) <= 576


def test_a_reload_with_another_size_keeps_the_ike_sa():
    pair = Pair(toy_kex=True).initiate()
    pair.watch_traffic()
    before = pair.moon.facts.ike[0].spi_i
    pair.moon.endpoint.set_connections([replace(pair.moon.connection, fragment_size=576)], pair.now)
    pair.run(1)
    since = len(pair.sent)
    pair.rekey()
    pair.run(6)
    assert pair.moon.facts.ike[0].spi_i == before
    assert largest(pair, since) <= 576
    pair.check_mirrored()
