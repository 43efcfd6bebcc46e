"""Payloads: one frozen dataclass each, and the chain they form (RFC 7296 3.2 to 3.16).

``payload_type`` says which number the payload has on the wire, ``body()`` gives what
follows the generic header.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from gateway.ike.errors import ProtocolError
from gateway.ike.identity import Identity
from gateway.ike.limits import NONCE_SIZE_MAX, NONCE_SIZE_MIN
from gateway.ike.registry import NotifyType, PayloadType, ProtocolId
from gateway.ike.selectors import Selector, decode_selector
from gateway.ike.transforms import Proposal, decode_proposals, encode_proposals
from gateway.ike.wire import Reader, syntax_error

GENERIC_HEADER: Final = 4  # octets
_CRITICAL: Final = 0x80
_MAX_PAYLOAD: Final = 0xFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class SaPayload:
    payload_type: ClassVar[PayloadType] = PayloadType.SA
    proposals: tuple[Proposal, ...]

    def body(self) -> bytes:
        return encode_proposals(self.proposals)


@dataclass(frozen=True, slots=True, kw_only=True)
class KePayload:
    payload_type: ClassVar[PayloadType] = PayloadType.KE
    method: int
    data: bytes

    def body(self) -> bytes:
        return self.method.to_bytes(2, "big") + b"\x00\x00" + self.data


@dataclass(frozen=True, slots=True, kw_only=True)
class IdPayload:
    """IDi or IDr."""

    initiator: bool
    identity: Identity

    @property
    def payload_type(self) -> PayloadType:
        return PayloadType.IDI if self.initiator else PayloadType.IDR

    def body(self) -> bytes:
        return self.identity.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class CertPayload:
    payload_type: ClassVar[PayloadType] = PayloadType.CERT
    encoding: int
    data: bytes

    def body(self) -> bytes:
        return bytes((self.encoding,)) + self.data


@dataclass(frozen=True, slots=True, kw_only=True)
class CertReqPayload:
    payload_type: ClassVar[PayloadType] = PayloadType.CERTREQ
    encoding: int
    data: bytes

    def body(self) -> bytes:
        return bytes((self.encoding,)) + self.data


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthPayload:
    payload_type: ClassVar[PayloadType] = PayloadType.AUTH
    method: int
    data: bytes

    def body(self) -> bytes:
        return bytes((self.method, 0, 0, 0)) + self.data


@dataclass(frozen=True, slots=True, kw_only=True)
class NoncePayload:
    payload_type: ClassVar[PayloadType] = PayloadType.NONCE
    data: bytes

    def body(self) -> bytes:
        return self.data


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyPayload:
    """``type`` is a NotifyType, or a number we do not know."""

    payload_type: ClassVar[PayloadType] = PayloadType.NOTIFY
    type: int
    protocol: int = ProtocolId.NONE
    spi: bytes = b""
    data: bytes = b""

    def body(self) -> bytes:
        head = bytes((self.protocol, len(self.spi))) + self.type.to_bytes(2, "big")
        return head + self.spi + self.data


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletePayload:
    """Empty ``spis`` with protocol IKE: the IKE SA the message belongs to."""

    payload_type: ClassVar[PayloadType] = PayloadType.DELETE
    protocol: int
    spis: tuple[bytes, ...] = ()

    def body(self) -> bytes:
        size = len(self.spis[0]) if self.spis else 0
        if self.protocol != ProtocolId.IKE:
            size = 4
        head = bytes((self.protocol, size)) + len(self.spis).to_bytes(2, "big")
        return head + b"".join(self.spis)


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorIdPayload:
    payload_type: ClassVar[PayloadType] = PayloadType.VENDOR_ID
    data: bytes

    def body(self) -> bytes:
        return self.data


@dataclass(frozen=True, slots=True, kw_only=True)
class TsPayload:
    """TSi or TSr."""

    initiator: bool
    selectors: tuple[Selector, ...]

    @property
    def payload_type(self) -> PayloadType:
        return PayloadType.TSI if self.initiator else PayloadType.TSR

    def body(self) -> bytes:
        head = bytes((len(self.selectors), 0, 0, 0))
        return head + b"".join(selector.encode() for selector in self.selectors)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigAttribute:
    type: int
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigPayload:
    payload_type: ClassVar[PayloadType] = PayloadType.CP
    type: int
    attributes: tuple[ConfigAttribute, ...]

    def body(self) -> bytes:
        parts = [bytes((self.type, 0, 0, 0))]
        for attribute in self.attributes:
            parts += [
                attribute.type.to_bytes(2, "big"),
                len(attribute.value).to_bytes(2, "big"),
                attribute.value,
            ]
        return b"".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownPayload:
    """A payload we do not understand and, not being critical, may skip (RFC 7296 2.5)."""

    type: int
    data: bytes

    @property
    def payload_type(self) -> int:
        return self.type

    def body(self) -> bytes:
        return self.data


Payload = (
    SaPayload
    | KePayload
    | IdPayload
    | CertPayload
    | CertReqPayload
    | AuthPayload
    | NoncePayload
    | NotifyPayload
    | DeletePayload
    | VendorIdPayload
    | TsPayload
    | ConfigPayload
    | UnknownPayload
)


def encode_chain(payloads: Sequence[Payload]) -> tuple[int, bytes]:
    """Type of the first payload (0 if there is none) and the chain's octets."""
    types = [*(payload.payload_type for payload in payloads), PayloadType.NONE]
    parts: list[bytes] = []
    for payload, next_type in zip(payloads, types[1:], strict=True):
        body = payload.body()
        length = GENERIC_HEADER + len(body)
        if length > _MAX_PAYLOAD:
            raise ValueError(f"payload of {length} octets")
        # RFC 7296 3.2: the critical bit is clear for every payload type of that document.
        parts += (bytes((next_type, 0, length >> 8, length & 0xFF)), body)
    return types[0], b"".join(parts)


