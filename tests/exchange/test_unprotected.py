"""What is told in the clear outside any IKE SA, and what becomes of being told so.

RFC 7296 1.5, 2.5, 2.21: answers are rate-limited, never an answer to an answer, and whoever gets
one takes it for a hint at most.
"""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from gateway.ike import limits
from gateway.ike.encrypted import _Sealer
from gateway.ike.events import DropReason
from gateway.ike.message import Header, decode_message, encode_message
from gateway.ike.outbox import Datagram
from gateway.ike.payloads import NotifyPayload, UnknownPayload
from gateway.ike.registry import ExchangeType as X
from gateway.ike.registry import NotifyType
from tests.support.hostile_peer import drops, header_of, inject, newest, send_as_moon
from tests.support.ike_pair import SUN, Pair, Side

SPIS = {"spi_i": b"no such ", "spi_r": b"IKE SA! "}


def stray(*, response: bool = False, version: int = 0x20, message_id: int = 7) -> bytes:
    header = Header(
        **SPIS,
        exchange=X.INFORMATIONAL,
        message_id=message_id,
        initiator=True,
        response=response,
    )
    data = bytearray(encode_message(header, []))
    data[17] = version
    return bytes(data)


def answers(side_pair: Pair, name: str = "sun") -> list:
    return [decode_message(one.data) for one in side_pair.sent if one.sender == name]


def liveness_checks(pair: Pair, side: Side, since: int) -> int:
    return sum(
        1
        for one in pair.sent[since:]
        if one.sender == side.name and one.header.exchange == X.INFORMATIONAL
        and not one.header.response
    )  # fmt: skip


# --- telling ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "told", "reason"),
    [
        (stray(), NotifyType.INVALID_IKE_SPI, DropReason.UNKNOWN_SPI),
        (stray(version=0x2F), NotifyType.INVALID_IKE_SPI, DropReason.UNKNOWN_SPI),
        (stray(version=0x30), NotifyType.INVALID_MAJOR_VERSION, DropReason.BAD_VERSION),
        (stray(version=0x10), None, DropReason.BAD_VERSION),  # IKEv1
        (stray(response=True), None, DropReason.UNKNOWN_SPI),
        (stray(response=True, version=0x30), None, DropReason.BAD_VERSION),
    ],
)
def test_who_is_told_what(data, told, reason):
    pair = Pair()
    inject(pair, data)
    assert drops(pair.sun) == {reason: 1}
    assert [[one.type for one in answer.payloads] for answer in answers(pair)] == (
        [[told]] if told else []
    )
    for answer in answers(pair):
        header = answer.header
        assert (header.spi_i, header.spi_r) == (SPIS["spi_i"], SPIS["spi_r"])
        assert (header.exchange, header.message_id, header.response) == (X.INFORMATIONAL, 7, True)
        assert answer.payloads[0].data == b""
        assert pair.sent[0].data[17] == 0x20  # the highest version we speak


def test_nobody_is_told_often():
    pair = Pair()
    for number in range(200):
        inject(pair, stray(message_id=number))
    assert len(answers(pair)) == limits.UNPROTECTED_REPLIES_BURST
    assert drops(pair.sun)[DropReason.UNKNOWN_SPI] == 200


def test_who_has_no_tunnel_with_us_is_told_nothing():
    pair = Pair()
    stranger = (ip_address("203.0.113.9"), 500)
    pair.inject(Datagram(data=stray(), local=stranger, remote=(SUN, 500)))
    pair.run()
    assert not pair.sent


# --- being told ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [NotifyType.INVALID_IKE_SPI, NotifyType.INVALID_SPI, NotifyType.INVALID_MAJOR_VERSION],
)
@pytest.mark.parametrize("response", [False, True])
def test_a_hint_starts_one_liveness_check_and_nothing_else(kind, response):
    pair = Pair().initiate()
    since = len(pair.sent)
    hint = encode_message(header_of(pair, response=response), [NotifyPayload(type=kind)])
    for _ in range(50):
        inject(pair, hint)
    assert liveness_checks(pair, pair.sun, since) == 1
    assert drops(pair.sun) == {DropReason.UNPROTECTED: 50}
    pair.run(limits.HINT_INTERVAL)
    inject(pair, hint)
    assert liveness_checks(pair, pair.sun, since) == 2
    assert not any(side.closed for side in pair.sides)
    pair.check_mirrored()


