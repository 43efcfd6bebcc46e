"""A second opinion on every message that travels between two test endpoints.

Scapy dissects the header, this module opens the encryption with nothing but AES-GCM and
ChaCha20-Poly1305 of ``cryptography``, scapy dissects what is inside, and both must agree with
what our own codec says of the same octets: payload by payload, field by field, to the last
octet. Of our code only the keys are taken (RecordIkeKeys) and the codec that is on trial.

A message is dissected once: one that differs from an earlier one only in octets that are
opaque to both (KE data, nonces, AUTH and notification data) is not dissected again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from gateway.ike.commands import RecordIkeKeys
from gateway.ike.message import decode_message
from gateway.ike.payloads import (
    AuthPayload,
    CertPayload,
    CertReqPayload,
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
)
from gateway.ike.registry import EncryptionId, NotifyType, PayloadType
from gateway.ike.transforms import Proposal

HEADER, SK, SKF = 28, 46, 53

UNNAMED: dict[tuple[str, int], str] = {
    ("exchange", 44): "IKE_FOLLOWUP_KE, RFC 9370",
    **{("transform type", 5 + n): f"ADDKE{n}, RFC 9370" for n in range(1, 8)},
    **{("key exchange", 34 + n): "ML-KEM-512, -768 and -1024" for n in range(1, 4)},
    **{("key exchange", n): "our private-use numbers for liboqs" for n in range(0xF001, 0xF005)},
    ("notify", 16443): "SUPPORTED_AUTH_METHODS, RFC 9593",
    ("notify", 16444): "SA_RESOURCE_INFO, RFC 9611",
    ("notify", 16445): "USE_PPK_INT, RFC 9867",
    ("notify", 16446): "PPK_IDENTITY_KEY, RFC 9867",
    ("identity", 9): "ID_DER_ASN1_DN: dissected as octets",
    ("identity", 10): "ID_DER_ASN1_GN: dissected as octets",
    ("identity", 13): "ID_NULL, RFC 7619",
    ("certificate", 15): "raw public key, RFC 7670",
}
"""Numbers scapy has no name for: newer than its tables. It carries them as numbers, so the
layout around them is dissected all the same. Everything else must have a name."""


@dataclass(frozen=True)
class Seen:
    """One whole message, fragments put together."""

    sender: str
    exchange: int
    response: bool
    message_id: int
    first: int  # type of the first payload inside
    chain: bytes  # the payloads, in the clear
    head: bytes  # the IKE header as it travelled

    def payloads(self) -> tuple[Payload, ...]:
        """Our codec's view."""
        return decode_chain(self.first, self.chain)

    def layers(self) -> list[Any]:
        """Scapy's."""
        length = (HEADER + len(self.chain)).to_bytes(4, "big")
        head = self.head[:16] + bytes((self.first,)) + self.head[17:24] + length
        return dissect(head + self.chain)


