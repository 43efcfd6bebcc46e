"""Damage, from outside to inside: octets of a datagram, fields of a header, payloads."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from gateway.ike.message import HEADER_SIZE
from gateway.ike.payloads import (
    AuthPayload,
    CertPayload,
    CertReqPayload,
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
)
from gateway.ike.registry import NotifyType
from gateway.ike.transforms import Proposal, Transform
from tests.fuzz.credentials import foreign_chains

EDGES = (0, 1, 2, 3, 4, 7, 8, 15, 16, 27, 28, 29, 31, 32, 63, 64, 127, 128, 255)
PAYLOAD_MAX = 40_000  # octets; above, a message takes long and shows nothing new


def octets(data: bytes, rng: random.Random) -> bytes:
    """A few octets changed, cut out, doubled or put in."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if not out:
            out += rng.randbytes(rng.choice(EDGES))
            continue
        at = rng.randrange(len(out))
        match rng.randrange(7):
            case 0:
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                out[at] = rng.choice(EDGES)
            case 2:
                del out[at : at + rng.choice(EDGES)]
            case 3:
                out[at:at] = rng.randbytes(rng.choice(EDGES))
            case 4:
                out[at : at + 2] = rng.choice(_LENGTHS)
            case 5:
                end = at + rng.choice(EDGES)
                out[at:at] = out[at:end]
            case _:
                del out[at:]
    return bytes(out[:PAYLOAD_MAX])


_LENGTHS = (
    b"\x00\x00",
    b"\x00\x03",
    b"\x00\x04",
    b"\x00\x08",
    b"\xff\xff",
    b"\x80\x00",
    b"\x01\x00",
)


def with_right_length(data: bytes) -> bytes:
    """So that the damage gets past the header's length check."""
    if len(data) < HEADER_SIZE:
        return data
    return data[:24] + len(data).to_bytes(4, "big") + data[28:]


def header(data: bytes, rng: random.Random, spis: Sequence[bytes]) -> bytes:
    """A field of the IKE header is another one."""
    if len(data) < HEADER_SIZE:
        return data
    out = bytearray(data)
    match rng.randrange(7):
        case 0:
            out[16] = rng.choice((0, 33, 34, 41, 46, 53, 200, rng.randrange(256)))
        case 1:
            out[17] = rng.choice((0x10, 0x20, 0x21, 0x2F, 0x30, 0xFF))
        case 2:
            out[18] = rng.choice((34, 35, 36, 37, 43, 44, 38, rng.randrange(256)))
        case 3:
            out[19] ^= rng.choice((0x08, 0x20, 0x28, 0x10, 0xFF))
        case 4:
            out[20:24] = rng.choice((0, 1, 2, 3, 0x7FFFFFFF, 0xFFFFFFFF)).to_bytes(4, "big")
        case 5:
            out[24:28] = rng.choice((0, 27, 28, len(out) - 1, len(out) + 1, 2**32 - 1)).to_bytes(
                4, "big"
            )
        case _:
            at = rng.choice((0, 8))
            out[at : at + 8] = rng.choice((bytes(8), rng.randbytes(8), *spis))
    return bytes(out)


def chain(payloads: Sequence[Payload], rng: random.Random) -> list[Payload]:
    """Payloads left out, doubled, exchanged, moved, put in, or changed inside."""
    out = list(payloads)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(out)) if out else 0
        match rng.randrange(8):
            case 0 if out:
                del out[at]
            case 1 if out:
                out[at:at] = [out[at]] * rng.choice((1, 1, 2, 30))
            case 2:
                out.insert(at, any_payload(rng))
            case 3 if out:
                out[at] = any_payload(rng)
            case 4:
                rng.shuffle(out)
            case _ if out:
                out[at] = inside(out[at], rng)
            case _:
                out.append(any_payload(rng))
    return out


