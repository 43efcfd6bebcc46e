"""The witness on the test wire sees what it should see, and every gap it allows is real."""

from __future__ import annotations

import datetime as dt
from ipaddress import ip_network

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.ike import encrypted
from gateway.ike.message import Header, encode_message
from gateway.ike.payloads import (
    AuthPayload,
    CertPayload,
    DeletePayload,
    KePayload,
    NoncePayload,
    NotifyPayload,
    Payload,
    SaPayload,
    TsPayload,
    UnknownPayload,
)
from gateway.ike.proposals import ProposalSpec, offers
from gateway.ike.selectors import from_networks
from tests.support.ike_pair import Pair
from tests.support.witness import UNNAMED, Witness, check_payload, scapy

HEADER = Header(
    spi_i=b"initiato",
    spi_r=b"responde",
    exchange=34,
    message_id=0,
    initiator=True,
    response=False,
)


def plain(*payloads: Payload) -> bytes:
    return encode_message(HEADER, payloads)


def test_every_message_of_a_life_is_witnessed() -> None:
    pair = Pair(fragment_size=576).initiate().rekey()
    whole = {(one.sender, one.response, one.message_id) for one in pair.witness.messages}
    sent = {(one.sender, one.header.response, one.header.message_id) for one in pair.sent}
    assert whole == sent
    assert {one.exchange for one in pair.witness.messages} == {34, 43, 35, 36, 44, 37}


def test_a_gap_in_scapy_is_on_the_list_only_while_it_is_one() -> None:
    ike = scapy()
    names = {
        "exchange": ike.IKEv2ExchangeTypes,
        "transform type": ike.IKEv2AttributeTypes,
        "key exchange": ike.IKEv2TransformAlgorithms[4],
        "notify": ike.IKEv2NotifyMessageTypes,
        "certificate": ike.IKEv2CertificateEncodings,
        "identity": ike.IKEv2_IDi.fields_desc[3].i2s,
    }
    assert [entry for entry in UNNAMED if entry[1] in names[entry[0]]] == []


# --- the twins: what must not pass -----------------------------------------------------------


def test_a_number_without_a_name() -> None:
    with pytest.raises(AssertionError, match="no notify 40000"):
        Witness().see("moon", plain(NotifyPayload(type=40000)))


def test_a_payload_scapy_does_not_know() -> None:
    with pytest.raises(AssertionError, match="unknown type"):
        Witness().see("moon", plain(UnknownPayload(type=200, data=b"x")))


def test_a_wrong_length_in_the_header() -> None:
    data = bytearray(plain(DeletePayload(protocol=1)))
    data[27] += 1
    with pytest.raises(AssertionError):
        Witness().see("moon", bytes(data))


NETWORKS = [ip_network("10.1.0.0/24"), ip_network("10.2.0.0/24")]
ESP = [ProposalSpec.parse(text) for text in ("aes256gcm16-esn", "aes256gcm16-noesn")]


@pytest.mark.parametrize(
    ("ours", "travelled"),
    [
        (KePayload(method=31, data=b"k" * 32), KePayload(method=30, data=b"k" * 32)),
        (NoncePayload(data=b"n" * 16), NoncePayload(data=b"m" * 16)),
        (AuthPayload(method=2, data=b"a"), AuthPayload(method=14, data=b"a")),
        (NotifyPayload(type=7), NotifyPayload(type=14)),
        (NotifyPayload(type=7, spi=b"abcd"), NotifyPayload(type=7, data=b"abcd")),
        (DeletePayload(protocol=3, spis=(b"abcd",)), DeletePayload(protocol=3, spis=(b"dcba",))),
        *(
            (make(NETWORKS[:1]), make(NETWORKS[1:]))
            for make in (
                lambda nets: TsPayload(initiator=True, selectors=from_networks(nets)),
                lambda nets: TsPayload(initiator=False, selectors=from_networks(nets)),
            )
        ),
        (
            SaPayload(proposals=offers(ESP[:1], b"abcd")),
            SaPayload(proposals=offers(ESP[1:], b"abcd")),
        ),
    ],
    ids=lambda payload: type(payload).__name__,
)
def test_the_codecs_do_not_agree(ours: Payload, travelled: Payload) -> None:
    """Were ours to read another value out of the same octets, it would come out."""
    seen = Witness()
    seen.see("moon", plain(travelled))
    (layer,) = seen.messages[0].layers()
    check_payload(travelled, layer)
    with pytest.raises(AssertionError):
        check_payload(ours, layer)


def test_a_message_under_keys_nobody_has() -> None:
    pair = Pair()
    pair.witness.learn = lambda keys: None
    with pytest.raises(AssertionError, match="no key"):
        pair.initiate()


def test_associated_data_of_our_own_making(monkeypatch) -> None:
    """Both our ends would agree on it."""
    real = encrypted.IkeAead.seal, encrypted.IkeAead.open
    monkeypatch.setattr(
        encrypted.IkeAead, "seal", lambda s, iv, aad, text: real[0](s, iv, b"", text)
    )
    monkeypatch.setattr(
        encrypted.IkeAead, "open", lambda s, iv, aad, text: real[1](s, iv, b"", text)
    )
    with pytest.raises(AssertionError, match="no key"):
        Pair().initiate()
    assert Pair(witnessed=False).initiate().moon.ups


@pytest.mark.parametrize(
    "key",
    [
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=lambda key: type(key).__name__,
)
def test_certificates(key) -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "moon.example")])
    day = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(day)
        .not_valid_after(day + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("moon.example")]), critical=False)
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )
    seen = Witness()
    seen.see("moon", plain(CertPayload(encoding=4, data=made.public_bytes(Encoding.DER))))
    (layer,) = seen.messages[0].layers()
    assert type(layer.cert_data).__name__ == "X509_Cert"