class Witness:
    """Of one pair of endpoints."""

    _settled: ClassVar[set[object]] = set()  # messages dissected already, but for opaque octets
    dissected: ClassVar[int] = 0

    def __init__(self) -> None:
        self.messages: list[Seen] = []
        self._datagrams: set[bytes] = set()
        self._openers: dict[bytes, list[AESGCM | ChaCha20Poly1305]] = {}
        self._salts: dict[int, bytes] = {}
        self._parts: dict[object, dict[int, tuple[int, bytes]]] = {}

    def learn(self, keys: RecordIkeKeys) -> None:
        """From now on messages may be under these; both ends tell, and must tell the same."""
        openers = self._openers.setdefault(keys.spi_i + keys.spi_r, [])
        for key in (keys.sk_ei.expose(), keys.sk_er.expose()):
            gcm = keys.encryption is EncryptionId.AES_GCM_16
            opener = AESGCM(key[:-4]) if gcm else ChaCha20Poly1305(key[:-4])
            self._salts[id(opener)] = key[-4:]
            openers.insert(0, opener)

    def see(self, sender: str, data: bytes) -> None:
        """A datagram that ``sender`` emitted. AssertionError where the opinions differ."""
        if data in self._datagrams:
            return  # bit by bit a repetition
        self._datagrams.add(data)
        # What is in the clear is left to _compare: it may be known already.
        outer = scapy().IKEv2(data if data[16] in (SK, SKF) else data[:HEADER])
        _check_header(outer, data)
        if not _says_what_it_cannot_read(outer, data):
            named("exchange", outer.exch_type, scapy().IKEv2ExchangeTypes)
        if outer.next_payload in (SK, SKF):
            inside = self._inside(sender, outer, data)
            if inside is None:
                return
            first, chain = inside
        else:
            first, chain = data[16], data[HEADER:]
            assert decode_message(data).payloads == decode_chain(first, chain)
        seen = Seen(
            sender=sender,
            exchange=outer.exch_type,
            response=bool(outer.flags.Response),
            message_id=outer.id,
            first=first,
            chain=chain,
            head=data[:HEADER],
        )
        self.messages.append(seen)
        self._compare(seen)

    def _inside(self, sender: str, outer: Any, data: bytes) -> tuple[int, bytes] | None:
        """The content of an encrypted message, once its last fragment is here."""
        layer = outer.payload
        assert layer.length == len(data) - HEADER
        fragment = outer.next_payload == SKF
        assert type(layer).__name__ == "IKEv2_Encrypted" + "_Fragment" * fragment
        plaintext = self._open(data, HEADER + (8 if fragment else 4))
        if not fragment:
            return layer.next_payload, plaintext
        mark = (sender, data[:16], outer.id, bool(outer.flags.Response), layer.frag_total)
        parts = self._parts.setdefault(mark, {})
        assert layer.next_payload == 0 or layer.frag_number == 1  # RFC 7383 2.5
        parts[layer.frag_number] = (layer.next_payload, plaintext)
        if len(parts) < layer.frag_total:
            return None
        return parts[1][0], b"".join(parts[n][1] for n in range(1, layer.frag_total + 1))

    def _open(self, data: bytes, start: int) -> bytes:
        """RFC 5282: IV | ciphertext | ICV; all octets in front are associated data."""
        iv, sealed, ahead = data[start : start + 8], data[start + 8 :], data[:start]
        for opener in self._openers.get(data[:16], ()):
            try:
                padded = opener.decrypt(self._salts[id(opener)] + iv, sealed, ahead)
            except InvalidTag:
                continue
            return padded[: -1 - padded[-1]]
        raise AssertionError("no key that either end has handed out opens this message")

    def _compare(self, seen: Seen) -> None:
        ours = seen.payloads()
        shape = (seen.exchange, seen.response, tuple(_without_opaque(one) for one in ours))
        if shape in self._settled:
            return
        Witness.dissected += 1
        layers = seen.layers()
        assert len(layers) == len(ours), (layers, ours)
        for payload, layer in zip(ours, layers, strict=True):
            check_payload(payload, layer)
        self._settled.add(shape)


# --- scapy -----------------------------------------------------------------------------------


@cache
def scapy() -> Any:
    """Its IKEv2 layers, imported once and only where somebody looks."""
    from scapy.contrib import ikev2

    return ikev2


def dissect(data: bytes) -> list[Any]:
    """Scapy's layers of a message in the clear: none raw, every octet accounted for."""
    from scapy.packet import NoPayload, Padding, Raw

    packet = scapy().IKEv2(data)
    layers = []
    layer = packet.payload
    while not isinstance(layer, NoPayload):
        assert not isinstance(layer, Raw | Padding), f"{layer!r} is not dissected"
        assert type(layer) is not scapy().IKEv2_Payload, f"{layer!r} is of unknown type"
        layers.append(layer)
        layer = layer.payload
    built = packet.copy()
    built.clear_cache()
    assert bytes(built) == data  # built again from its fields
    return layers


def _check_header(outer: Any, data: bytes) -> None:
    assert outer.length == len(data)
    assert outer.version == 0x20
    assert not outer.flags.value & ~0x28  # Initiator and Response alone, RFC 7296 3.1


def _says_what_it_cannot_read(outer: Any, data: bytes) -> bool:
    """Unprotected, that a request belongs to no IKE SA or is of another version.

    RFC 7296 1.5: the exchange type is copied from the request, whatever arrived there.
    """
    if not outer.flags.Response or outer.next_payload != PayloadType.NOTIFY:
        return False
    payloads = decode_message(data).payloads
    return len(payloads) == 1 and getattr(payloads[0], "type", None) in (
        NotifyType.INVALID_IKE_SPI,
        NotifyType.INVALID_MAJOR_VERSION,
    )


def named(what: str, number: int, names: dict[int, str]) -> None:
    assert number in names or (what, number) in UNNAMED, f"scapy knows no {what} {number}"


def _without_opaque(payload: Payload) -> object:
    """What of a payload scapy looks at; of octets it only passes on, how many there are."""
    match payload:
        case NoncePayload(data=data) | VendorIdPayload(data=data) | UnknownPayload(data=data):
            return payload.payload_type, len(data)
        case KePayload(method=method, data=data):
            return payload.payload_type, method, len(data)
        case AuthPayload(method=method, data=data):
            return payload.payload_type, method, len(data)
        case NotifyPayload(type=kind, protocol=protocol, spi=spi, data=data):
            return payload.payload_type, kind, protocol, len(spi), len(data)
        case DeletePayload(protocol=protocol, spis=spis):
            return payload.payload_type, protocol, len(spis)
        case SaPayload(proposals=proposals):
            return tuple((one.number, len(one.spi), one.transforms) for one in proposals)
        case _:
            return payload


