"""What an attacker on the way can send, and that it changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.crypto.aead import IkeAead
from gateway.crypto.secret import Secret
from gateway.ike.encrypted import CounterIv, seal
from gateway.ike.events import DropReason
from gateway.ike.message import Header, encode_message
from gateway.ike.outbox import Datagram
from gateway.ike.payloads import DeletePayload, NoncePayload, NotifyPayload, UnknownPayload
from gateway.ike.registry import ExchangeType as X
from gateway.ike.registry import NotifyType, ProtocolId
from tests.support.hostile_peer import TO_SUN, drops, header_of, inject, newest, send_as_moon
from tests.support.ike_pair import Flight, Pair


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.99])
def test_one_flipped_bit_in_a_flight(number, place):
    """The tampered copy is dropped; the repetition gets through. No SA with wrong keys."""

    def flip(flight: Flight) -> list[tuple[float, bytes]]:
        if flight.number != number:
            return [(0.0, flight.data)]
        data = bytearray(flight.data)
        data[int(place * (len(data) - 1))] ^= 0x01
        return [(0.0, bytes(data))]

    pair = Pair(fault=flip).initiate()
    pair.run(120)
    up = [side for side in pair.sides if side.ups]
    if number > 1:  # protected messages: only that copy is lost
        assert len(up) == 2
    if len(up) == 2 and all(side.facts.children for side in pair.sides):
        pair.check_mirrored()
    else:  # IKE_SA_INIT was changed: AUTH must not have verified where that arrived
        assert not pair.moon.ups
        pair.check_empty()
    pair.check_settled()


@pytest.mark.parametrize("exchange", [X.IKE_INTERMEDIATE, X.IKE_AUTH])
def test_replayed_handshake_messages(exchange):
    pair = Pair().initiate()
    for flight in [one for one in pair.sent if one.sender == "moon"]:
        if flight.header.exchange == exchange:
            inject(pair, flight.data)
    assert drops(pair.sun)[DropReason.UNEXPECTED_MESSAGE_ID] >= 1
    assert pair.sent[-1].header.exchange == X.INFORMATIONAL  # nothing was answered
    pair.check_mirrored()
    pair.check_settled()


def test_whole_recorded_handshake_played_again():
    pair = Pair().initiate()
    recorded = [flight.data for flight in pair.sent if flight.sender == "moon"]
    pair.moon.endpoint.close("net", reason="terminated by the operator", now=pair.now)
    pair.run(100)
    ups = len(pair.sun.ups)
    fetches = len(pair.sun.fetches)
    pair.fault = lambda flight: []
    for data in recorded:
        inject(pair, data)
    pair.run(60)
    assert len(pair.sun.ups) == ups
    assert len(pair.sun.fetches) == fetches  # no key was taken from the KME
    assert not pair.sun.facts.ike
    pair.check_empty()


def test_replayed_last_request_brings_the_same_response():
    pair = Pair().initiate()
    last = [flight for flight in pair.sent if flight.sender == "moon"][-1]
    answer = [flight for flight in pair.sent if flight.sender == "sun"][-1]
    inject(pair, last.data)
    assert pair.sent[-1].data == answer.data
    pair.check_mirrored()


def test_unprotected_messages_to_an_established_sa():
    pair = Pair().initiate()
    before = len(pair.sent)
    delete = [DeletePayload(protocol=ProtocolId.IKE)]
    inject(pair, encode_message(header_of(pair), delete))
    assert drops(pair.sun)[DropReason.UNPROTECTED] == 1
    assert len(pair.sent) == before
    pair.check_mirrored()


def test_unprotected_error_in_answer_to_a_protected_request():
    def forge(flight: Flight) -> list[tuple[float, bytes]]:
        if flight.header.exchange != X.IKE_AUTH or not flight.header.response:
            return [(0.0, flight.data)]
        notify = [NotifyPayload(type=NotifyType.AUTHENTICATION_FAILED)]
        return [(0.0, encode_message(flight.header, notify)), (0.5, flight.data)]

    pair = Pair(fault=forge).initiate()
    pair.run(3)
    assert drops(pair.moon)[DropReason.UNPROTECTED] == 1
    pair.check_mirrored()


def test_message_sealed_with_another_key():
    pair = Pair().initiate()
    aead = IkeAead(Secret(bytes(36)))
    (data,) = seal(header_of(pair), [], aead, CounterIv())
    inject(pair, data)
    assert drops(pair.sun) == {DropReason.INTEGRITY: 1}
    pair.check_mirrored()


def test_wrong_spis_and_ids():
    pair = Pair().initiate()
    sa = pair.moon.endpoint._sessions.all()[0].sa
    (good,) = sa.channel.seal(header_of(pair), [], fragment_size=None, ip_version=4)
    inject(pair, bytes(8 * [1]) + good[8:])
    inject(pair, good[:8] + bytes(8 * [1]) + good[16:])
    assert drops(pair.sun)[DropReason.UNKNOWN_SPI] == 2
    ahead = header_of(pair, message_id=99)
    inject(pair, sa.channel.seal(ahead, [], fragment_size=None, ip_version=4)[0])
    assert drops(pair.sun)[DropReason.UNEXPECTED_MESSAGE_ID] == 1
    pair.check_mirrored()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", DropReason.TOO_SHORT),
        (b"short", DropReason.TOO_SHORT),
        (bytes(28), DropReason.BAD_VERSION),
        (bytes(16) + b"\x00\x20\x22\x08" + bytes(4) + b"\x00\x00\x00\x1c", DropReason.BAD_HEADER),
        (b"12345678" * 2 + b"\x00\x20\x25\x08" + bytes(8), DropReason.BAD_HEADER),
        (
            b"12345678" * 2 + b"\x00\x20\x25\x08" + bytes(4) + b"\x00\x00\x00\x1c",
            DropReason.UNKNOWN_SPI,
        ),
    ],
)
def test_rubbish(data, reason):
    pair = Pair()
    inject(pair, data)
    assert drops(pair.sun) == {reason: 1}
    assert len(pair.sent) == (reason is DropReason.UNKNOWN_SPI)  # see test_unprotected


def test_malformed_ike_sa_init_is_answered_once_in_a_while():
    pair = Pair()
    header = Header(
        spi_i=b"initiato",
        spi_r=bytes(8),
        exchange=X.IKE_SA_INIT,
        message_id=0,
        initiator=True,
        response=False,
    )
    for number in range(100):
        one = replace(header, spi_i=number.to_bytes(8, "big") if number else b"12345678")
        pair.inject(Datagram(data=encode_message(one, []), **TO_SUN))
    pair.run()
    assert len(pair.sent) == 20
    assert not pair.sun.facts.ike


def test_malformed_content_from_an_authentic_peer_is_fatal():
    """RFC 7296 2.21.3: INVALID_SYNTAX ends the IKE SA on both sides."""
    pair = Pair().initiate()
    truncated = UnknownPayload(type=41, data=b"\x00")  # a Notify that ends early
    send_as_moon(pair, [truncated])
    assert pair.sun.closed[0].reason.startswith("Notify payload")
    assert pair.sent[-1].sender == "sun"


def test_unknown_payloads_and_notifies_are_skipped():
    pair = Pair().initiate()
    send_as_moon(pair, [UnknownPayload(type=200, data=b"?"), NotifyPayload(type=50000)])
    assert not pair.sun.closed
    pair.check_mirrored()


def test_delete_of_children_that_are_not_there():
    pair = Pair().initiate()
    send_as_moon(pair, [DeletePayload(protocol=ProtocolId.ESP, spis=(b"\x01\x02\x03\x04",))])
    assert not pair.sun.failures
    pair.check_mirrored()


@pytest.mark.parametrize("exchange", [X.IKE_SA_INIT, X.IKE_AUTH, X.IKE_INTERMEDIATE, 99])
def test_exchange_that_does_not_belong_here(exchange):
    pair = Pair().initiate()
    send_as_moon(pair, [], exchange=exchange)
    assert drops(pair.sun)[DropReason.UNEXPECTED_EXCHANGE] == 1
    pair.check_mirrored()


@pytest.mark.parametrize(
    "words",
    ["aes256gcm16-prfsha512-x25519", "aes256gcm16-prfsha256-x25519-ke1_mlkem768"],
    ids=["without ML-KEM", "another PRF"],
)
def test_weaker_rekey_of_the_ike_sa_is_refused_and_harmless(words):
    from gateway.ike.payloads import NoncePayload, SaPayload
    from gateway.ike.proposals import ProposalSpec, offers

    pair = Pair().initiate()
    offered = offers([ProposalSpec.parse(words)], bytes(7) + b"\x01")
    send_as_moon(
        pair,
        [SaPayload(proposals=offered), NoncePayload(data=bytes(32))],
        exchange=X.CREATE_CHILD_SA,
    )
    assert pair.sun.failures[0].notify == "NO_PROPOSAL_CHOSEN"
    assert not pair.sun.closed
    pair.check_mirrored()


def test_fragments_that_never_end():
    """Memory for one message is bounded, and the IKE SA stays usable."""
    from gateway.ike.encrypted import MAX_MESSAGE

    pair = Pair().initiate()
    sa = pair.moon.endpoint._sessions.all()[0].sa
    header = header_of(pair)
    blob = UnknownPayload(type=200, data=bytes(60000))
    parts = sa.channel.seal(header, [blob, blob], fragment_size=1280, ip_version=4)
    for data in parts[:-1]:
        pair.inject(Datagram(data=data, **TO_SUN))
    pair.run()
    assert drops(pair.sun)[DropReason.FRAGMENT_LIMIT] >= 1
    assert MAX_MESSAGE == 65536
    pair.check_mirrored()


def test_key_ids_of_strangers_cost_no_more_than_the_limit():
    """Each begins a handshake of its own and names a key; only so many are asked for."""
    from dataclasses import replace as change

    from tests.support.ike_pair import SeededRng

    pair = Pair(cookie_threshold=100)
    pair.sun.hold_fetches = True
    endpoint = pair.moon.endpoint
    for number in range(5):
        other = Pair(seed=f"stranger {number}", moon={"psk": b"guessed"})
        other.moon.endpoint._env = change(other.moon.endpoint._env, rng=SeededRng(str(number)))
        pair.moon.endpoint = other.moon.endpoint
        other._keys = number
        other.moon.endpoint.initiate("net", ppk=other.key(at_peer=None), now=pair.now)
        pair.run()
    pair.moon.endpoint = endpoint
    assert len(pair.sun.fetches) == 2
    assert any("too many key look-ups" in getattr(e, "reason", "") for e in pair.sun.events)
    pair.run(60)
    assert not pair.sun.facts.ike
    for command in pair.sun.fetches:
        pair.sun.kme[command.key_id] = bytes(32)
        pair.sun.deliver_key(command, pair.now)
    pair.run()
    pair.check_settled_at(pair.sun)


def test_key_fetched_for_a_peer_that_fails_is_burned():
    pair = Pair(moon={"psk": b"guessed"}).initiate()
    assert [command.used for command in pair.sun.settled] == [False]
    pair.check_settled()


@pytest.mark.parametrize("back", [0, 1])
def test_a_request_in_the_clear_is_dropped_as_new_and_as_repeated(back):
    """Whoever has seen the SPIs can send it: to be counted, not to be answered or to throw."""
    pair = Pair().initiate()
    before = len(pair.sent)
    header = header_of(pair, message_id=newest(pair.sun).responses.expected - back)
    inject(pair, encode_message(header, [NoncePayload(data=bytes(16))]))
    assert drops(pair.sun) == {DropReason.UNPROTECTED: 1}
    assert len(pair.sent) == before
    pair.check_mirrored()