def any_payload(rng: random.Random) -> Payload:
    """One that is well formed and most likely out of place."""
    some = rng.randbytes(rng.choice(EDGES))
    match rng.randrange(9):
        case 0 | 1 | 2:
            return NotifyPayload(
                type=rng.choice((*NotifyType, rng.randrange(65536))),
                protocol=rng.choice((0, 1, 2, 3, 9)),
                spi=rng.choice((b"", b"", rng.randbytes(4), rng.randbytes(8))),
                data=some,
            )
        case 3:
            return DeletePayload(
                protocol=rng.choice((1, 2, 3)),
                spis=tuple(rng.randbytes(4) for _ in range(rng.choice((0, 1, 2, 200)))),
            )
        case 4:
            return KePayload(method=rng.choice((0, 19, 20, 31, 36, 37, 999)), data=some)
        case 5:
            return NoncePayload(data=rng.randbytes(rng.choice((0, 15, 16, 32, 256, 257))))
        case 6:
            return VendorIdPayload(data=some)
        case 7:
            return _credential(rng)
        case _:
            return UnknownPayload(type=rng.randrange(1, 256), data=some)


def _credential(rng: random.Random) -> Payload:
    """A certificate, or the wish for one, with data that is right for some world."""
    some = rng.choice((*foreign_chains(), rng.randbytes(20), rng.randbytes(rng.choice(EDGES))))
    if rng.random() < 0.6:
        return CertPayload(encoding=rng.choice((4, 4, 4, 11, 12, 15)), data=some)
    hashes = rng.choice((b"", rng.randbytes(20), rng.randbytes(40), some))
    return CertReqPayload(encoding=rng.choice((4, 4, 11, 15)), data=hashes)


def inside(payload: Payload, rng: random.Random) -> Payload:
    """The same payload with another value somewhere."""
    match payload:
        case SaPayload(proposals=proposals):
            return SaPayload(proposals=tuple(_proposals(list(proposals), rng)))
        case KePayload(data=data):
            methods = (0, 19, 31, 35, 36, 37, payload.method)
            return replace(payload, method=rng.choice(methods), data=_maybe(data, rng))
        case NoncePayload():
            return NoncePayload(data=rng.randbytes(rng.choice((16, 32, 256))))
        case NotifyPayload(data=data, spi=spi):
            kind = payload.type if rng.random() < 0.7 else rng.choice(tuple(NotifyType))
            return replace(payload, type=kind, data=_maybe(data, rng), spi=_maybe(spi, rng)[:255])
        case DeletePayload(spis=spis):
            return replace(payload, spis=tuple(spis) * rng.choice((0, 2, 3)))
        case TsPayload(selectors=selectors):
            many = tuple(selectors) * rng.choice((0, 2, 16))
            return replace(payload, selectors=many, initiator=rng.random() < 0.8)
        case AuthPayload(data=data):
            return replace(payload, method=rng.choice((1, 2, 13, 14, 200)), data=_maybe(data, rng))
        case CertPayload(data=data) | CertReqPayload(data=data):
            kind = rng.choice((0, 1, 4, 7, 11, 12, 13, payload.encoding))
            return replace(payload, encoding=kind, data=_maybe(data, rng))
        case IdPayload():
            return replace(payload, initiator=not payload.initiator)
        case VendorIdPayload(data=data):
            return VendorIdPayload(data=_maybe(data, rng))
        case _:
            return any_payload(rng)


def _maybe(data: bytes, rng: random.Random) -> bytes:
    return data if rng.random() < 0.3 else octets(data, rng)


def _proposals(proposals: list[Proposal], rng: random.Random) -> list[Proposal]:
    if not proposals:
        return proposals
    at = rng.randrange(len(proposals))
    one = proposals[at]
    transforms = list(one.transforms)
    match rng.randrange(7):
        case 0:
            proposals[at] = replace(one, number=rng.choice((0, 1, 2, 255)))
        case 1:
            proposals[at] = replace(one, protocol=rng.choice((0, 1, 2, 3)))
        case 2:
            proposals[at] = replace(one, spi=rng.randbytes(rng.choice((0, 4, 8, 255))))
        case 3:
            proposals *= rng.choice((2, 20))
        case 4:
            transforms *= rng.choice((0, 2, 9))
            proposals[at] = replace(one, transforms=tuple(transforms[:255]))
        case _ if transforms:
            where = rng.randrange(len(transforms))
            transforms[where] = Transform(
                type=rng.choice((1, 2, 3, 4, 5, 6, 7, 12, 13, 200)),
                id=rng.choice((0, 1, 5, 7, 12, 20, 28, 31, 36, 37, 65535)),
                key_length=rng.choice((None, 0, 128, 256, 65535)),
                unknown_attributes=rng.choice((b"", b"", b"\x80\x0f\x00\x01")),
            )
            proposals[at] = replace(one, transforms=tuple(transforms))
    return proposals
