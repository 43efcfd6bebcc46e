"""IKE_SA_INIT: cookies, other key exchanges, NAT, fragmentation, and what strangers may do."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from gateway.ike.events import Dropped, DropReason
from gateway.ike.message import decode_message, encode_message
from gateway.ike.outbox import Datagram
from gateway.ike.payloads import KePayload, NotifyPayload
from gateway.ike.received import Received
from gateway.ike.registry import ExchangeType as X
from gateway.ike.registry import KeMethod, NotifyType
from tests.support.ike_pair import MOON, SUN, Flight, Pair

P384_FIRST = ("aes256gcm16-prfsha384-ecp384-ke1_mlkem1024",)
BOTH = ("aes256gcm16-prfsha384-x25519-ecp384-ke1_mlkem1024",)


def inits(pair: Pair, sender: str) -> list[Received]:
    return [
        Received(decode_message(flight.data).payloads)
        for flight in pair.sent
        if flight.sender == sender and flight.header.exchange == X.IKE_SA_INIT
    ]


def drops(side) -> list[DropReason]:
    return [event.reason for event in side.events if isinstance(event, Dropped)]


def unprotected(kind: NotifyType, data: bytes = b"") -> object:
    """A fault: sun's IKE_SA_INIT response is kept back, this notify comes in its place."""

    def fault(flight: Flight) -> list[tuple[float, bytes]]:
        if flight.header.exchange == X.IKE_SA_INIT and flight.header.response:
            header = replace(flight.header, spi_r=bytes(8))
            return [(0.0, encode_message(header, [NotifyPayload(type=kind, data=data)]))]
        return [(0.0, flight.data)]

    return fault


def test_cookie():
    pair = Pair(cookie_threshold=0)
    # IKE_SA_INIT  SA, KE, Ni             -->
    #                                     <--  N(COOKIE), SPIr = 0
    # IKE_SA_INIT  N(COOKIE), SA, KE, Ni  -->
    #                                     <--  SA, KE, Nr
    pair.initiate()
    first, second = inits(pair, "moon")
    assert not first.has(NotifyType.COOKIE)
    cookie, _ = inits(pair, "sun")
    assert pair.sent[1].header.spi_r == bytes(8)
    assert second.notify(NotifyType.COOKIE).data == cookie.notify(NotifyType.COOKIE).data
    assert second.all(NotifyPayload)[0].type == NotifyType.COOKIE
    assert second.find(KePayload) == first.find(KePayload)
    pair.check_mirrored()
    pair.check_settled()


def test_no_state_before_the_cookie():
    pair = Pair(cookie_threshold=0, fault=lambda flight: [(0, flight.data)] * (flight.number < 1))
    pair.initiate()
    assert not pair.sun.facts.ike
    assert pair.sun.endpoint.next_deadline() is None


def test_cookie_of_somebody_else_is_no_cookie():
    pair = Pair(cookie_threshold=0, fault=unprotected(NotifyType.COOKIE, bytes(33)))
    pair.initiate()
    pair.run(100)
    assert not pair.moon.established
    assert DropReason.BAD_COOKIE in drops(pair.sun)
    assert len(inits(pair, "moon")) <= 12
    pair.check_settled()


def test_cookies_without_end():
    def endless(flight: Flight) -> list[tuple[float, bytes]]:
        return unprotected(NotifyType.COOKIE, b"cookie %d" % flight.number)(flight)

    pair = Pair(fault=endless).initiate()
    (failure,) = pair.moon.failures
    assert "cookies" in failure.reason
    assert len(inits(pair, "moon")) == 4


def test_oversized_cookie():
    pair = Pair(fault=unprotected(NotifyType.COOKIE, bytes(65)))
    pair.initiate()
    assert len(pair.moon.failures) == 1


def test_responder_wants_another_key_exchange():
    pair = Pair(moon={"ike": BOTH}, sun={"ike": P384_FIRST})
    # IKE_SA_INIT  SA, KE(X25519), Ni  -->
    #                                  <--  N(INVALID_KE_PAYLOAD)(P-384), SPIr = 0
    # IKE_SA_INIT  SA, KE(P-384), Ni   -->
    #                                  <--  SA, KE(P-384), Nr
    pair.initiate()
    first, second = inits(pair, "moon")
    assert first.find(KePayload).method == KeMethod.X25519
    assert second.find(KePayload).method == KeMethod.SECP384R1
    assert pair.moon.established[0].key_exchanges == ("P-384", "ML-KEM-1024")
    assert not pair.sun.failures
    pair.check_mirrored()
    pair.check_settled()


def test_cookie_stays_when_the_key_exchange_changes():
    pair = Pair(cookie_threshold=0, moon={"ike": BOTH}, sun={"ike": P384_FIRST}).initiate()
    cookies = [one.notify(NotifyType.COOKIE) for one in inits(pair, "moon")]
    assert cookies[0] is None
    assert cookies[1] == cookies[2]
    pair.check_mirrored()


def test_key_exchange_we_did_not_propose_is_refused():
    """Otherwise anybody on the way could lead us to a weaker one."""
    wanted = KeMethod.SECP256R1.to_bytes(2, "big")
    pair = Pair(fault=unprotected(NotifyType.INVALID_KE_PAYLOAD, wanted)).initiate()
    (failure,) = pair.moon.failures
    assert "P-256" in failure.reason
    assert len(inits(pair, "moon")) == 1


