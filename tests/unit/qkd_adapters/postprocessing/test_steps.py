"""The small steps: sifting's codes, verification, names, ledger."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkd_adapters.postprocessing import messages, sifting, verification
from qkd_adapters.postprocessing.errors import PeerMessageError
from qkd_adapters.postprocessing.ledger import Ledger
from qkd_adapters.postprocessing.naming import key_id

SEED = bytes(range(48))


@given(st.lists(st.integers(0, 2**40), unique=True, max_size=50).map(sorted))
def test_indices_survive_their_code(numbers: list[int]) -> None:
    indices = np.array(numbers, dtype=np.int64)
    coded = sifting.encode_indices(indices)
    assert (sifting.decode_indices(coded, pulses=2**40 + 1) == indices).all()


def test_indices_take_about_an_octet_each_where_one_pulse_in_a_hundred_clicks() -> None:
    indices = np.flatnonzero(np.random.default_rng(0).random(1_000_000) < 0.03)
    assert len(sifting.encode_indices(indices)) < 1.1 * len(indices)


@given(st.binary(max_size=60), st.integers(0, 2**62))
def test_hostile_indices_are_refused_or_lie_in_the_block(data: bytes, pulses: int) -> None:
    try:
        indices = sifting.decode_indices(data, pulses=pulses)
    except PeerMessageError:
        return
    assert (np.diff(indices) > 0).all()
    assert not len(indices) or (indices[0] >= 0 and indices[-1] < pulses)


@given(st.lists(st.integers(0, 3), max_size=40))
def test_symbols_survive_their_code(numbers: list[int]) -> None:
    symbols = np.array(numbers, dtype=np.uint8)
    coded = sifting.encode_symbols(symbols)
    assert (sifting.decode_symbols(coded, most=40) == symbols).all()
    with pytest.raises(PeerMessageError):
        sifting.decode_symbols(coded + b"\x00", most=40)


def test_a_detection_counts_where_both_know_it_in_the_same_basis() -> None:
    rows = sifting.match(
        np.array([2, 3, 5, 9]),
        np.array([0, 1, 0, 1], dtype=np.uint8),
        np.array([1, 2, 5, 8]),
        np.array([0, 0, 1, 1], dtype=np.uint8),
    )
    assert rows.tolist() == [1, -1, -1, -1]


@given(st.binary(max_size=200))
def test_no_octets_upset_the_decoder(data: bytes) -> None:
    try:
        message = messages.decode(data)
    except PeerMessageError:
        return
    assert messages.decode(messages.encode(message)).block == message.block


def test_the_verification_hash_tells_strings_apart() -> None:
    bits = np.random.default_rng(1).integers(0, 2, 5_000, dtype=np.uint8)
    same = verification.digest(bits, SEED)
    assert len(same) * 8 == verification.HASH_BITS
    assert verification.digest(bits.copy(), SEED) == same
    for place in (0, 2_500, 4_999):
        other = bits.copy()
        other[place] ^= 1
        assert verification.digest(other, SEED) != same
    assert verification.digest(bits[:-1], SEED) != same
    assert verification.digest(np.append(bits, np.uint8(0)), SEED) != same


def test_names_are_uuids_that_differ_in_everything_they_are_made_of() -> None:
    name = key_id("a", 1, b"seed", 0)
    assert str(uuid.UUID(name)) == name
    assert uuid.UUID(name).variant == uuid.RFC_4122
    assert uuid.UUID(name).version == 8
    others = {
        key_id("b", 1, b"seed", 0),
        key_id("a", 2, b"seed", 0),
        key_id("a", 1, b"another seed", 0),
        key_id("a", 1, b"seed", 1),
    }
    assert len(others | {name}) == 5


def test_the_ledger_balances_and_gives_no_more_than_it_has() -> None:
    ledger = Ledger()
    ledger.generate(keys=512, authentication=256, remainder=17)
    ledger.deliver(256)
    ledger.discard(256)
    assert ledger.balanced
    assert (ledger.generated, ledger.delivered, ledger.pool) == (785, 256, 0)
    with pytest.raises(ValueError, match="pool"):
        ledger.deliver(1)
