"""CV-QKD at both ends: symbols given away, sliced, reconciled towards the receiver.

The receiver's values become the key. It sends, one way, what the sender needs: each slice as it is
or its syndrome in a sparse code long enough for the channel that the given-away symbols showed. The
sender's questions are empty: nothing of its own values leaves it, so that the leak is what the
receiver sent. (Cascade's questions would tell the eavesdropper about the sender's values; counted
as leak as well they leave no key at any of our parameters.)
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkd_adapters.postprocessing import ldpc
from qkd_adapters.postprocessing import messages as wire
from qkd_adapters.postprocessing.errors import PeerMessageError
from qkd_adapters.postprocessing.estimate import Moments
from qkd_adapters.postprocessing.exchange import Exchange, Steps
from qkd_adapters.postprocessing.outcome import RawBlock
from qkd_adapters.postprocessing.reconciliation import Reconciled, conclude_answer, conclude_correct
from qkd_adapters.postprocessing.settings import ContinuousVariable, Detection
from qkd_adapters.postprocessing.slices import Slicer, entropy_of
from qkd_adapters.postprocessing.wire import Bits, Numbers, pack, unpack

# Codes are that much longer than the Shannon limit; found by trying at signal-to-noise ratios of
# 1 to 9 with 65,536 values: shorter ones fail in more than one block of a hundred.
_OVERHEAD, _OFFSET = 1.15, 0.03
_WHOLE = 60  # of ldpc.COLUMNS rows: sending the slice itself costs little more

Reals = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shared:
    """``values``: of this end's key symbols. ``moments``: of the given-away ones."""

    values: Reals
    moments: Moments
    slicer: Slicer | None  # None: the channel shows nothing


def sender(exchange: Exchange, raw: RawBlock, scheme: ContinuousVariable) -> Steps[Shared]:
    heard = yield from exchange.expect(wire.Revealed)
    if heard.pulses != raw.pulses or len(heard.seed) != wire.SEED_OCTETS:
        raise PeerMessageError(f"{heard.pulses} symbols there, {raw.pulses} here, or no seed")
    rows = _rows(raw, heard.indices)
    values = _quadratures(raw, scheme, rows, heard.basis)
    test = _test(heard.seed, scheme, len(rows))
    received = np.frombuffer(heard.values, dtype="<f4").astype(np.float64)
    sent = _given(values, test)
    if len(received) != len(sent) or not np.isfinite(received).all():
        raise PeerMessageError("another number of values than was to be given away")
    moments = wire.Moments(
        block=exchange.block,
        count=len(sent),
        xx=float(sent @ sent),
        xy=float(sent @ received),
        yy=float(received @ received),
    )
    exchange.send(moments)
    return _shared(scheme, moments, _kept(values, test))


def receiver(exchange: Exchange, raw: RawBlock, scheme: ContinuousVariable) -> Steps[Shared]:
    columns = raw.columns
    rows = np.arange(len(columns["index"]))
    blank = np.empty(0, dtype=np.uint8)
    homodyne = scheme.detection is Detection.HOMODYNE
    basis = columns["basis"].astype(np.uint8) if homodyne else blank
    values = _quadratures(raw, scheme, rows, basis)
    seed = exchange.rng.random_bytes(wire.SEED_OCTETS)
    test = _test(seed, scheme, len(rows))
    exchange.send(
        wire.Revealed(
            block=exchange.block,
            pulses=raw.pulses,
            indices=columns["index"].astype(np.int64),
            basis=basis,
            seed=seed,
            values=_given(values, test).astype("<f4").tobytes(),
        )
    )
    moments = yield from exchange.expect(wire.Moments)
    return _shared(scheme, moments, _kept(values, test))


def correct(exchange: Exchange, shared: Shared) -> Steps[Reconciled]:
    """The sender's end."""
    slicer = _slicer(shared)
    done: list[Bits] = []
    leak = 0
    for part in range(slicer.count):
        exchange.send(wire.Questions(block=exchange.block, part=part, body=b""))
        answers = yield from exchange.expect(wire.Answers)
        count = len(shared.values)
        if answers.part != part or not answers.body:
            raise PeerMessageError("answers about another part")
        rows = answers.body[0]
        if rows == ldpc.COLUMNS:
            bits, length = unpack(answers.body[1:], count), count
        else:
            length = _syndrome_bits(rows, count)
            wanted = unpack(answers.body[1:], length)
            likelihood = slicer.likelihood(shared.values, done)
            guess = (likelihood < 0).astype(np.uint8)
            found = ldpc.decode(likelihood, wanted)
            # Where no string was found the guess goes on: the verification hash will tell.
            bits = guess if found is None else found
        leak += length
        done.append(bits)
    return (yield from conclude_correct(exchange, done, errors=(), leak=leak, rounds=part + 1))


