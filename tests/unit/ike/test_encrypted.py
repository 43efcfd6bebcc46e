"""SK, SKF, reassembly and IntAuth octets."""

from __future__ import annotations

import random
from ipaddress import ip_address

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.crypto.aead import IkeAead
from gateway.crypto.algorithms import EncryptionId
from gateway.crypto.secret import Secret
from gateway.errors import CryptoError
from gateway.ike.encrypted import (
    MAX_FRAGMENTS,
    MAX_MESSAGE,
    CounterIv,
    Envelope,
    Inner,
    Reassembler,
    find_encrypted,
    open_fragment,
    open_message,
    seal,
    sent_int_auth,
)
from gateway.ike.errors import FragmentError, FragmentLimitError, ProtocolError
from gateway.ike.fragments import FragmentMemory
from gateway.ike.message import HEADER_SIZE, Header
from gateway.ike.payloads import KePayload, NotifyPayload, Payload, encode_chain
from gateway.ike.registry import ExchangeType
from tests.support.ike_strategies import chains, headers

KEY = bytes(range(36))
SOURCE = ip_address("192.0.2.1")
HEADER = Header(
    spi_i=b"initiato",
    spi_r=b"responde",
    exchange=ExchangeType.IKE_INTERMEDIATE,
    message_id=1,
    initiator=True,
    response=False,
)
MLKEM = (KePayload(method=36, data=bytes(1184)),)


@pytest.fixture
def aead() -> IkeAead:
    return IkeAead(Secret(KEY))


def envelope_of(datagram: bytes) -> Envelope:
    envelope = find_encrypted(datagram)
    assert envelope is not None
    return envelope


def reassemble(datagrams: list[bytes], aead: IkeAead) -> Inner:
    reassembler = Reassembler(FragmentMemory().share(SOURCE))
    results = [reassembler.add(data, aead, envelope_of(data)) for data in datagrams]
    assert results[:-1] == [None] * (len(results) - 1)
    assert results[-1] is not None
    return results[-1]


def receive(datagrams: list[bytes], aead: IkeAead) -> Inner:
    if envelope_of(datagrams[0]).fragment:
        return reassemble(datagrams, aead)
    (datagram,) = datagrams
    return open_message(datagram, aead)


# --- SK ---------------------------------------------------------------------------------------


def test_sk_octets_and_associated_data(aead: IkeAead) -> None:
    """Opened with AES-GCM alone: nonce salt | IV, AAD header and generic header (RFC 5282)."""
    (datagram,) = seal(HEADER, [NotifyPayload(type=16435)], aead, CounterIv())
    assert datagram[16] == 46
    assert datagram[28:32].hex() == "29000025"  # first inner payload N, length 37
    assert datagram[32:40] == bytes(8)
    assert len(datagram) == int.from_bytes(datagram[24:28], "big") == HEADER_SIZE + 37
    inner = AESGCM(KEY[:32]).decrypt(KEY[32:] + datagram[32:40], datagram[40:], datagram[:32])
    assert inner.hex() == "0000000800004033" + "00"  # the payload, and Pad Length 0


@given(headers, chains)
def test_sk_round_trip(header: Header, payloads: tuple[Payload, ...]) -> None:
    aead = IkeAead(Secret(KEY), EncryptionId.CHACHA20_POLY1305)
    (datagram,) = seal(header, payloads, aead, CounterIv())
    inner = open_message(datagram, aead)
    assert inner.payloads() == payloads
    assert inner.int_auth == sent_int_auth(header, payloads)


def test_an_empty_message(aead: IkeAead) -> None:
    """A liveness check has no payload inside (RFC 7296 1.4)."""
    (datagram,) = seal(HEADER, [], aead, CounterIv())
    assert datagram[28] == 0
    assert open_message(datagram, aead).payloads() == ()


def test_no_iv_is_used_twice(aead: IkeAead) -> None:
    ivs = CounterIv()
    datagrams = seal(HEADER, MLKEM, aead, ivs) + seal(HEADER, MLKEM, aead, ivs, 576)
    used = [data[32:40] for data in datagrams[:1]] + [data[36:44] for data in datagrams[1:]]
    assert [int.from_bytes(iv, "big") for iv in used] == list(range(len(datagrams)))


def test_every_octet_of_an_sk_message_is_protected(aead: IkeAead) -> None:
    (datagram,) = seal(HEADER, [NotifyPayload(type=16435)], aead, CounterIv())
    for position in range(len(datagram)):
        broken = bytearray(datagram)
        broken[position] ^= 0x40
        with pytest.raises((CryptoError, ProtocolError, FragmentError)):
            open_message(bytes(broken), aead)


