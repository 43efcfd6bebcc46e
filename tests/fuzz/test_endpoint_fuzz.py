"""Damaged messages in the life of a tunnel: nothing throws, and nothing is left behind.

The seeds are our own exchanges. From outside a datagram is damaged on its way; a hostile peer
damages the content of one of its messages before it is encrypted, so the ICV is good.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ike import encrypted, message
from gateway.ike.config import PpkMode
from gateway.ike.payloads import Payload, encode_chain
from tests.support.ike_pair import Flight, Pair
from tests.support.ike_strategies import payloads as any_payload
from tests.support.ike_strategies import u8

EXAMPLES = settings(max_examples=70, deadline=None)
MESSAGES = 24  # about as many as the life below has, both sides together

edits = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), u8, st.integers(-4, 4)), max_size=4)
"""Where, which octet, how many octets to cut (below 0) or to put in."""

place = st.integers(0, 9)
rearrangements = st.one_of(
    st.just(lambda payloads: payloads),
    st.builds(lambda at: lambda ps: [*ps[:at], *ps[at + 1 :]], place),
    st.builds(lambda at, n: lambda ps: [*ps, *ps[at : at + 1] * n], place, st.integers(1, 300)),
    st.builds(lambda at, new: lambda ps: [*ps[:at], new, *ps[at + 1 :]], place, any_payload),
    st.builds(lambda at, new: lambda ps: [*ps[:at], new, *ps[at:]], place, any_payload),
    st.just(lambda payloads: payloads[::-1]),
)
settings_of_a_life = st.fixed_dictionaries(
    {
        "fragment_size": st.sampled_from([576, 1280]),
        "esp": st.sampled_from(
            [("aes256gcm16-esn",), ("aes256gcm16-x25519-ke1_mlkem768-ke2_mlkem1024-esn",)]
        ),
        "ppk": st.sampled_from([PpkMode.PREFER, PpkMode.REQUIRE]),
        "cookie_threshold": st.sampled_from([0, 10]),
        "report_inbound": st.booleans(),
        "toy_kex": st.booleans(),  # it takes any octets, the real ones do not
    }
)


def damaged(data: bytes, changes: list[tuple[float, int, int]]) -> bytes:
    out = bytearray(data)
    for where, octet, stretch in changes:
        if out:
            at = int(where * len(out))
            out[at] = octet
            out[at : at + max(0, -stretch)] = bytes((octet,)) * max(0, stretch)
    return bytes(out)


@contextmanager
def one_message_changed(number: int, change: Callable[[Sequence[Payload]], tuple[int, bytes]]):
    """The ``number``-th different chain that anybody encodes goes out changed.

    One chain is encoded more than once: for IntAuth and to be sealed.
    """
    seen: dict[tuple[int, bytes], tuple[int, bytes]] = {}

    def encode(payloads: Sequence[Payload]) -> tuple[int, bytes]:
        real = encode_chain(payloads)
        if real not in seen:
            seen[real] = change(payloads) if len(seen) == number else real
        return seen[real]

    with (
        mock.patch.object(encrypted, "encode_chain", encode),
        mock.patch.object(message, "encode_chain", encode),
    ):
        yield


def live(pair: Pair) -> None:
    """All exchanges there are, from both sides, and the end."""
    pair.initiate()
    pair.rekey()
    pair.run(1)
    pair.rekey(side=pair.sun, ppk=False)
    pair.run(31)
    for side in pair.sides:
        side.endpoint.close("net", reason="terminated by the operator", now=pair.now)
    pair.run(200)


def check_nothing_is_left(pair: Pair) -> None:
    pair.check_empty()
    pair.check_settled()
    for side in pair.sides:
        endpoint = side.endpoint
        assert not endpoint._sessions._by_spi
        assert not endpoint._env.desk._open
        assert not endpoint._env.fetches._sources
        assert endpoint.next_deadline() is None


@EXAMPLES
@given(settings_of_a_life, st.integers(0, 2 * MESSAGES), edits, st.booleans())
def test_damaged_on_the_way(how, number, changes, fix_length):
    def fault(flight: Flight) -> list[tuple[float, bytes]]:
        if flight.number != number:
            return [(0.0, flight.data)]
        data = damaged(flight.data, changes)
        if fix_length and len(data) >= 28:
            data = data[:24] + len(data).to_bytes(4, "big") + data[28:]
        return [(0.0, data), (0.3, flight.data)]

    pair = Pair(fault=fault, **how)
    live(pair)
    check_nothing_is_left(pair)


@EXAMPLES
@given(settings_of_a_life, st.integers(0, MESSAGES), rearrangements, edits, st.integers(0, 60))
def test_damaged_by_a_peer_with_the_keys(how, number, rearrange, changes, first):
    def change(payloads: Sequence[Payload]) -> tuple[int, bytes]:
        real_first, chain = encode_chain(rearrange(list(payloads)))
        chain = damaged(chain, changes)
        return (first if first < 54 and changes else real_first), chain[:60000]

    with one_message_changed(number, change):
        pair = Pair(**how, witnessed=False)  # no codec is to take what is sent here
        live(pair)
    check_nothing_is_left(pair)
