"""Encrypted payloads (RFC 7296 3.14, RFC 5282), fragments (RFC 7383), IntAuth (RFC 9242).

A sender seals a chain of payloads into one message with an SK payload or into several with
SKF payloads. A receiver opens them back into ``Inner``: the chain's octets, authenticated
but not yet parsed, together with what RFC 9242 puts into AUTH.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.crypto.aead import ICV_SIZE, IV_SIZE, IkeAead
from gateway.ike.errors import FragmentError, FragmentLimitError
from gateway.ike.fragments import FragmentShare
from gateway.ike.message import HEADER_SIZE, Header, parse_header
from gateway.ike.payloads import GENERIC_HEADER, Payload, decode_chain, encode_chain
from gateway.ike.registry import PayloadType
from gateway.ike.wire import syntax_error

_SKF_HEADER: Final = GENERIC_HEADER + 4  # with Fragment Number and Total Fragments
_PAD: Final = b"\x00"  # Pad Length 0: AEAD needs no alignment (RFC 5282 3)
_SEALED_EXTRA: Final = IV_SIZE + len(_PAD) + ICV_SIZE
_UDP: Final = 8
_NON_ESP_MARKER: Final = 4  # RFC 3948 2.2; room is kept on port 500 too
_IP_HEADER: Final = {4: 20, 6: 40}  # without options or extension headers
_MAX_PAYLOAD: Final = 0xFFFF
_MIN_CHUNK: Final = 16  # our floor for a fragment's content; keeps the count sane
MAX_MESSAGE: Final = 65536
"""Octets of content one fragmented message may take: 64 KiB, as a KE payload's length."""
MAX_FRAGMENTS: Final = 256
"""Fragments of one message: 64 KiB in chunks a 576-octet datagram can carry, and to spare."""