def decode_chain(first_type: int, data: bytes) -> tuple[Payload, ...]:
    """The payloads of a chain, to its exact end.

    ProtocolError(UNSUPPORTED_CRITICAL_PAYLOAD) with the type as data, or (INVALID_SYNTAX).
    """
    payloads: list[Payload] = []
    kind, offset, end = first_type, 0, len(data)
    while kind != PayloadType.NONE:
        if end - offset < GENERIC_HEADER:
            raise syntax_error("payload chain ends early")
        flags = data[offset + 1]
        length = data[offset + 2] << 8 | data[offset + 3]
        if length < GENERIC_HEADER or length > end - offset:
            raise syntax_error(f"payload {kind}: length {length} is not possible")
        body = data[offset + GENERIC_HEADER : offset + length]
        decode = _DECODERS.get(kind)
        if decode is not None:
            payloads.append(decode(body))
        elif flags & _CRITICAL:
            raise ProtocolError(
                NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD,
                f"payload type {kind} is critical and not known",
                bytes((kind,)),
            )
        else:
            payloads.append(UnknownPayload(type=kind, data=body))
        kind = data[offset]
        offset += length
    if offset != end:
        raise syntax_error(f"{end - offset} octets after the last payload")
    return tuple(payloads)


def _decode_sa(body: bytes) -> SaPayload:
    return SaPayload(proposals=decode_proposals(body))


def _decode_ke(body: bytes) -> KePayload:
    if len(body) < 4:
        raise syntax_error("KE payload ends early")
    return KePayload(method=body[0] << 8 | body[1], data=body[4:])


def _decode_idi(body: bytes) -> IdPayload:
    return IdPayload(initiator=True, identity=Identity.decode(body))


def _decode_idr(body: bytes) -> IdPayload:
    return IdPayload(initiator=False, identity=Identity.decode(body))


def _decode_cert(body: bytes) -> CertPayload:
    reader = Reader(body, "CERT payload")
    return CertPayload(encoding=reader.u8(), data=reader.rest())


def _decode_certreq(body: bytes) -> CertReqPayload:
    reader = Reader(body, "CERTREQ payload")
    return CertReqPayload(encoding=reader.u8(), data=reader.rest())


def _decode_auth(body: bytes) -> AuthPayload:
    reader = Reader(body, "AUTH payload")
    method = reader.u8()
    reader.octets(3)
    return AuthPayload(method=method, data=reader.rest())


def _decode_nonce(body: bytes) -> NoncePayload:
    if not NONCE_SIZE_MIN <= len(body) <= NONCE_SIZE_MAX:
        raise syntax_error(f"nonce of {len(body)} octets")
    return NoncePayload(data=body)


def _decode_notify(body: bytes) -> NotifyPayload:
    reader = Reader(body, "Notify payload")
    protocol, spi_size = reader.u8(), reader.u8()
    kind = reader.u16()
    return NotifyPayload(
        type=kind, protocol=protocol, spi=reader.octets(spi_size), data=reader.rest()
    )


def _decode_delete(body: bytes) -> DeletePayload:
    reader = Reader(body, "Delete payload")
    protocol, size, count = reader.u8(), reader.u8(), reader.u16()
    # RFC 7296 3.11: no SPI for an IKE SA, four octets for ESP and AH.
    ike = protocol == ProtocolId.IKE
    if (ike and (size or count)) or (not ike and size != 4):
        raise syntax_error(f"Delete payload: {count} SPIs of {size} octets for protocol {protocol}")
    spis = tuple(reader.octets(size) for _ in range(count))
    reader.finish()
    return DeletePayload(protocol=protocol, spis=spis)


def _decode_vendor_id(body: bytes) -> VendorIdPayload:
    return VendorIdPayload(data=body)


def _decode_ts(body: bytes, *, initiator: bool) -> TsPayload:
    reader = Reader(body, "TS payload")
    count = reader.u8()
    reader.octets(3)
    selectors = tuple(decode_selector(reader) for _ in range(count))
    reader.finish()
    return TsPayload(initiator=initiator, selectors=selectors)


def _decode_tsi(body: bytes) -> TsPayload:
    return _decode_ts(body, initiator=True)


def _decode_tsr(body: bytes) -> TsPayload:
    return _decode_ts(body, initiator=False)


def _decode_config(body: bytes) -> ConfigPayload:
    reader = Reader(body, "CP payload")
    kind = reader.u8()
    reader.octets(3)
    attributes: list[ConfigAttribute] = []
    while reader.remaining:
        attribute = reader.u16() & 0x7FFF  # the top bit is reserved (RFC 7296 3.15.1)
        attributes.append(ConfigAttribute(type=attribute, value=reader.octets(reader.u16())))
    return ConfigPayload(type=kind, attributes=tuple(attributes))


_DECODERS: Final[dict[int, Callable[[bytes], Payload]]] = {
    PayloadType.SA: _decode_sa,
    PayloadType.KE: _decode_ke,
    PayloadType.IDI: _decode_idi,
    PayloadType.IDR: _decode_idr,
    PayloadType.CERT: _decode_cert,
    PayloadType.CERTREQ: _decode_certreq,
    PayloadType.AUTH: _decode_auth,
    PayloadType.NONCE: _decode_nonce,
    PayloadType.NOTIFY: _decode_notify,
    PayloadType.DELETE: _decode_delete,
    PayloadType.VENDOR_ID: _decode_vendor_id,
    PayloadType.TSI: _decode_tsi,
    PayloadType.TSR: _decode_tsr,
    PayloadType.CP: _decode_config,
}