def answer(exchange: Exchange, shared: Shared) -> Steps[Reconciled]:
    """The receiver's end."""
    slicer = _slicer(shared)
    parts = slicer.cut(shared.values)
    leak = 0
    for part, (bits, uncertainty) in enumerate(zip(parts, slicer.uncertainties(), strict=True)):
        question = yield from exchange.expect(wire.Questions)
        if question.part != part or question.body:
            raise PeerMessageError("question about another part")
        rows = max(ldpc.WEIGHT, math.ceil(ldpc.COLUMNS * (_OVERHEAD * uncertainty + _OFFSET)))
        if rows >= _WHOLE:
            rows, sent = ldpc.COLUMNS, bits
        else:
            sent = ldpc.syndrome(bits, rows)
        leak += len(sent)
        body = bytes((rows,)) + pack(sent)
        exchange.send(wire.Answers(block=exchange.block, part=part, body=body))
    corrected = yield from exchange.expect(wire.Corrected)
    return (yield from conclude_answer(exchange, corrected, parts, leak=leak, rounds=len(parts)))


def finished(shared: Shared, reconciled: Reconciled, scheme: ContinuousVariable) -> Moments:
    """The block's moments with what its slices hold and leaked."""
    count = len(shared.values)
    parts = [reconciled.bits[part * count : (part + 1) * count] for part in range(scheme.slices)]
    return _moments(shared.moments, count, entropy_of(parts), reconciled.leak)


def hopeful(shared: Shared) -> Moments:
    """The moments as they would be if reconciliation reached the Shannon limit."""
    if shared.slicer is None:
        return shared.moments
    uncertain = sum(shared.slicer.uncertainties())
    count = len(shared.values)
    entropy = entropy_of(shared.slicer.cut(_typical(shared.slicer, count)))
    return _moments(shared.moments, count, entropy, math.floor(uncertain * count))


def _typical(slicer: Slicer, count: int) -> Reals:
    """Values evenly spread under the normal law, to take an entropy of."""
    some = min(count, 4096)
    grid = (np.arange(some) + 0.5) / some
    table = np.linspace(-6, 6, 4801)
    below = np.cumsum(np.exp(-table * table / 2))
    return np.interp(grid, below / below[-1], table) * math.sqrt(slicer.spread)


def _moments(given: Moments, quadratures: int, entropy: float, leak: int) -> Moments:
    return Moments(
        count=given.count,
        xx=given.xx,
        xy=given.xy,
        yy=given.yy,
        quadratures=quadratures,
        entropy=entropy,
        leak=leak,
    )


def _shared(scheme: ContinuousVariable, moments: wire.Moments, values: Reals) -> Shared:
    values = values[: ldpc.length(len(values))]
    given = Moments(
        count=moments.count,
        xx=moments.xx,
        xy=moments.xy,
        yy=moments.yy,
        quadratures=len(values),
        entropy=0.0,
        leak=0,
    )
    slicer = None
    if moments.count and moments.xx > 0 and moments.yy > 0 and moments.xy > 0:
        slope = moments.xy / moments.xx
        noise = (moments.yy - slope * moments.xy) / moments.count
        if noise > 0:
            slicer = Slicer(
                count=scheme.slices, slope=slope, noise=noise, spread=moments.yy / moments.count
            )
    return Shared(values=values, moments=given, slicer=slicer)


def _slicer(shared: Shared) -> Slicer:
    if shared.slicer is None:
        raise PeerMessageError("a channel that shows nothing cannot be reconciled")
    return shared.slicer


def _syndrome_bits(rows: int, count: int) -> int:
    if not ldpc.WEIGHT <= rows < ldpc.COLUMNS:
        raise PeerMessageError("no such code")
    return rows * (count // ldpc.COLUMNS)


def _rows(raw: RawBlock, indices: Numbers) -> Numbers:
    """Rows of the sender's record for the received symbols."""
    own = raw.columns["index"].astype(np.int64)
    rows = np.searchsorted(own, indices)
    if len(rows) and (rows[-1] >= len(own) or (own[rows] != indices).any()):
        raise PeerMessageError("a symbol that was never sent")
    return rows


def _quadratures(raw: RawBlock, scheme: ContinuousVariable, rows: Numbers, basis: Bits) -> Reals:
    """Symbols by quadratures (one column or two) of this end."""
    x, p = (raw.columns[name][rows].astype(np.float64) for name in ("x", "p"))
    if scheme.detection is Detection.HETERODYNE:
        return np.stack((x, p), axis=1)
    if len(basis) != len(rows):
        raise PeerMessageError("not every symbol has a basis")
    return np.where(basis == 0, x, p)[:, None]


def _test(seed: bytes, scheme: ContinuousVariable, count: int) -> NDArray[np.bool_]:
    words: NDArray[Any] = np.frombuffer(hashlib.shake_128(seed).digest(4 * count), dtype="<u4")
    return words < np.uint32(scheme.test_share * 2**32)


def _given(values: Reals, test: NDArray[np.bool_]) -> Reals:
    return values[test].ravel()


def _kept(values: Reals, test: NDArray[np.bool_]) -> Reals:
    return values[~test].ravel()