class CounterIv:
    """IVs for one key: 0, 1, 2, ... (RFC 5282 3 allows a counter; a key never sees one twice)."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next = 0

    def take(self) -> bytes:
        """The next eight octets. OverflowError after 2^64."""
        iv = self._next.to_bytes(IV_SIZE, "big")
        self._next += 1
        return iv


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    """An authenticated message's content."""

    header: Header
    first_type: int
    plaintext: bytes  # the inner payloads, without padding
    associated: bytes  # A of RFC 9242 3.3.2
    largest_fragment: int = 0  # octets, IKE header and all; 0: it came whole

    def payloads(self) -> tuple[Payload, ...]:
        """The inner payloads. ProtocolError if malformed."""
        return decode_chain(self.first_type, self.plaintext)

    @property
    def int_auth(self) -> bytes:
        """A | P: what IntAuth takes of this message (RFC 9242 3.3.2)."""
        return self.associated + self.plaintext


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Where the encrypted payload of a message stands; nothing here is authenticated yet."""

    header: Header
    offset: int  # of the SK or SKF payload
    type_offset: int  # of the octet that names it
    number: int  # Fragment Number; 0 for SK
    total: int  # Total Fragments; 0 for SK

    @property
    def fragment(self) -> bool:
        return self.total > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """An authenticated fragment."""

    header: Header
    number: int
    total: int
    chunk: bytes
    first_type: int  # of the first inner payload, in fragment 1 only
    associated_head: bytes  # message up to the SKF payload's reserved octet, as an SK message
    octets: int  # IKE header and all


# --- sending ---------------------------------------------------------------------------------


def seal(
    header: Header,
    payloads: Sequence[Payload],
    aead: IkeAead,
    ivs: CounterIv,
    fragment_size: int | None = None,
    *,
    ip_version: int = 4,
) -> list[bytes]:
    """The datagrams of one message.

    ``fragment_size``: octets of the largest IP datagram to send, headers of IP and UDP and
    the non-ESP marker included; None where the peer does not take fragments. ValueError
    where it is too small to carry anything.
    """
    first, chain = encode_chain(payloads)
    whole = HEADER_SIZE + GENERIC_HEADER + len(chain) + _SEALED_EXTRA
    sealer = _Sealer(header, aead, ivs)
    if fragment_size is None:
        return [sealer.whole(first, chain)]
    room = fragment_size - ip_datagram(0, ip_version)
    if whole <= room:
        return [sealer.whole(first, chain)]
    size = room - HEADER_SIZE - _SKF_HEADER - _SEALED_EXTRA
    if size < _MIN_CHUNK:
        raise ValueError(f"no room for content in datagrams of {fragment_size} octets")
    chunks = [chain[start : start + size] for start in range(0, len(chain), size)]
    # RFC 7383 2.5: only the first fragment names the first inner payload.
    return [
        sealer.fragment(first if number == 1 else 0, number, len(chunks), chunk)
        for number, chunk in enumerate(chunks, 1)
    ]


def ip_datagram(octets: int, ip_version: int) -> int:
    """Octets of the IP datagram that carries an IKE message, or a fragment, of ``octets``."""
    return _IP_HEADER[ip_version] + _UDP + _NON_ESP_MARKER + octets


def sent_int_auth(header: Header, payloads: Sequence[Payload]) -> bytes:
    """A | P of RFC 9242 3.3.2 for a message we send, whatever way it is fragmented."""
    first, chain = encode_chain(payloads)
    length = GENERIC_HEADER + len(chain)
    return b"".join(
        (
            header.encode(PayloadType.SK, HEADER_SIZE + length),
            bytes((first, 0)),
            length.to_bytes(2, "big"),
            chain,
        )
    )


class _Sealer:
    """Seals the parts of one message."""

    __slots__ = ("_aead", "_header", "_ivs")

    def __init__(self, header: Header, aead: IkeAead, ivs: CounterIv) -> None:
        self._header = header
        self._aead = aead
        self._ivs = ivs

    def whole(self, first: int, chain: bytes) -> bytes:
        # RFC 5282 5.1: associated data runs from the IKE header to the SK generic header.
        return self._seal(PayloadType.SK, first, b"", chain)

    def fragment(self, first: int, number: int, total: int, chunk: bytes) -> bytes:
        # RFC 7383 2.5: associated data takes in Fragment Number and Total Fragments.
        place = number.to_bytes(2, "big") + total.to_bytes(2, "big")
        return self._seal(PayloadType.SKF, first, place, chunk)

    def _seal(self, kind: PayloadType, first: int, place: bytes, content: bytes) -> bytes:
        length = GENERIC_HEADER + len(place) + len(content) + _SEALED_EXTRA
        if length > _MAX_PAYLOAD:
            raise ValueError(f"encrypted payload of {length} octets")
        aad = b"".join(
            (
                self._header.encode(kind, HEADER_SIZE + length),
                bytes((first, 0, length >> 8, length & 0xFF)),
                place,
            )
        )
        iv = self._ivs.take()
        return aad + iv + self._aead.seal(iv, aad, content + _PAD)


# --- receiving -------------------------------------------------------------------------------


def find_encrypted(data: bytes, header: Header | None = None) -> Envelope | None:
    """The SK or SKF payload of a message, or None where it has none.

    ProtocolError(INVALID_SYNTAX) where the outer chain is malformed, the encrypted payload is
    not the last one (RFC 7296 3.14), or it is shorter than its IV and ICV; FragmentError
    where the fragment numbers are impossible (RFC 7383 2.6).
    """
    header = header or parse_header(data)
    kind, offset, type_offset = header.next_payload, HEADER_SIZE, 16
    while kind != PayloadType.NONE:
        left = len(data) - offset
        length = data[offset + 2] << 8 | data[offset + 3] if left >= GENERIC_HEADER else 0
        if not GENERIC_HEADER <= length <= left:
            raise syntax_error(f"payload {kind}: length is not possible")
        if kind in (PayloadType.SK, PayloadType.SKF):
            if length != left:
                raise syntax_error("encrypted payload is not the last one")
            return _envelope(data, header, offset, type_offset)
        kind, type_offset = data[offset], offset
        offset += length
    return None


def _envelope(data: bytes, header: Header, offset: int, type_offset: int) -> Envelope:
    fragment = data[type_offset] == PayloadType.SKF
    head = _SKF_HEADER if fragment else GENERIC_HEADER
    if len(data) - offset < head + _SEALED_EXTRA:
        raise syntax_error("encrypted payload ends early")
    number = total = 0
    if fragment:
        number = int.from_bytes(data[offset + 4 : offset + 6], "big")
        total = int.from_bytes(data[offset + 6 : offset + 8], "big")
        if not 1 <= number <= total:
            raise FragmentError(f"fragment {number} of {total}")
        if total > MAX_FRAGMENTS:
            raise FragmentLimitError(f"{total} fragments")
    return Envelope(
        header=header, offset=offset, type_offset=type_offset, number=number, total=total
    )


def open_message(data: bytes, aead: IkeAead, envelope: Envelope | None = None) -> Inner:
    """The content of a message with an SK payload.

    CryptoError where the ICV does not verify, ProtocolError where the message is malformed
    or has no SK payload.
    """
    envelope = envelope or find_encrypted(data)
    if envelope is None or envelope.fragment:
        raise syntax_error("message has no SK payload")
    plaintext = _open(data, aead, envelope)
    return Inner(
        header=envelope.header,
        first_type=data[envelope.offset],
        plaintext=plaintext,
        associated=_associated(_associated_head(data, envelope), len(plaintext)),
    )


def open_fragment(data: bytes, aead: IkeAead, envelope: Envelope | None = None) -> Fragment:
    """One fragment. Errors as ``open_message``."""
    envelope = envelope or find_encrypted(data)
    if envelope is None or not envelope.fragment:
        raise syntax_error("message has no SKF payload")
    return Fragment(
        header=envelope.header,
        number=envelope.number,
        total=envelope.total,
        chunk=_open(data, aead, envelope),
        first_type=data[envelope.offset],
        associated_head=_associated_head(data, envelope),
        octets=len(data),
    )


def _open(data: bytes, aead: IkeAead, envelope: Envelope) -> bytes:
    start = envelope.offset + (_SKF_HEADER if envelope.fragment else GENERIC_HEADER)
    iv_end = start + IV_SIZE
    padded = aead.open(data[start:iv_end], data[:start], data[iv_end:])
    end = len(padded) - 1 - padded[-1]
    if end < 0:
        raise syntax_error("padding is longer than the content")
    return padded[:end]


def _associated_head(data: bytes, envelope: Envelope) -> bytes:
    """The message through the SK payload's reserved octet, as if it had not been fragmented."""
    head = bytearray(data[: envelope.offset + 2])
    head[envelope.type_offset] = PayloadType.SK
    return bytes(head)


