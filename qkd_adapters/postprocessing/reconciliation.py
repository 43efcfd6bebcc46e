"""Reconciliation and verification of one block, at either end."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from qkd_adapters.postprocessing import messages as wire
from qkd_adapters.postprocessing import verification
from qkd_adapters.postprocessing.cascade import SEED_OCTETS, Corrector, ParityOracle, schedule
from qkd_adapters.postprocessing.errors import PeerMessageError
from qkd_adapters.postprocessing.exchange import Exchange, Steps
from qkd_adapters.postprocessing.messages import Phase
from qkd_adapters.postprocessing.wire import Bits, Numbers


class Guesses(Protocol):
    """The corrector's bits, part by part: a later part may be guessed better from earlier ones."""

    @property
    def parts(self) -> int: ...

    def guess(self, done: Sequence[Bits]) -> tuple[Bits, float]:
        """The next part, after those that are ``done``, and about how much of it is wrong."""

    def classify(self, part: int, errors: Numbers) -> Sequence[int]:
        """Counts to report of the errors found in a part; those of all parts are joined."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reconciled:
    """``bits``: of all parts, one after the other. ``errors``: as ``Guesses.classify`` counts."""

    bits: Bits
    leak: int
    rounds: int
    errors: tuple[int, ...]
    equal: bool


def correct(exchange: Exchange, guesses: Guesses) -> Steps[Reconciled]:
    """The end whose bits change. Its tag over the phase goes out, the peer's is checked."""
    done: list[Bits] = []
    errors: list[int] = []
    leak = rounds = 0
    for part in range(guesses.parts):
        bits, qber = guesses.guess(done)
        plan = schedule(qber, len(bits))
        corrector = Corrector(bits, plan, exchange.rng.random_bytes(SEED_OCTETS))
        while corrector.question is not None:
            exchange.send(wire.Questions(block=exchange.block, part=part, body=corrector.question))
            answers = yield from exchange.expect(wire.Answers)
            if answers.part != part:
                raise PeerMessageError("answers about another part")
            corrector.answer(answers.body)
        done.append(bits)
        leak += corrector.leak
        rounds += corrector.rounds
        errors += guesses.classify(part, corrector.errors)
        corrector.wipe()
    return (yield from conclude_correct(exchange, done, errors=errors, leak=leak, rounds=rounds))


def conclude_correct(
    exchange: Exchange, done: Sequence[Bits], *, errors: Sequence[int], leak: int, rounds: int
) -> Steps[Reconciled]:
    """All parts are corrected: are they right?"""
    joined = _join(done)
    seed = exchange.rng.random_bytes(verification.SEED_OCTETS)
    exchange.send(
        wire.Corrected(
            block=exchange.block,
            errors=tuple(errors),
            seed=seed,
            digest=verification.digest(joined, seed),
        )
    )
    exchange.send_tag(Phase.RECONCILIATION)
    verdict = yield from exchange.expect(wire.Verified)
    yield from exchange.check_tag(Phase.RECONCILIATION)
    return Reconciled(
        bits=joined, leak=leak, rounds=rounds, errors=tuple(errors), equal=verdict.equal
    )


def answer(exchange: Exchange, parts: Sequence[Bits]) -> Steps[Reconciled]:
    """The end whose bits stay."""
    oracles = [ParityOracle(part) for part in parts]
    while True:
        message = yield from exchange.either(wire.Questions, wire.Corrected)
        if isinstance(message, wire.Corrected):
            break
        if message.part >= len(oracles):
            raise PeerMessageError("question about no part")
        body = oracles[message.part].answer(message.body)
        exchange.send(wire.Answers(block=exchange.block, part=message.part, body=body))
    for oracle in oracles:
        oracle.wipe()
    return (
        yield from conclude_answer(
            exchange,
            message,
            parts,
            leak=sum(oracle.leak for oracle in oracles),
            rounds=sum(oracle.rounds for oracle in oracles),
        )
    )


def conclude_answer(
    exchange: Exchange,
    corrected: wire.Corrected,
    parts: Sequence[Bits],
    *,
    leak: int,
    rounds: int,
) -> Steps[Reconciled]:
    """The peer says it is done: does its hash fit?"""
    yield from exchange.check_tag(Phase.RECONCILIATION)
    if len(corrected.seed) != verification.SEED_OCTETS:
        raise PeerMessageError("verification hash without its seed")
    joined = _join(parts)
    equal = hmac.compare_digest(verification.digest(joined, corrected.seed), corrected.digest)
    exchange.send(wire.Verified(block=exchange.block, equal=equal))
    exchange.send_tag(Phase.RECONCILIATION)
    return Reconciled(bits=joined, leak=leak, rounds=rounds, errors=corrected.errors, equal=equal)


def _join(parts: Sequence[Bits]) -> Bits:
    joined = np.concatenate(parts) if parts else np.empty(0, dtype=np.uint8)
    for part in parts:
        part[...] = 0
    return joined