def test_padding_of_a_peer_is_removed(aead: IkeAead) -> None:
    """RFC 7296 3.14: any content, any length, its length in the last octet."""
    first, chain = encode_chain([NotifyPayload(type=16435)])
    padded = chain + b"\xde\xad\xbe\xef" + b"\x04"
    length = 4 + 8 + len(padded) + 16
    aad = HEADER.encode(46, HEADER_SIZE + length) + bytes((first, 0, 0, length))
    datagram = aad + bytes(8) + aead.seal(bytes(8), aad, padded)
    inner = open_message(datagram, aead)
    assert inner.payloads() == (NotifyPayload(type=16435),)
    assert inner.int_auth == sent_int_auth(HEADER, [NotifyPayload(type=16435)])


def test_padding_longer_than_the_content(aead: IkeAead) -> None:
    length = 4 + 8 + 2 + 16
    aad = HEADER.encode(46, HEADER_SIZE + length) + bytes((41, 0, 0, length))
    datagram = aad + bytes(8) + aead.seal(bytes(8), aad, b"\x00\x02")
    with pytest.raises(ProtocolError, match="padding"):
        open_message(datagram, aead)


def test_the_encrypted_payload_must_be_the_last(aead: IkeAead) -> None:
    (datagram,) = seal(HEADER, [], aead, CounterIv())
    longer = datagram + bytes(4)
    longer = longer[:24] + len(longer).to_bytes(4, "big") + longer[28:]
    with pytest.raises(ProtocolError, match="not the last"):
        find_encrypted(longer)


def test_payloads_in_front_are_authenticated_but_not_content(aead: IkeAead) -> None:
    """RFC 7296 3.14 allows them; RFC 5282 5.1 and RFC 9242 3.3.2 take them in."""
    front = bytes.fromhex("2e00000800004033")
    length = 4 + 8 + 1 + 16
    aad = HEADER.encode(41, HEADER_SIZE + 8 + length) + front + bytes((0, 0, 0, length))
    datagram = aad + bytes(8) + aead.seal(bytes(8), aad, b"\x00")
    inner = open_message(datagram, aead)
    assert inner.payloads() == ()
    assert inner.int_auth == HEADER.encode(41, HEADER_SIZE + 12) + front + bytes.fromhex("00000004")
    broken = bytearray(datagram)
    broken[35] ^= 1
    with pytest.raises(CryptoError):
        open_message(bytes(broken), aead)


def test_a_message_without_an_encrypted_payload(aead: IkeAead) -> None:
    plain = HEADER.encode(0, HEADER_SIZE)
    assert find_encrypted(plain) is None
    with pytest.raises(ProtocolError, match="no SK"):
        open_message(plain, aead)


@pytest.mark.parametrize("kind", [46, 53])
def test_an_encrypted_payload_shorter_than_its_parts(kind: int) -> None:
    size = {46: 4 + 8 + 17, 53: 8 + 8 + 17}[kind]
    for short in range(size):
        body = bytes((0, 0, 0, short)) + b"\x00\x01\x00\x01" + bytes(size)
        datagram = HEADER.encode(kind, HEADER_SIZE + short) + body[:short]
        with pytest.raises(ProtocolError):
            find_encrypted(datagram)


# --- SKF --------------------------------------------------------------------------------------


def test_skf_octets_and_associated_data(aead: IkeAead) -> None:
    """RFC 7383 2.5: the fragment numbers are associated data; only fragment 1 names the type."""
    datagrams = seal(HEADER, MLKEM, aead, CounterIv(), 576)
    assert len(datagrams) == 3
    for number, datagram in enumerate(datagrams, 1):
        assert datagram[16] == 53
        assert datagram[28] == (34 if number == 1 else 0)
        assert datagram[32:36] == bytes((0, number, 0, 3))
        assert int.from_bytes(datagram[24:28], "big") == len(datagram)
        AESGCM(KEY[:32]).decrypt(KEY[32:] + datagram[36:44], datagram[44:], datagram[:36])


@pytest.mark.parametrize(("ip_version", "header"), [(4, 20), (6, 40)])
@pytest.mark.parametrize("size", [300, 576, 1280, 1500])
def test_datagrams_fit_and_are_filled(
    aead: IkeAead, ip_version: int, header: int, size: int
) -> None:
    datagrams = seal(HEADER, MLKEM, aead, CounterIv(), size, ip_version=ip_version)
    on_the_wire = [header + 8 + 4 + len(data) for data in datagrams]
    assert max(on_the_wire) <= size
    assert len(datagrams) == 1 or on_the_wire[0] == size