def test_other_key_exchanges_without_end():
    wanted = [KeMethod.SECP384R1.to_bytes(2, "big"), KeMethod.X25519.to_bytes(2, "big")]

    def endless(flight: Flight) -> list[tuple[float, bytes]]:
        data = wanted[flight.number // 2 % 2]
        return unprotected(NotifyType.INVALID_KE_PAYLOAD, data)(flight)

    pair = Pair(moon={"ike": BOTH}, fault=endless).initiate()
    assert "keeps asking" in pair.moon.failures[0].reason
    assert len(inits(pair, "moon")) == 3
    pair.check_settled()


def test_unprotected_error_ends_nothing_if_the_real_answer_follows():
    pair = Pair()

    def forge(flight: Flight) -> list[tuple[float, bytes]]:
        if flight.number != 1:
            return [(0.0, flight.data)]
        header = replace(flight.header, spi_r=bytes(8))
        forged = encode_message(header, [NotifyPayload(type=NotifyType.NO_PROPOSAL_CHOSEN)])
        return [(0.0, forged), (0.5, flight.data)]

    pair.fault = forge
    pair.initiate()
    pair.run(5)
    assert not pair.moon.failures
    pair.check_mirrored()


def test_half_open_per_source():
    """Who receives at an address can use up its share, cookies and all; then it ends."""
    pair = Pair(cookie_threshold=100, fault=lambda flight: [(0, flight.data)] * (not flight.number))
    pair.initiate()
    (request,) = [flight.data for flight in pair.sent if flight.sender == "moon"]
    cookies = 0
    for number in range(1, 20):
        other = bytes([number]) * 8 + request[8:]
        pair.inject(Datagram(data=other, local=(MOON, 500), remote=(SUN, 500)))
        pair.run()
        asked = Received(decode_message(pair.sent[-1].data).payloads).notify(NotifyType.COOKIE)
        if asked is not None:
            cookies += 1
            message = decode_message(other)
            again = encode_message(message.header, (asked, *message.payloads))
            pair.inject(Datagram(data=again, local=(MOON, 500), remote=(SUN, 500)))
            pair.run()
    assert cookies
    assert len(pair.sun.facts.ike) == 5
    assert DropReason.HALF_OPEN_LIMIT in drops(pair.sun)
    pair.run(40)
    assert not pair.sun.facts.ike


def test_many_half_open_bring_cookies():
    pair = Pair(cookie_threshold=3, fault=lambda flight: [(0, flight.data)] * (not flight.number))
    pair.initiate()
    request = pair.sent[0].data
    for number in range(1, 6):
        other = bytes([number]) * 8 + request[8:]
        pair.inject(Datagram(data=other, local=(MOON, 500), remote=(SUN, 500)))
    pair.run()
    assert len(pair.sun.facts.ike) == 3
    assert sum(one.has(NotifyType.COOKIE) for one in inits(pair, "sun")) == 3


def test_stranger_gets_no_answer():
    pair = Pair()
    pair.initiate()
    before = len(pair.sent)
    data = pair.sent[0].data
    stranger = Datagram(data=data, local=(ip_address("192.0.2.9"), 500), remote=(SUN, 500))
    pair.inject(replace(stranger, data=bytes(8 * [7]) + data[8:]))
    pair.run()
    assert len(pair.sent) == before
    assert drops(pair.sun) == [DropReason.UNKNOWN_PEER]


def test_repeated_request_gets_the_same_response_and_no_second_session():
    pair = Pair(fault=lambda flight: [(0.0, flight.data)] * (1 + (flight.number == 0)))
    pair.initiate()
    responses = [f.data for f in pair.sent if f.sender == "sun" and f.header.exchange == 34]
    assert len(responses) == 2
    assert responses[0] == responses[1]
    assert len(pair.sun.facts.ike) == 1
    pair.check_mirrored()


def test_fragments():
    pair = Pair(fragment_size=576)
    # IKE_INTERMEDIATE  SKF 1/3, SKF 2/3, SKF 3/3 -->  <-- SKF 1/3, SKF 2/3, SKF 3/3
    pair.initiate()
    sizes = [len(flight.data) for flight in pair.sent if flight.header.exchange != X.IKE_SA_INIT]
    assert max(sizes) <= 576 - 32
    assert sum(flight.header.exchange == X.IKE_INTERMEDIATE for flight in pair.sent) == 6
    pair.check_mirrored()
    pair.rekey()
    pair.run(6)
    pair.check_mirrored()
    pair.check_settled()


def test_fragments_out_of_order():
    pair = Pair(
        fragment_size=576,
        fault=lambda flight: [(0.1 if flight.number % 3 == 2 else 0.0, flight.data)],
    ).initiate()
    pair.run(2)
    pair.check_mirrored()


def test_repeated_fragments_are_answered_once():
    """RFC 7383 2.6.1: only the first fragment of an answered request asks for the answer."""
    dropped: list[int] = []

    def lose_first_answer(flight: Flight) -> list[tuple[float, bytes]]:
        intermediate = flight.header.exchange == X.IKE_INTERMEDIATE
        if intermediate and flight.header.response and len(dropped) < 3:
            dropped.append(flight.number)
            return []
        return [(0.0, flight.data)]

    pair = Pair(fragment_size=576, fault=lose_first_answer).initiate()
    pair.run(2)
    requests = [f for f in pair.sent if f.header.exchange == 43 and not f.header.response]
    responses = [f for f in pair.sent if f.header.exchange == 43 and f.header.response]
    assert len(requests) == 6  # three fragments, sent twice
    assert len(responses) == 6  # three fragments, sent twice: not once per fragment received
    pair.check_mirrored()
