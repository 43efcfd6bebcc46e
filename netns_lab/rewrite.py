"""Changes what an IKE_SA_INIT message offers, as somebody on the way could. Stdlib only.

The message is taken apart and put together again by nothing but RFC 7296 3.1 to 3.3; nothing
of the gateway's own codec is used.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Literal

_HEADER = 28  # RFC 7296 3.1
_EXCHANGE, _FLAGS = 18, 19
_IKE_SA_INIT, _RESPONSE = 34, 0x20
_SA, _NOTIFY, _VENDOR_ID = 33, 41, 43  # payload types, RFC 7296 3.2
_COOKIE = 16390
_ADDKE = range(6, 13)  # transform types, RFC 9370

Direction = Literal["request", "response"]
Payloads = list[tuple[int, bytes]]
"""Type and body of each."""


def _notify_type(body: bytes) -> int:
    return int.from_bytes(body[2:4], "big")


def _without(*kinds: int) -> Callable[[Payloads], Payloads]:
    return lambda payloads: [
        one for one in payloads if one[0] != _NOTIFY or _notify_type(one[1]) not in kinds
    ]


def _without_vendor_id(payloads: Payloads) -> Payloads:
    return [one for one in payloads if one[0] != _VENDOR_ID]


def _without_addke(payloads: Payloads) -> Payloads:
    return [(kind, _stripped_sa(body) if kind == _SA else body) for kind, body in payloads]


def _with_cookie(payloads: Payloads) -> Payloads:
    return [(_NOTIFY, struct.pack("!BBH", 0, 0, _COOKIE) + b"not asked for"), *payloads]


def _stripped_sa(body: bytes) -> bytes:
    """Proposals without additional key exchanges."""
    out = b""
    while body:
        more, _, length, number, protocol, spi_size, _ = struct.unpack_from("!BBHBBBB", body)
        spi, rest, body = body[8 : 8 + spi_size], body[8 + spi_size : length], body[length:]
        kept = []
        while rest:
            size = int.from_bytes(rest[2:4], "big")
            if rest[4] not in _ADDKE:
                kept.append(rest[:size])
            rest = rest[size:]
        last = len(kept) - 1
        inside = spi + b"".join(
            bytes([0 if index == last else 3]) + one[1:] for index, one in enumerate(kept)
        )
        head = struct.pack(
            "!BBHBBBB", more, 0, 8 + len(inside), number, protocol, spi_size, len(kept)
        )
        out += head + inside
    return out


CHANGES: dict[str, Callable[[Payloads], Payloads]] = {
    "use-ppk-int": _without(16445),
    "use-ppk": _without(16435),
    "ppk": _without(16435, 16445),
    "intermediate": _without(16438),
    "fragmentation": _without(16430),
    "nat-detection": _without(16388, 16389),
    "vendor-id": _without_vendor_id,
    "addke": _without_addke,
    "cookie": _with_cookie,
}
"""What can be done, by name."""


def changed(message: bytes, what: str, direction: Direction) -> bytes | None:
    """The IKE message with ``what`` done to it; None where it is none to be changed."""
    if len(message) < _HEADER or message[_EXCHANGE] != _IKE_SA_INIT:
        return None
    if bool(message[_FLAGS] & _RESPONSE) != (direction == "response"):
        return None
    before = _split(message)
    after = CHANGES[what](before)
    return None if after == before else _joined(message, after)


def _split(message: bytes) -> Payloads:
    payloads: Payloads = []
    kind, rest = message[16], message[_HEADER:]
    while kind:
        size = int.from_bytes(rest[2:4], "big")
        payloads.append((kind, rest[4:size]))
        kind, rest = rest[0], rest[size:]
    return payloads


def _joined(message: bytes, payloads: Payloads) -> bytes:
    kinds = [kind for kind, _ in payloads] + [0]
    chain = b"".join(
        struct.pack("!BBH", kinds[index + 1], 0, 4 + len(body)) + body
        for index, (_, body) in enumerate(payloads)
    )
    length = (_HEADER + len(chain)).to_bytes(4, "big")
    return message[:16] + bytes([kinds[0]]) + message[17:24] + length + chain