def test_the_limit_between_whole_and_fragmented(aead: IkeAead) -> None:
    (whole,) = seal(HEADER, MLKEM, aead, CounterIv())
    assert len(seal(HEADER, MLKEM, aead, CounterIv(), len(whole) + 32)) == 1
    assert len(seal(HEADER, MLKEM, aead, CounterIv(), len(whole) + 31)) == 2


def test_a_datagram_too_small_for_anything(aead: IkeAead) -> None:
    with pytest.raises(ValueError, match="100 octets"):
        seal(HEADER, MLKEM, aead, CounterIv(), 100)


@settings(max_examples=60)
@given(headers, chains, st.integers(120, 1500), st.randoms(use_true_random=False))
def test_any_size_and_order_gives_the_same_octets(
    header: Header, payloads: tuple[Payload, ...], size: int, order: random.Random
) -> None:
    """Content and A | P do not depend on how the message travelled (RFC 9242 3.3.2)."""
    aead = IkeAead(Secret(KEY))
    datagrams = seal(header, payloads, aead, CounterIv(), size)
    order.shuffle(datagrams)
    inner = receive(datagrams, aead)
    (whole,) = seal(header, payloads, aead, CounterIv())
    assert inner.payloads() == payloads
    assert inner.int_auth == open_message(whole, aead).int_auth == sent_int_auth(header, payloads)


def test_int_auth_octets_of_a_known_message() -> None:
    """Lengths as if the content stood there in the clear; Next Payload 46 although fragmented."""
    payloads = [NotifyPayload(type=16435)]
    octets = sent_int_auth(HEADER, payloads)
    assert octets == b"".join(
        (
            b"initiatoresponde",
            bytes.fromhex("2e202b08 00000001 00000028"),  # 28 + 4 + 8
            bytes.fromhex("2900000c"),  # 4 + 8
            bytes.fromhex("0000000800004033"),
        )
    )


def test_every_octet_of_a_fragment_is_protected(aead: IkeAead) -> None:
    datagram = seal(HEADER, MLKEM, aead, CounterIv(), 576)[0]
    for position in range(48):
        broken = bytearray(datagram)
        broken[position] ^= 0x01
        with pytest.raises((CryptoError, ProtocolError, FragmentError)):
            open_fragment(bytes(broken), aead)


def test_one_fragment_of_one_is_a_message(aead: IkeAead) -> None:
    assert fragments_of(aead, [b""], first=0)[0][28] == 0
    inner = reassemble(fragments_of(aead, [b""], first=0), aead)
    assert inner.payloads() == ()


def fragments_of(
    aead: IkeAead,
    chunks: list[bytes],
    *,
    first: int = 34,
    total: int | None = None,
    message_id: int = 1,
) -> list[bytes]:
    """Fragments with any content and numbers, as a peer of another mind might send them."""
    header = Header(
        spi_i=b"initiato",
        spi_r=b"responde",
        exchange=ExchangeType.IKE_INTERMEDIATE,
        message_id=message_id,
        initiator=True,
        response=False,
    )
    count = total or len(chunks)
    result = []
    for number, chunk in enumerate(chunks, 1):
        length = 8 + 8 + len(chunk) + 1 + 16
        aad = header.encode(53, HEADER_SIZE + length) + b"".join(
            (
                bytes((first if number == 1 else 0, 0)),
                length.to_bytes(2, "big"),
                number.to_bytes(2, "big"),
                count.to_bytes(2, "big"),
            )
        )
        iv = number.to_bytes(8, "big")
        result.append(aad + iv + aead.seal(iv, aad, chunk + b"\x00"))
    return result