@pytest.mark.parametrize("kind", [NotifyType.AUTHENTICATION_FAILED, NotifyType.COOKIE])
def test_other_unprotected_notifies_are_no_hints(kind):
    pair = Pair().initiate()
    since = len(pair.sent)
    inject(pair, encode_message(header_of(pair), [NotifyPayload(type=kind)]))
    assert liveness_checks(pair, pair.sun, since) == 0
    pair.check_mirrored()


def test_a_peer_that_restarted_is_found_out_sooner_by_its_hint():
    """moon has lost everything. It says so, and sun's own check then ends the old IKE SA."""
    pair = Pair().initiate()
    pair.crash(pair.moon)
    before = pair.now
    hint = encode_message(
        header_of_response(pair), [NotifyPayload(type=NotifyType.INVALID_IKE_SPI)]
    )
    inject(pair, hint)
    pair.run(25)
    assert pair.sun.closed
    assert pair.sun.closed[0].peer_lost
    assert pair.now - before < limits.LIVENESS_INTERVAL


def header_of_response(pair: Pair) -> Header:
    sa = newest(pair.sun)
    return Header(
        spi_i=sa.spi_i, spi_r=sa.spi_r, exchange=X.INFORMATIONAL, message_id=3,
        initiator=True, response=True,
    )  # fmt: skip


# --- versions, critical payloads, fragments, Message IDs -------------------------------------


def test_a_higher_minor_version_is_no_reason_to_refuse():
    def newer(flight):
        data = bytearray(flight.data)
        if flight.header.exchange == X.IKE_SA_INIT and not flight.header.response:
            data[17] = 0x21
        return [(0.0, bytes(data))]

    pair = Pair(fault=newer)
    pair.initiate()
    (answer,) = [one for one in pair.sent if one.sender == "sun" and one.header.exchange == 34]
    assert not [p for p in decode_message(answer.data).payloads if getattr(p, "type", 0) == 5]


def test_an_unknown_critical_payload_is_refused_by_its_number():
    pair = Pair().initiate()
    sa = newest(pair.moon)
    keys = sa.channel._current
    chain = b"\x00\x80\x00\x08what"  # our own encoder sets no critical bit
    inject(pair, _Sealer(header_of(pair), keys.sealer, keys.ivs).whole(200, chain))
    inner = sa.channel.open(pair.sent[-1].data, pair.sent[-1].header)
    (notify,) = inner.payloads()
    assert (notify.type, notify.data) == (NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, b"\xc8")
    pair.check_mirrored()


def test_an_unknown_payload_that_is_not_critical_is_skipped():
    pair = Pair().initiate()
    send_as_moon(pair, [UnknownPayload(type=200, data=b"what")])
    sa = newest(pair.moon)
    assert sa.channel.open(pair.sent[-1].data, pair.sent[-1].header).payloads() == ()
    pair.check_mirrored()


def test_fragments_only_where_both_said_so():
    pair = Pair().initiate()
    for side in pair.sides:
        newest(side).channel._fragments = False
    since = len(pair.sent)
    send_as_moon(pair, [UnknownPayload(type=200, data=bytes(900))],
                 fragment_size=576)  # fmt: skip
    assert drops(pair.sun)[DropReason.BAD_FRAGMENT] == 2
    assert len(pair.sent) == since


@pytest.mark.parametrize("distance", [-3, -2, 1, 2, 0x7FFFFFFF])
def test_a_message_id_outside_the_window_is_not_answered(distance):
    """RFC 7296 2.3: the one expected, and the one before, which is answered again."""
    pair = Pair().initiate()
    sa, expected = newest(pair.moon), newest(pair.sun).responses.expected
    header = header_of(pair, message_id=expected + distance)
    (data,) = sa.channel.seal(header, [], fragment_size=None, ip_version=4)
    inject(pair, data)
    assert drops(pair.sun) == {DropReason.UNEXPECTED_MESSAGE_ID: 1}
    assert pair.sent[-1].sender == "sun"  # of the handshake: nothing was answered
    pair.check_mirrored()


def test_a_busy_peer_waits_and_a_mad_one_is_held_up():
    """An authentic peer that never stops asking is answered at the rate we allow."""
    pair = Pair().initiate()
    asked = int(limits.PEER_REQUESTS_BURST) + 50
    for _ in range(asked):
        send_as_moon(pair, [])
    held_up = drops(pair.sun)[DropReason.RATE_LIMIT]
    assert 0 < held_up < asked
    expected = newest(pair.sun).responses.expected
    pair.run(1)
    send_as_moon(pair, [])  # the same Message ID again: it was not lost
    assert newest(pair.sun).responses.expected == expected + 1
    pair.check_mirrored()
