"""Payloads and chains: a table of octets, round trips, and what is refused."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given

from gateway.ike.errors import ProtocolError
from gateway.ike.identity import Identity
from gateway.ike.payloads import (
    AuthPayload,
    CertPayload,
    CertReqPayload,
    ConfigAttribute,
    ConfigPayload,
    DeletePayload,
    IdPayload,
    KePayload,
    NoncePayload,
    NotifyPayload,
    Payload,
    SaPayload,
    TsPayload,
    UnknownPayload,
    VendorIdPayload,
    decode_chain,
    encode_chain,
)
from gateway.ike.proposal_spec import ProposalSpec, offers
from gateway.ike.registry import NotifyType, PayloadType
from gateway.ike.selectors import from_networks
from tests.support.ike_strategies import chains

IKE = ProposalSpec.parse("aes256gcm16-prfsha512-x25519-ke1_mlkem768")
MOON = Identity.parse("moon")

# payload, its type, its body in hexadecimal
TABLE: list[tuple[Payload, int, str]] = [
    (
        SaPayload(proposals=offers([IKE])),
        33,
        (
            "0000002c 01010004"  # last, length 44; number 1, IKE, no SPI, 4 transforms
            "0300000c 01000014 800e0100"  # ENCR AES-GCM-16, key length 256
            "03000008 02000007"  # PRF HMAC-SHA2-512
            "03000008 0400001f"  # KE X25519
            "00000008 06000024"
        ),  # ADDKE1 ML-KEM-768
    ),
    (KePayload(method=31, data=b"\xaa" * 4), 34, "001f0000 aaaaaaaa"),
    (IdPayload(initiator=True, identity=MOON), 35, "02000000 6d6f6f6e"),
    (IdPayload(initiator=False, identity=MOON), 36, "02000000 6d6f6f6e"),
    (CertPayload(encoding=4, data=b"\x30"), 37, "0430"),
    (CertReqPayload(encoding=4, data=bytes(20)), 38, "04" + "00" * 20),
    (AuthPayload(method=2, data=b"\xbb\xbb"), 39, "02000000 bbbb"),
    (NoncePayload(data=bytes(range(16))), 40, bytes(range(16)).hex()),
    (NotifyPayload(type=16438), 41, "00004036"),
    (
        NotifyPayload(type=16393, protocol=3, spi=b"\x01\x02\x03\x04"),
        41,
        "03044009 01020304",
    ),
    (NotifyPayload(type=17, data=b"\x00\x13"), 41, "00000011 0013"),
    (DeletePayload(protocol=1), 42, "01000000"),
    (
        DeletePayload(protocol=3, spis=(b"\x01\x02\x03\x04", b"\x05\x06\x07\x08")),
        42,
        "03040002 01020304 05060708",
    ),
    (VendorIdPayload(data=b"qsgw"), 43, "71736777"),
    (
        TsPayload(initiator=True, selectors=from_networks([ip_network("10.1.0.0/24")])),
        44,
        "01000000 07000010 0000ffff 0a010000 0a0100ff",
    ),
    (
        TsPayload(initiator=False, selectors=from_networks([ip_network("2001:db8::/64")])),
        45,
        (
            "01000000 08000028 0000ffff 20010db8 0000000000000000 00000000"
            "20010db8 00000000 ffffffffffffffff"
        ),
    ),
    (
        ConfigPayload(type=1, attributes=(ConfigAttribute(type=1, value=b""),)),
        47,
        "01000000 00010000",
    ),
    (UnknownPayload(type=48, data=b"\x01"), 48, "01"),
]


@pytest.mark.parametrize(("payload", "kind", "body"), TABLE, ids=lambda v: type(v).__name__)
def test_table(payload: Payload, kind: int, body: str) -> None:
    octets = bytes.fromhex(body)
    assert payload.payload_type == kind
    assert payload.body() == octets
    length = (len(octets) + 4).to_bytes(2, "big")
    assert encode_chain([payload]) == (kind, b"\x00\x00" + length + octets)
    assert decode_chain(kind, b"\x00\x00" + length + octets) == (payload,)


@pytest.mark.parametrize(("payload", "kind", "body"), TABLE, ids=lambda v: type(v).__name__)
def test_every_shorter_body_is_refused_or_something_else(
    payload: Payload, kind: int, body: str
) -> None:
    """Cut at every octet: never the same payload, never anything but a ProtocolError."""
    octets = bytes.fromhex(body)
    for size in range(len(octets)):
        chain = b"\x00\x00" + (size + 4).to_bytes(2, "big") + octets[:size]
        try:
            (decoded,) = decode_chain(kind, chain)
        except ProtocolError as error:
            assert error.notify is NotifyType.INVALID_SYNTAX  # noqa: PT017
        else:
            assert decoded != payload


def test_an_empty_chain() -> None:
    assert encode_chain([]) == (0, b"")
    assert decode_chain(0, b"") == ()


def test_each_payload_names_the_next() -> None:
    first, chain = encode_chain([NoncePayload(data=bytes(16)), NotifyPayload(type=16435)])
    assert first == PayloadType.NONCE
    assert chain[0] == PayloadType.NOTIFY
    assert chain[20] == PayloadType.NONE


@given(chains)
def test_round_trip(payloads: tuple[Payload, ...]) -> None:
    first, chain = encode_chain(payloads)
    assert decode_chain(first, chain) == payloads
    assert encode_chain(decode_chain(first, chain)) == (first, chain)


def test_an_unknown_critical_payload_is_reported_by_its_type() -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_chain(200, bytes.fromhex("00800005ff"))
    assert caught.value.notify is NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD
    assert caught.value.data == b"\xc8"


def test_an_unknown_payload_that_is_not_critical_is_skipped() -> None:
    chain = bytes.fromhex("28000005ff") + bytes.fromhex("00000014") + bytes(16)
    unknown, nonce = decode_chain(200, chain)
    assert unknown == UnknownPayload(type=200, data=b"\xff")
    assert nonce == NoncePayload(data=bytes(16))


def test_the_critical_bit_of_a_known_payload_is_ignored() -> None:
    """RFC 7296 2.5: it says nothing about payload types the recipient understands."""
    assert decode_chain(41, bytes.fromhex("0080000800004036")) == (NotifyPayload(type=16438),)


@pytest.mark.parametrize(
    ("first", "chain", "why"),
    [
        (40, "", "ends early"),
        (40, "000000", "ends early"),
        (40, "00000003", "length 3"),
        (40, "00000000", "length 0"),
        (40, "00000015" + "00" * 16, "length 21"),
        (40, "00000014" + "00" * 17, "1 octets after"),
        (0, "00", "1 octets after"),
        (40, "00000013" + "00" * 15, "nonce of 15"),
        (40, "00000105" + "00" * 257, "nonce of 257"),
        (34, "00000007" + "001f00", "KE payload"),
        (41, "0000000900044036ff", "Notify"),
        (42, "00000008 03080000", "SPIs of 8 octets"),
        (42, "00000010 01080001 0102030405060708", "for protocol 1"),
        (42, "0000000c 03040002 01020304", "ends early"),
        (42, "0000000c 03040000 01020304", "too many"),
        (44, "00000008 01000000", "ends early"),
        (44, "00000018 00000000 07000010 0000ffff 0a010000 0a0100ff", "too many"),
        (33, "00000004", "SA payload ends early"),
        (47, "0000000c 01000000 00010001", "ends early"),
    ],
)
def test_malformed_chains(first: int, chain: str, why: str) -> None:
    with pytest.raises(ProtocolError, match=why) as caught:
        decode_chain(first, bytes.fromhex(chain))
    assert caught.value.notify is NotifyType.INVALID_SYNTAX


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("01000008 01010000", "begins with 1"),
        ("02000008 01010000", "SA payload ends early"),
        ("02000008 01010000 00000008 03010000", "not numbered in order"),
        ("00000008 01010000 00", "too many"),
        ("00000009 01010000 00", "too many"),
        ("0000000c 01010400 01020304", "SPI of 4 octets"),
        ("00000008 01030000", "SPI of 0 octets"),
        ("00000010 01010002 00000008 01000014", "do not match their count"),
        ("00000010 01010001 03000008 01000014", "do not match their count"),
        ("0000000f 01010001 00000007 010000", "transform ends early"),
        ("00000012 01010001 0000000a 01000014 800e", "attribute ends early"),
        ("00000014 01010001 0000000c 01000014 00020001", "attribute ends early"),
        ("00000007 010100", "ends early"),
    ],
)
def test_malformed_proposals(body: str, why: str) -> None:
    octets = bytes.fromhex(body)
    chain = b"\x00\x00" + (len(octets) + 4).to_bytes(2, "big") + octets
    with pytest.raises(ProtocolError, match=why):
        decode_chain(PayloadType.SA, chain)


def test_a_payload_that_does_not_fit_its_length_field() -> None:
    with pytest.raises(ValueError, match="65543 octets"):
        encode_chain([KePayload(method=1, data=bytes(65535))])
