"""Whatever arrives, parsing ends in a value or in one of our errors, and soon."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.crypto.aead import IkeAead
from gateway.crypto.secret import Secret
from gateway.errors import CryptoError
from gateway.ike.encrypted import CounterIv, Reassembler, find_encrypted, open_message, seal
from gateway.ike.errors import FragmentError, ProtocolError
from gateway.ike.fragments import FragmentMemory
from gateway.ike.message import HEADER_SIZE, Header, decode_message, encode_message, parse_header
from gateway.ike.payloads import Payload, TsPayload, decode_chain, encode_chain
from gateway.ike.selectors import narrow
from tests.support.ike_strategies import chains, headers, u8

KEY = Secret(bytes(36))
SOURCE = ip_address("192.0.2.1")
EXAMPLES = settings(max_examples=300, deadline=None)

# A change to a message: where (as a fraction), what octet, how many octets to cut or repeat.
changes = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), u8, st.integers(-6, 6)), max_size=5)


def mutate(data: bytes, edits: list[tuple[float, int, int]]) -> bytes:
    out = bytearray(data)
    for place, octet, stretch in edits:
        if not out:
            break
        at = int(place * len(out))
        out[at] = octet
        if stretch < 0:
            del out[at : at - stretch]
        else:
            out[at:at] = bytes((octet,)) * stretch
    return bytes(out)


def with_right_length(data: bytes) -> bytes:
    """So that the damage gets past the header's length check."""
    if len(data) < HEADER_SIZE:
        return data
    return data[:24] + len(data).to_bytes(4, "big") + data[28:]


def parse_everything(data: bytes) -> None:
    """What the endpoint does with a datagram, with the right key at hand."""
    aead = IkeAead(KEY)
    try:
        header = parse_header(data)
        envelope = find_encrypted(data, header)
        if envelope is None:
            payloads = decode_message(data, header).payloads
        elif envelope.fragment:
            inner = Reassembler(FragmentMemory().share(SOURCE)).add(data, aead, envelope)
            payloads = inner.payloads() if inner else ()
        else:
            payloads = open_message(data, aead, envelope).payloads()
    except (ProtocolError, FragmentError, CryptoError) as error:
        assert str(error)  # noqa: PT017
        return
    for payload in payloads:
        use(payload)


def use(payload: Payload) -> None:
    """Text and narrowing of what was parsed."""
    assert repr(payload)
    if isinstance(payload, TsPayload):
        narrow(payload.selectors, ())
        assert all(str(selector) for selector in payload.selectors)


@EXAMPLES
@given(st.binary(max_size=200))
def test_noise(data: bytes) -> None:
    parse_everything(data)
    parse_everything(with_right_length(data))


@EXAMPLES
@given(u8, st.binary(max_size=200))
def test_noise_as_a_chain(first: int, data: bytes) -> None:
    try:
        payloads = decode_chain(first, data)
    except ProtocolError:
        return
    # What was accepted can be sent on and means the same.
    assert decode_chain(*encode_chain(payloads)) == payloads


@EXAMPLES
@given(headers, chains, changes)
def test_damaged_plain_messages(
    header: Header, payloads: tuple[Payload, ...], edits: list[tuple[float, int, int]]
) -> None:
    damaged = mutate(encode_message(header, payloads), edits)
    parse_everything(damaged)
    parse_everything(with_right_length(damaged))


@EXAMPLES
@given(headers, chains, changes, st.sampled_from([None, 140, 300]))
def test_damaged_encrypted_messages(
    header: Header,
    payloads: tuple[Payload, ...],
    edits: list[tuple[float, int, int]],
    size: int | None,
) -> None:
    for datagram in seal(header, payloads, IkeAead(KEY), CounterIv(), size):
        damaged = mutate(datagram, edits)
        parse_everything(damaged)
        parse_everything(with_right_length(damaged))


@EXAMPLES
@given(headers, chains, changes)
def test_a_peer_with_the_key_sends_damaged_content(
    header: Header, payloads: tuple[Payload, ...], edits: list[tuple[float, int, int]]
) -> None:
    """The ICV is good and the chain inside is not."""
    aead = IkeAead(KEY)
    first, chain = encode_chain(payloads)
    content = mutate(chain + b"\x00", edits)
    length = 4 + 8 + len(content) + 16
    aad = header.encode(46, HEADER_SIZE + length) + bytes((first, 0)) + length.to_bytes(2, "big")
    parse_everything(aad + bytes(8) + aead.seal(bytes(8), aad, content))