def _associated(head: bytes, content: int) -> bytes:
    """A of RFC 9242 3.3.2: both lengths as if the content stood there in the clear."""
    out = bytearray(head)
    out += (GENERIC_HEADER + content).to_bytes(2, "big")
    out[24:28] = (len(out) + content).to_bytes(4, "big")
    return bytes(out)


class Reassembler:
    """Puts one fragmented message at a time together (RFC 7383 2.6).

    With a window of one there is one such message per direction; fragments of another
    message replace what was there. Memory is bounded by MAX_MESSAGE, and by what all
    messages in fragments share.
    """

    __slots__ = ("_fragments", "_key", "_memory", "_size", "_total")

    def __init__(self, memory: FragmentShare) -> None:
        self._memory = memory
        self._size = 0
        self.clear()

    def clear(self) -> None:
        """Forget what has come in so far."""
        if self._size:
            self._memory.give_back(self._size)
        self._key: tuple[int, int, bool] | None = None
        self._total = 0
        self._size = 0
        self._fragments: dict[int, Fragment] = {}

    def add(self, data: bytes, aead: IkeAead, envelope: Envelope) -> Inner | None:
        """The whole message once its last missing fragment is here, else None.

        FragmentError where RFC 7383 2.6 wants the fragment dropped, FragmentLimitError
        where the message grows too large; CryptoError and ProtocolError as ``open_message``.
        """
        header = envelope.header
        key = (header.message_id, header.exchange, header.response)
        same = key == self._key
        if same and envelope.total < self._total:
            raise FragmentError(f"of {envelope.total}, others of {self._total}")
        if same and envelope.total == self._total and envelope.number in self._fragments:
            raise FragmentError(f"fragment {envelope.number} is already here")
        fragment = open_fragment(data, aead, envelope)  # nothing changes before the ICV is good
        if not same or envelope.total > self._total:
            self.clear()
            self._key, self._total = key, envelope.total
        if self._size + len(fragment.chunk) > MAX_MESSAGE:
            self.clear()
            raise FragmentLimitError(f"message above {MAX_MESSAGE} octets")
        if not self._memory.take(len(fragment.chunk)):
            raise FragmentLimitError("too many octets of fragments wait for others")
        self._fragments[fragment.number] = fragment
        self._size += len(fragment.chunk)
        if len(self._fragments) < self._total:
            return None
        whole = self._whole()
        self.clear()
        return whole

    def _whole(self) -> Inner:
        first = self._fragments[1]
        plaintext = b"".join(self._fragments[number].chunk for number in range(1, self._total + 1))
        return Inner(
            header=first.header,
            first_type=first.first_type,
            plaintext=plaintext,
            associated=_associated(first.associated_head, len(plaintext)),
            largest_fragment=max(fragment.octets for fragment in self._fragments.values()),
        )