class TestReassembly:
    """RFC 7383 2.6, test by test."""

    @pytest.fixture
    def datagrams(self, aead: IkeAead) -> list[bytes]:
        return seal(HEADER, MLKEM, aead, CounterIv(), 576)

    def test_a_fragment_that_is_here_already_is_dropped(
        self, aead: IkeAead, datagrams: list[bytes]
    ) -> None:
        reassembler = Reassembler(FragmentMemory().share(SOURCE))
        reassembler.add(datagrams[0], aead, envelope_of(datagrams[0]))
        with pytest.raises(FragmentError, match="already here"):
            reassembler.add(datagrams[0], aead, envelope_of(datagrams[0]))
        assert reassembler.add(datagrams[1], aead, envelope_of(datagrams[1])) is None
        inner = reassembler.add(datagrams[2], aead, envelope_of(datagrams[2]))
        assert inner is not None
        assert inner.payloads() == MLKEM

    @pytest.mark.parametrize(("number", "total"), [(0, 0), (0, 3), (4, 3), (1, 0)])
    def test_impossible_numbers(
        self, aead: IkeAead, datagrams: list[bytes], number: int, total: int
    ) -> None:
        place = number.to_bytes(2, "big") + total.to_bytes(2, "big")
        with pytest.raises(FragmentError, match=f"fragment {number} of {total}"):
            find_encrypted(datagrams[0][:32] + place + datagrams[0][36:])

    def test_a_larger_total_replaces_what_was_here(
        self, aead: IkeAead, datagrams: list[bytes]
    ) -> None:
        """The peer sends the message again in smaller pieces."""
        smaller = seal(HEADER, MLKEM, aead, CounterIv(), 300)
        assert len(smaller) > len(datagrams)
        reassembler = Reassembler(FragmentMemory().share(SOURCE))
        for data in (*datagrams[:2], *smaller[:-1]):
            assert reassembler.add(data, aead, envelope_of(data)) is None
        with pytest.raises(FragmentError, match="of 3, others of"):
            reassembler.add(datagrams[2], aead, envelope_of(datagrams[2]))
        inner = reassembler.add(smaller[-1], aead, envelope_of(smaller[-1]))
        assert inner is not None
        assert inner.payloads() == MLKEM

    def test_a_forged_fragment_changes_nothing(self, aead: IkeAead, datagrams: list[bytes]) -> None:
        """Neither one with a larger total nor one of another message (ICV first)."""
        reassembler = Reassembler(FragmentMemory().share(SOURCE))
        for data in datagrams[:2]:
            reassembler.add(data, aead, envelope_of(data))
        larger = datagrams[2][:34] + b"\x00\x09" + datagrams[2][36:]
        other = datagrams[2][:23] + b"\x07" + datagrams[2][24:]
        for forged in (larger, other):
            with pytest.raises(CryptoError):
                reassembler.add(forged, aead, envelope_of(forged))
        assert reassembler.add(datagrams[2], aead, envelope_of(datagrams[2])) is not None

    def test_another_message_replaces_an_unfinished_one(self, aead: IkeAead) -> None:
        chain = encode_chain(MLKEM)[1]
        old = fragments_of(aead, [chain[:600], chain[600:]])
        new = fragments_of(aead, [chain[:600], chain[600:]], message_id=2)
        reassembler = Reassembler(FragmentMemory().share(SOURCE))
        assert reassembler.add(old[0], aead, envelope_of(old[0])) is None
        assert reassembler.add(new[1], aead, envelope_of(new[1])) is None
        inner = reassembler.add(new[0], aead, envelope_of(new[0]))
        assert inner is not None
        assert inner.header.message_id == 2

    def test_memory_is_bounded(self, aead: IkeAead) -> None:
        reassembler = Reassembler(FragmentMemory().share(SOURCE))
        datagrams = fragments_of(aead, [bytes(40000)] * 2, total=3)
        reassembler.add(datagrams[0], aead, envelope_of(datagrams[0]))
        with pytest.raises(FragmentLimitError, match=str(MAX_MESSAGE)):
            reassembler.add(datagrams[1], aead, envelope_of(datagrams[1]))

    def test_the_number_of_fragments_is_bounded(self, aead: IkeAead) -> None:
        (ok,) = fragments_of(aead, [b"x"], total=MAX_FRAGMENTS)
        assert envelope_of(ok).total == MAX_FRAGMENTS
        (bad,) = fragments_of(aead, [b"x"], total=MAX_FRAGMENTS + 1)
        with pytest.raises(FragmentLimitError, match="257 fragments"):
            find_encrypted(bad)

    def test_it_is_ready_for_the_next_message(self, aead: IkeAead, datagrams: list[bytes]) -> None:
        reassembler = Reassembler(FragmentMemory().share(SOURCE))
        for _ in range(2):
            results = [reassembler.add(data, aead, envelope_of(data)) for data in datagrams]
            assert results[-1] is not None

    def test_sk_and_skf_do_not_pass_for_each_other(
        self, aead: IkeAead, datagrams: list[bytes]
    ) -> None:
        with pytest.raises(ProtocolError, match="no SK payload"):
            open_message(datagrams[0], aead)
        (whole,) = seal(HEADER, MLKEM, aead, CounterIv())
        with pytest.raises(ProtocolError, match="no SKF payload"):
            open_fragment(whole, aead)
