"""Cascade: no error is left, the leak is what was sent, hostile messages end it."""

from __future__ import annotations

import numpy as np
import pytest

from qkd_adapters.postprocessing.cascade import Corrector, ParityOracle, drive, schedule
from qkd_adapters.postprocessing.errors import PeerMessageError
from qkd_adapters.postprocessing.estimate import entropy
from qkd_adapters.postprocessing.orders import Natural, Order, Shuffled, Subset

SEED = bytes(range(16))


def strings(count: int, qber: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    right = random.integers(0, 2, count, dtype=np.uint8)
    return right, right ^ (random.random(count) < qber).astype(np.uint8)


@pytest.mark.parametrize("qber", [0.0, 0.01, 0.05, 0.11])
@pytest.mark.parametrize("count", [1, 7, 100, 3000, 60_000])
def test_the_ends_agree_and_the_errors_are_known(count: int, qber: float) -> None:
    right, bits = strings(count, qber)
    wrong = np.flatnonzero(right != bits)
    corrector = Corrector(bits, schedule(max(qber, 0.01), count), SEED)
    oracle = ParityOracle(right)
    drive(corrector, oracle)
    assert (bits == right).all()
    assert (corrector.errors == wrong).all()


def test_the_leak_is_the_number_of_parities_on_the_wire() -> None:
    right, bits = strings(20_000, 0.03)
    corrector, oracle = Corrector(bits, schedule(0.03, len(bits)), SEED), ParityOracle(right)
    at_most = rounds = 0
    while corrector.question is not None:
        answer = oracle.answer(corrector.question)
        at_most += 8 * len(answer)
        rounds += 1
        corrector.answer(answer)
    assert corrector.leak == oracle.leak
    assert at_most - 7 * rounds <= corrector.leak <= at_most
    assert corrector.rounds == rounds <= 100
    assert 1 < corrector.leak / (len(bits) * entropy(0.03)) < 1.15


def test_a_wrong_guess_of_the_error_rate_costs_leak_not_correctness() -> None:
    right, bits = strings(20_000, 0.02)
    for guess in (0.002, 0.02, 0.2):
        mine = bits.copy()
        corrector = Corrector(mine, schedule(guess, len(mine)), SEED)
        drive(corrector, ParityOracle(right))
        assert (mine == right).all()
        assert corrector.leak < 4 * len(mine) * entropy(0.02)


def test_parities_that_fit_no_string_come_to_an_end() -> None:
    random = np.random.default_rng(1)
    right, bits = strings(2_000, 0.02)
    corrector, oracle = Corrector(bits, schedule(0.02, 2_000), SEED), ParityOracle(right)

    def lie() -> None:
        while corrector.question is not None:
            answer = bytearray(oracle.answer(corrector.question))
            answer[0] ^= random.integers(0, 2) << 7
            corrector.answer(bytes(answer))

    with pytest.raises(PeerMessageError):
        lie()


@pytest.mark.parametrize("cut", [0, 3, 20, -1])
def test_a_damaged_question_is_refused(cut: int) -> None:
    right, bits = strings(2_000, 0.02)
    corrector = Corrector(bits, schedule(0.02, 2_000), SEED)
    assert corrector.question is not None
    with pytest.raises(PeerMessageError):
        ParityOracle(right).answer(corrector.question[:cut])


@pytest.mark.parametrize("count", [1, 2, 63, 64, 1000, 4097])
def test_orders_lead_there_and_back(count: int) -> None:
    orders: list[Order] = [Natural(count), Shuffled(count, SEED)]
    indices = np.arange(count)
    for order in orders:
        positions = order.positions(indices)
        assert len(set(positions.tolist())) == count
        assert (order.indices(positions) == indices).all()
        bits = np.random.default_rng(count).integers(0, 2, count, dtype=np.uint8)
        prefix = order.prefix(bits)
        assert ((prefix[positions + 1] - prefix[positions]) == bits).all()


def test_a_subset_is_about_half_and_its_parity_is_the_prefix_at_the_end() -> None:
    subset = Subset(10_000, SEED)
    bits = np.random.default_rng(2).integers(0, 2, 10_000, dtype=np.uint8)
    assert 4_700 < len(subset.positions(np.arange(10_000))) < 5_300
    assert subset.parity(np.packbits(bits)) == subset.prefix(bits)[-1] & 1