# --- payload by payload ----------------------------------------------------------------------


def check_payload(ours: Payload, layer: Any) -> None:
    """Both say the same of one payload. AssertionError where they do not."""
    expected = _CLASSES[int(ours.payload_type)]
    assert type(layer).__name__ == f"IKEv2_{expected}", (ours, layer)
    assert layer.length == 4 + len(ours.body())
    assert not layer.flags.value  # RFC 7296 3.2: critical is clear for all of these
    found = fields_of(ours)
    for name, value in found.items():
        assert _octets(getattr(layer, name)) == _octets(value), (name, ours, layer)
    if isinstance(ours, SaPayload):
        _check_proposals(ours.proposals, layer.prop)
    elif isinstance(ours, TsPayload):
        _check_selectors(ours, layer)


def fields_of(ours: Payload) -> dict[str, object]:
    """Our payload in scapy's words."""
    ike = scapy()
    match ours:
        case KePayload(method=method, data=data):
            named("key exchange", method, ike.IKEv2TransformAlgorithms[4])
            return {"group": method, "res2": 0, "ke": data}
        case IdPayload(identity=identity):
            kinds = ike.IKEv2_IDi.fields_desc[3].i2s
            named("identity", identity.type, kinds)
            text = {1: 4, 5: 16}.get(identity.type)
            return {"IDtype": identity.type} | ({} if text else {"ID": identity.data})
        case AuthPayload(method=method, data=data):
            named("authentication", method, ike.IKEv2AuthenticationTypes)
            return {"auth_type": method, "load": data}
        case CertPayload(encoding=encoding, data=data):
            named("certificate", encoding, ike.IKEv2CertificateEncodings)
            return {"cert_encoding": encoding, "cert_data": data}
        case CertReqPayload(encoding=encoding, data=data):
            named("certificate", encoding, ike.IKEv2CertificateEncodings)
            return {"cert_encoding": encoding, "cert_authority": data}
        case NoncePayload(data=data):
            return {"nonce": data}
        case NotifyPayload(type=kind, protocol=protocol, spi=spi, data=data):
            named("notify", kind, ike.IKEv2NotifyMessageTypes)
            head = {"type": kind, "proto": protocol, "SPIsize": len(spi)}
            return head | {"SPI": spi, "notify": data}
        case DeletePayload(protocol=protocol, spis=spis):
            return {"proto": protocol, "SPInum": len(spis), "SPI": list(spis)}
        case VendorIdPayload(data=data):
            return {"vendorID": data}
        case TsPayload(selectors=selectors):
            return {"number_of_TSs": len(selectors)}
        case ConfigPayload(type=kind):
            return {"CFGType": kind}
        case SaPayload() | UnknownPayload():
            return {}


def _octets(value: object) -> object:
    """Scapy gives octets as such, or as a packet where it has dissected further."""
    return bytes(value) if hasattr(value, "clear_cache") else value


def _check_proposals(ours: Sequence[Proposal], theirs: Any) -> None:
    ike = scapy()
    for proposal in ours:
        assert theirs.proposal == proposal.number
        assert (theirs.proto, theirs.SPI) == (proposal.protocol, proposal.spi)
        assert theirs.trans_nb == len(proposal.transforms)
        transform = theirs.trans
        for one in proposal.transforms:
            assert (transform.transform_type, transform.transform_id) == (one.type, one.id)
            named("transform type", one.type, ike.IKEv2AttributeTypes)
            key_exchange = one.type == 4 or one.type > 5
            if key_exchange and one.id:
                named("key exchange", one.id, ike.IKEv2TransformAlgorithms[4])
            elif not key_exchange:
                assert one.id in ike.IKEv2TransformAlgorithms[one.type]
            bits = getattr(transform, "key_length", None)
            assert (bits and bits & 0xFFFF) == one.key_length
            transform = transform.payload
        assert not transform
        theirs = theirs.payload
    assert not theirs


def _check_selectors(ours: TsPayload, layer: Any) -> None:
    for one, theirs in zip(ours.selectors, layer.traffic_selector, strict=True):
        version = one.start.version
        assert theirs.TS_type == (7 if version == 4 else 8)
        assert theirs.IP_protocol_ID == one.protocol
        assert (theirs.start_port, theirs.end_port) == (one.start_port, one.end_port)
        for end, address in (("starting", one.start), ("ending", one.end)):
            assert getattr(theirs, f"{end}_address_v{version}") == str(address)


_CLASSES = {
    33: "SA",
    34: "KE",
    35: "IDi",
    36: "IDr",
    37: "CERT",
    38: "CERTREQ",
    39: "AUTH",
    40: "Nonce",
    41: "Notify",
    42: "Delete",
    43: "VendorID",
    44: "TSi",
    45: "TSr",
    47: "CP",
}
