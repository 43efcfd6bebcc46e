"""Sifting for protocols with clicks: from two records to two nearly equal bit strings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qkd_adapters.postprocessing import messages as wire
from qkd_adapters.postprocessing.errors import PeerMessageError
from qkd_adapters.postprocessing.estimate import Counts, Level
from qkd_adapters.postprocessing.exchange import Exchange, Steps
from qkd_adapters.postprocessing.outcome import RawBlock
from qkd_adapters.postprocessing.settings import DecoyBb84, Settings, TwinField
from qkd_adapters.postprocessing.sifting import match
from qkd_adapters.postprocessing.wire import Bits, Numbers

X = 1  # in the basis column


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sifted:
    """``bits``: the Z bits; ``levels``: the intensity number of each. ``counts``: Z errors 0."""

    bits: Bits
    levels: Bits
    counts: Counts


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rows:
    index: Numbers
    basis: Bits
    bit: Bits
    intensity: Bits
    detector: Bits

    @classmethod
    def of(cls, raw: RawBlock) -> _Rows:
        columns = raw.columns
        index = columns["index"].astype(np.int64)
        blank = np.zeros(len(index), dtype=np.uint8)
        return cls(
            index=index,
            basis=columns["basis"].astype(np.uint8),
            bit=columns["bit"].astype(np.uint8),
            intensity=columns.get("intensity", blank).astype(np.uint8),
            detector=columns.get("detector", blank).astype(np.uint8),
        )


def level_count(settings: Settings) -> int:
    scheme = settings.scheme
    return len(scheme.intensities) if isinstance(scheme, DecoyBb84) else 1


def sender(exchange: Exchange, raw: RawBlock) -> Steps[Sifted]:
    settings = exchange.settings
    twin = isinstance(settings.scheme, TwinField)
    rows = _Rows.of(raw)
    heard = yield from exchange.expect(wire.Detections)
    if heard.pulses != raw.pulses:
        raise PeerMessageError(f"{heard.pulses} pulses there, {raw.pulses} here")
    if twin and len(heard.detector) != len(heard.indices):
        raise PeerMessageError("no announcement of the middle")
    own = match(heard.indices, heard.basis, rows.index, rows.basis)
    kept = own >= 0
    own = own[kept]
    basis, intensity, bit = rows.basis[own], rows.intensity[own], rows.bit[own]
    sent_z, sent_x = _sent(raw)
    if not twin and level_count(settings) == 1:
        intensity = np.zeros_like(intensity)
    exchange.send(
        wire.Sifted(
            block=exchange.block,
            kept=kept.astype(np.uint8),
            intensity=intensity if twin or level_count(settings) > 1 else intensity[:0],
            test_bits=bit[:0] if twin else bit[basis == X],
            sent_z=sent_z,
            sent_x=sent_x,
        )
    )
    tested = yield from exchange.expect(wire.Tested)
    pairs = _pairs(basis, intensity, heard.intensity[kept]) if twin else ()
    counts = _counts(settings, raw.pulses, (basis, intensity), tested.errors_x, (sent_z, sent_x))
    return _sifted(bit, basis, intensity, counts, pairs)


def receiver(exchange: Exchange, raw: RawBlock) -> Steps[Sifted]:
    settings = exchange.settings
    twin = isinstance(settings.scheme, TwinField)
    rows = _Rows.of(raw)
    exchange.send(
        wire.Detections(
            block=exchange.block,
            pulses=raw.pulses,
            indices=rows.index,
            basis=rows.basis,
            detector=rows.detector if twin else rows.detector[:0],
            intensity=rows.intensity if twin else rows.intensity[:0],
        )
    )
    answer = yield from exchange.expect(wire.Sifted)
    if len(answer.kept) != len(rows.index):
        raise PeerMessageError("a mask of another length than what was announced")
    kept = answer.kept == 1
    basis, bit = rows.basis[kept], rows.bit[kept]
    intensity = answer.intensity if len(answer.intensity) else np.zeros(len(basis), dtype=np.uint8)
    test = basis == X
    if len(intensity) != len(basis) or len(answer.test_bits) != (0 if twin else int(test.sum())):
        raise PeerMessageError("columns of another length than the mask says")
    pairs: tuple[tuple[int, ...], ...] = ()
    errors: tuple[int, ...] = ()
    if twin:
        bit = bit ^ rows.detector[kept]  # the other detector stands for opposite phases
        pairs = _pairs(basis, intensity, rows.intensity[kept])
    else:
        wrong = intensity[test][bit[test] != answer.test_bits]
        errors = _per_level(wrong, level_count(settings))
    exchange.send(wire.Tested(block=exchange.block, errors_x=errors))
    sent = (answer.sent_z, answer.sent_x)
    counts = _counts(settings, raw.pulses, (basis, intensity), errors, sent)
    return _sifted(bit, basis, intensity, counts, pairs)


def _sent(raw: RawBlock) -> tuple[tuple[int, ...], tuple[int, ...]]:
    totals = raw.totals
    return tuple(totals.get("sent_z", ())), tuple(totals.get("sent_x", ()))


def _counts(
    settings: Settings,
    pulses: int,
    sifted: tuple[Bits, Bits],
    errors_x: tuple[int, ...],
    sent: tuple[tuple[int, ...], tuple[int, ...]],
) -> Counts:
    """``sifted``: basis and intensity. Raises PeerMessageError for counts that cannot be."""
    basis, intensity = sifted
    if isinstance(settings.scheme, TwinField):
        tested = int((basis == X).sum())
        level = Level(tested_z=len(basis) - tested, tested_x=tested)
        return Counts(pulses=pulses, levels=(level,), leak=0, reconciled=False)
    count = level_count(settings)
    tested_z = _per_level(intensity[basis != X], count)
    tested_x = _per_level(intensity[basis == X], count)
    sent_z, sent_x = ((*row, *(0,) * count)[:count] for row in sent)
    if len(errors_x) != count or any(a > b for a, b in zip(errors_x, tested_x, strict=True)):
        raise PeerMessageError("more errors than there are test bits")
    return Counts(
        pulses=pulses,
        levels=tuple(
            Level(
                sent_z=sent_z[k],
                sent_x=sent_x[k],
                tested_z=tested_z[k],
                tested_x=tested_x[k],
                errors_x=errors_x[k],
            )
            for k in range(count)
        ),
        leak=0,
        reconciled=False,
    )


def _sifted(
    bit: Bits, basis: Bits, intensity: Bits, counts: Counts, pairs: tuple[tuple[int, ...], ...]
) -> Sifted:
    key = basis != X
    counts = Counts(
        pulses=counts.pulses, levels=counts.levels, leak=0, reconciled=False, pairs=pairs
    )
    levels = np.zeros_like(intensity[key]) if pairs else intensity[key]
    bits = bit[key]
    bit[...] = 0
    return Sifted(bits=bits, levels=levels, counts=counts)


def _per_level(intensity: Bits, count: int) -> tuple[int, ...]:
    found = np.bincount(intensity, minlength=count)
    if len(found) > count:
        raise PeerMessageError("an intensity that the settings do not have")
    return tuple(int(each) for each in found)


def _pairs(basis: Bits, sender: Bits, receiver: Bits) -> tuple[tuple[int, ...], ...]:
    """Test clicks by the test intensity numbers 0 to 2 of both ends (twin field)."""
    test = basis == X
    one, other = sender[test].astype(np.int64), receiver[test].astype(np.int64)
    if len(one) and max(one.max(), other.max()) > 2:
        raise PeerMessageError("a test pulse of no test intensity")
    table = np.bincount(3 * one + other, minlength=9).reshape(3, 3)
    return tuple(tuple(int(each) for each in row) for row in table)


class Guesses:
    """The receiver's Z bits, all in one part (``reconciliation.Guesses``)."""

    parts = 1

    def __init__(self, sifted: Sifted, qber: float) -> None:
        self._sifted = sifted
        self._qber = qber

    def guess(self, done: Sequence[Bits]) -> tuple[Bits, float]:  # noqa: ARG002 - the only part
        return self._sifted.bits, self._qber

    def classify(self, part: int, errors: Numbers) -> Sequence[int]:  # noqa: ARG002
        return _per_level(self._sifted.levels[errors], len(self._sifted.counts.levels))
