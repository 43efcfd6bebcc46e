"""Post-processing of a QKD link: Mbit/s of sifted key per core, and what a 300 kbit/s link takes.

CPU time, not wall time: one process does one thing at a time, and the machine may be shared.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from qkd_adapters.postprocessing import cascade, toeplitz
from qkd_adapters.postprocessing.estimate import entropy
from qkd_adapters.postprocessing.settings import DecoyBb84, Settings
from tests.bench.figures import Figure
from tests.support.postprocessing import carry, decoy_records, ends

COUNT = 1 << 20  # bits of the blocks
RUNS = 3
OUTSIDE_COUNT = 20_000  # bits that the outside program is given; it is slow


def _cpu(action: Callable[[], object]) -> float:
    """Best of some runs, seconds of CPU."""
    times = []
    for _ in range(RUNS):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return min(times)


def _noisy(count: int, qber: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    right = random.integers(0, 2, count, dtype=np.uint8)
    return right, right ^ (random.random(count) < qber).astype(np.uint8)


def _reconciliation(qber: float) -> list[Figure]:
    right, wrong = _noisy(COUNT, qber)
    plan = cascade.schedule(qber, COUNT)
    spent = {"asks": 0.0, "answers": 0.0}
    ended: list[cascade.Corrector] = []

    def run() -> None:
        start = time.process_time()
        corrector, oracle = (
            cascade.Corrector(wrong.copy(), plan, bytes(16)),
            cascade.ParityOracle(right),
        )
        answering = 0.0
        while corrector.question is not None:
            before = time.process_time()
            answer = oracle.answer(corrector.question)
            answering += time.process_time() - before
            corrector.answer(answer)
        spent["answers"] = answering
        spent["asks"] = time.process_time() - start - answering
        ended.append(corrector)

    both = _cpu(run)
    efficiency = ended[-1].leak / (COUNT * entropy(len(ended[-1].errors) / COUNT))
    slower = max(spent.values())
    return [
        Figure(
            name=f"Cascade at {qber:.0%}, slower end",
            value=COUNT / slower / 1e6,
            unit="Mbit/s",
            aim=5.0 if qber == 0.02 else None,
            at_least=True,
            note=f"both ends on one core {COUNT / both / 1e6:.1f} Mbit/s,"
            f" {ended[-1].rounds} rounds, blocks of {COUNT} bits",
        ),
        Figure(
            name=f"Cascade at {qber:.0%}, efficiency f",
            value=efficiency,
            unit="",
            aim=1.15 if qber == 0.02 else None,
        ),
    ]


def _outside(qber: float) -> list[Figure]:
    from tno.quantum.communication.qkd_key_rate.classical import (
        Message,
        ParityStrategy,
        Permutations,
    )
    from tno.quantum.communication.qkd_key_rate.classical.cascade import (
        CascadeCorrector,
        CascadeReceiver,
        CascadeSender,
    )

    passes = 8
    message = Message.random_message(message_length=OUTSIDE_COUNT)
    noisy = message.apply_errors(error_rate=qber)
    permutations = Permutations.random_permutation(
        number_of_passes=passes, message_size=OUTSIDE_COUNT, random_state=42
    )
    strategy = ParityStrategy(error_rate=qber, sampling_fraction=0.34, number_of_passes=passes)
    corrector = CascadeCorrector(
        alice=CascadeSender(message=message, permutations=permutations),
        bob=CascadeReceiver(message=noisy, permutations=permutations, parity_strategy=strategy),
    )
    start = time.process_time()
    summary = corrector.correct_errors()
    spent = time.process_time() - start
    leak = summary.number_of_exposed_bits
    note = "tno.quantum.communication.qkd_key_rate, 8 passes, both ends on one core"
    return [
        Figure(
            name=f"outside Cascade at {qber:.0%}",
            value=OUTSIDE_COUNT / spent / 1e6,
            unit="Mbit/s",
            note=note,
        ),
        Figure(
            name=f"outside Cascade at {qber:.0%}, efficiency f",
            value=leak / (OUTSIDE_COUNT * entropy(summary.input_error)),
            unit="",
        ),
    ]


def _amplification() -> Figure:
    random = np.random.default_rng(6)
    length = COUNT * 2 // 5
    bits = random.integers(0, 2, COUNT, dtype=np.uint8)
    seed = random.integers(0, 2, toeplitz.seed_bits(COUNT), dtype=np.uint8)
    spent = _cpu(lambda: toeplitz.hash_key(bits, seed, length))
    return Figure(
        name="privacy amplification, Toeplitz",
        value=COUNT / spent / 1e6,
        unit="Mbit/s",
        aim=20.0,
        at_least=True,
        note=f"exact, {COUNT} to {length} bits; TNO's package hashes with SHAKE instead",
    )


def _link() -> list[Figure]:
    """CPU for a link that gives 300 kbit/s of secret key."""
    scheme = DecoyBb84(intensities=(0.5, 0.1), probabilities=(0.7, 0.3))
    pair = ends(Settings(link="bench", scheme=scheme))
    raw = decoy_records(clicks=2_000_000, qber=0.02, p_z=0.7)
    spent = []
    secret = sifted = 0
    for _ in range(RUNS):
        sender, receiver = pair[0].block(raw[0]), pair[1].block(raw[1])
        start = time.process_time()
        carry(sender, receiver)
        spent.append(time.process_time() - start)
        if receiver.outcome is None or not receiver.outcome.keys:
            raise RuntimeError("the block gave no key")
        secret = receiver.outcome.estimate.secret_bits
        sifted = receiver.outcome.estimate.sifted
        pair = ends(Settings(link="bench", scheme=scheme))
    per_bit = min(spent) / secret
    return [
        Figure(
            name="300 kbit/s link, CPU of one end",
            value=100 * 300e3 * per_bit / 2,
            unit="% of a core",
            aim=100.0,
            note=f"mean of both ends, all steps; {secret} of {sifted} sifted bits at QBER 2 %",
        )
    ]


def run() -> list[Figure]:
    figures = [figure for qber in (0.02, 0.05) for figure in _reconciliation(qber)]
    return [*figures, *_outside(0.02), _amplification(), *_link()]
