"""A second opinion: scapy dissects what we encode, and we decode what scapy builds.

Scapy is in the tests only. It knows neither ADDKE transforms nor USE_PPK_INT by name, but
carries them as numbers.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.crypto.aead import IkeAead
from gateway.crypto.secret import Secret
from gateway.ike.encrypted import CounterIv, find_encrypted, open_message, seal
from gateway.ike.identity import Identity
from gateway.ike.message import Header, decode_message, encode_message
from gateway.ike.payloads import (
    AuthPayload,
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
    VendorIdPayload,
)
from gateway.ike.proposals import ProposalSpec, offers
from gateway.ike.registry import ExchangeType, KeMethod, NotifyType, ProtocolId
from gateway.ike.selectors import TrafficSelector, from_networks

ikev2 = pytest.importorskip("scapy.contrib.ikev2", reason="scapy is not installed")

HEADER = Header(
    spi_i=bytes.fromhex("0102030405060708"),
    spi_r=bytes.fromhex("1112131415161718"),
    exchange=ExchangeType.IKE_SA_INIT,
    message_id=5,
    initiator=True,
    response=True,
)
SPECS = tuple(
    ProposalSpec.parse(text)
    for text in (
        "aes256gcm16-prfsha512-x25519-ke1_mlkem768",
        "chacha20poly1305-aes128gcm16-prfsha384-ecp384-ecp256-ke1_mlkem1024-ke2_frodokem976shake",
    )
)
ESP = ProposalSpec.parse("aes256gcm16-x25519-ke1_mlkem768-esn-noesn")
SPI = b"\xca\xfe\xba\xbe"
SELECTORS = (
    *from_networks([ip_network("10.1.0.0/24"), ip_network("2001:db8::/32")]),
    TrafficSelector(
        start=ip_address("10.1.0.1"),
        end=ip_address("10.1.0.6"),
        protocol=17,
        start_port=53,
        end_port=54,
    ),
)


def dissect(payload: Payload):
    """Scapy's view of a message with this payload and a nonce behind it."""
    data = encode_message(HEADER, [payload, NoncePayload(data=b"n" * 32)])
    packet = ikev2.IKEv2(data)
    assert packet.length == len(data)
    assert packet[ikev2.IKEv2_Nonce].nonce == b"n" * 32
    packet.clear_cache()
    assert bytes(packet) == data  # built again from its fields
    return packet


def test_header() -> None:
    packet = ikev2.IKEv2(encode_message(HEADER, [NoncePayload(data=b"n" * 16)]))
    assert (packet.init_SPI, packet.resp_SPI) == (HEADER.spi_i, HEADER.spi_r)
    assert (packet.next_payload, packet.version, packet.exch_type) == (40, 0x20, 34)
    assert str(packet.flags) == "Initiator+Response"
    assert packet.id == 5


def test_sa() -> None:
    packet = dissect(SaPayload(proposals=offers(SPECS)))
    proposal = packet[ikev2.IKEv2_SA].prop
    for number, spec in enumerate(SPECS, 1):
        assert (proposal.proposal, proposal.proto, proposal.SPIsize) == (number, 1, 0)
        assert proposal.trans_nb == len(spec.transforms())
        transform = proposal.trans
        for ours in spec.transforms():
            assert (transform.transform_type, transform.transform_id) == (ours.type, ours.id)
            # Scapy keeps the attribute's type in the upper half.
            bits = None if ours.key_length is None else 0x800E0000 | ours.key_length
            assert getattr(transform, "key_length", None) in (bits, ours.key_length)
            transform = transform.payload
        assert not transform
        proposal = proposal.payload
    assert not proposal


def test_sa_for_esp() -> None:
    proposal = dissect(SaPayload(proposals=offers([ESP], SPI)))[ikev2.IKEv2_SA].prop
    assert (proposal.proto, proposal.SPIsize, proposal.SPI) == (3, 4, SPI)


@pytest.mark.parametrize(
    ("payload", "layer", "fields"),
    [
        (
            KePayload(method=KeMethod.ML_KEM_768, data=b"k" * 1184),
            "IKEv2_KE",
            {"group": 36, "ke": b"k" * 1184, "length": 1192},
        ),
        (
            IdPayload(initiator=True, identity=Identity.parse("moon.example")),
            "IKEv2_IDi",
            {"IDtype": 2, "ID": b"moon.example"},
        ),
        (
            IdPayload(initiator=False, identity=Identity.parse("192.0.2.1")),
            "IKEv2_IDr",
            {"IDtype": 1, "ID": "192.0.2.1"},
        ),
        (
            IdPayload(initiator=False, identity=Identity.parse("2001:db8::1")),
            "IKEv2_IDr",
            {"IDtype": 5, "ID": "2001:db8::1"},
        ),
        (AuthPayload(method=2, data=b"a" * 64), "IKEv2_AUTH", {"auth_type": 2, "load": b"a" * 64}),
        (
            CertReqPayload(encoding=4, data=b"h" * 20),
            "IKEv2_CERTREQ",
            {"cert_encoding": 4, "cert_authority": b"h" * 20},
        ),
        (
            NotifyPayload(type=NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED),
            "IKEv2_Notify",
            {"proto": 0, "SPIsize": 0, "type": 16438, "notify": b""},
        ),
        (
            NotifyPayload(type=NotifyType.PPK_IDENTITY_KEY, data=b"\x02" + b"u" * 36 + b"c" * 8),
            "IKEv2_Notify",
            {"type": 16446, "notify": b"\x02" + b"u" * 36 + b"c" * 8},
        ),
        (
            NotifyPayload(type=NotifyType.REKEY_SA, protocol=ProtocolId.ESP, spi=SPI),
            "IKEv2_Notify",
            {"proto": 3, "SPIsize": 4, "type": 16393, "SPI": SPI},
        ),
        (
            DeletePayload(protocol=ProtocolId.IKE),
            "IKEv2_Delete",
            {"proto": 1, "SPIsize": 0, "SPInum": 0},
        ),
        (
            DeletePayload(protocol=ProtocolId.ESP, spis=(SPI, b"\x01\x02\x03\x04")),
            "IKEv2_Delete",
            {"proto": 3, "SPIsize": 4, "SPInum": 2, "SPI": [SPI, b"\x01\x02\x03\x04"]},
        ),
        (VendorIdPayload(data=b"qsgw"), "IKEv2_VendorID", {"vendorID": b"qsgw"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_payload(payload: Payload, layer: str, fields: dict[str, object]) -> None:
    packet = dissect(payload)[getattr(ikev2, layer)]
    for name, value in fields.items():
        assert getattr(packet, name) == value, name


@pytest.mark.parametrize("initiator", [True, False])
def test_traffic_selectors(*, initiator: bool) -> None:
    packet = dissect(TsPayload(initiator=initiator, selectors=SELECTORS))
    payload = packet[ikev2.IKEv2_TSi if initiator else ikev2.IKEv2_TSr]
    assert payload.number_of_TSs == 3
    four, six, ports = payload.traffic_selector
    assert (four.TS_type, four.IP_protocol_ID, four.length) == (7, 0, 16)
    assert (four.starting_address_v4, four.ending_address_v4) == ("10.1.0.0", "10.1.0.255")
    assert (four.start_port, four.end_port) == (0, 65535)
    assert (six.TS_type, six.length, six.starting_address_v6) == (8, 40, "2001:db8::")
    assert (ports.IP_protocol_ID, ports.start_port, ports.end_port) == (17, 53, 54)


def test_configuration() -> None:
    attribute = ConfigAttribute(type=1, value=bytes((10, 1, 0, 7)))
    packet = dissect(ConfigPayload(type=2, attributes=(attribute,)))[ikev2.IKEv2_CP]
    assert packet.CFGType == 2
    assert (packet.attributes[0].type, packet.attributes[0].value) == (1, "10.1.0.7")


def test_encrypted_message_and_its_content() -> None:
    """Scapy finds the SK payload; opened with AES-GCM alone, it dissects the chain inside."""
    key = bytes(range(36))
    payloads = (
        IdPayload(initiator=True, identity=Identity.parse("moon.example")),
        AuthPayload(method=2, data=b"a" * 64),
        SaPayload(proposals=offers([ESP], SPI)),
        TsPayload(initiator=True, selectors=SELECTORS),
        TsPayload(initiator=False, selectors=SELECTORS),
    )
    (datagram,) = seal(HEADER, payloads, IkeAead(Secret(key)), CounterIv())
    packet = ikev2.IKEv2(datagram)[ikev2.IKEv2_Encrypted]
    assert (packet.next_payload, packet.length) == (35, len(datagram) - 28)
    plaintext = AESGCM(key[:32]).decrypt(key[32:] + packet.load[:8], packet.load[8:], datagram[:32])
    inner = ikev2.IKEv2_IDi(plaintext[: -1 - plaintext[-1]])
    assert inner.ID == b"moon.example"
    assert inner[ikev2.IKEv2_AUTH].load == b"a" * 64
    assert inner[ikev2.IKEv2_SA].prop.SPI == SPI
    assert len(inner[ikev2.IKEv2_TSr].traffic_selector) == 3


def test_fragments() -> None:
    payloads = (KePayload(method=36, data=bytes(1184)),)
    datagrams = seal(HEADER, payloads, IkeAead(Secret(bytes(36))), CounterIv(), 576)
    for number, datagram in enumerate(datagrams, 1):
        packet = ikev2.IKEv2(datagram)
        assert packet.next_payload == 53
        fragment = packet[ikev2.IKEv2_Encrypted_Fragment]
        assert (fragment.frag_number, fragment.frag_total) == (number, len(datagrams))
        assert fragment.next_payload == (34 if number == 1 else 0)


def test_we_decode_what_scapy_builds() -> None:
    transforms = (
        ikev2.IKEv2_Transform(
            next_payload=3, transform_type=1, transform_id=20, length=12, key_length=256
        )
        / ikev2.IKEv2_Transform(next_payload=3, transform_type=2, transform_id=7)
        / ikev2.IKEv2_Transform(next_payload=3, transform_type=4, transform_id=31)
        / ikev2.IKEv2_Transform(next_payload=0, transform_type=6, transform_id=36)
    )
    packet = (
        ikev2.IKEv2(init_SPI=b"initiato", resp_SPI=bytes(8), exch_type=34, flags="Initiator", id=0)
        / ikev2.IKEv2_SA(
            prop=ikev2.IKEv2_Proposal(proposal=1, proto=1, trans_nb=4, trans=transforms)
        )
        / ikev2.IKEv2_KE(group=31, ke=b"k" * 32)
        / ikev2.IKEv2_Nonce(nonce=b"n" * 32)
        / ikev2.IKEv2_Notify(type=16445)
        / ikev2.IKEv2_Notify(type=16390, notify=b"cookie")
        / ikev2.IKEv2_VendorID(vendorID=b"scapy")
        / ikev2.IKEv2_Delete(proto=3, SPIsize=4, SPInum=1, SPI=[SPI])
    )
    data = bytes(packet)
    message = decode_message(data)
    assert message.header.spi_i == b"initiato"
    assert message.header.initiator
    assert not message.header.response
    assert message.payloads == (
        SaPayload(proposals=offers(SPECS[:1])),
        KePayload(method=31, data=b"k" * 32),
        NoncePayload(data=b"n" * 32),
        NotifyPayload(type=NotifyType.USE_PPK_INT),
        NotifyPayload(type=NotifyType.COOKIE, data=b"cookie"),
        VendorIdPayload(data=b"scapy"),
        DeletePayload(protocol=3, spis=(SPI,)),
    )
    assert encode_message(message.header, message.payloads) == data


def test_we_open_what_scapy_frames() -> None:
    """An SK payload framed by scapy, sealed with AES-GCM alone."""
    key = bytes(range(36))
    inner = bytes(ikev2.IKEv2_Notify(type=16393, proto=3, SPIsize=4, SPI=SPI, next_payload=0))
    load = bytes(8) + bytes(len(inner) + 1 + 16)
    frame = bytearray(
        bytes(
            ikev2.IKEv2(init_SPI=b"initiato", resp_SPI=b"responde", exch_type=36, flags="Initiator")
            / ikev2.IKEv2_Encrypted(next_payload=41, load=load)
        )
    )
    frame[40:] = AESGCM(key[:32]).encrypt(key[32:] + bytes(8), inner + b"\x00", bytes(frame[:32]))
    assert find_encrypted(bytes(frame)) is not None
    opened = open_message(bytes(frame), IkeAead(Secret(key)))
    assert opened.payloads() == (NotifyPayload(type=16393, protocol=3, spi=SPI),)
